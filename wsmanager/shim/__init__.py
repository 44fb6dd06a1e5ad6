"""Keeps legacy import paths alive while a code base moves to wsmanager: ``wsmanager shim``.

It writes modules at the old paths that hold the same objects as :mod:`wsmanager`,
and tell once that they are old. ``wsmanager audit`` says when one can go (WSM011).
"""

from __future__ import annotations

from .plan import MODULES, File, Plan, make_plan, write

__all__ = ["MODULES", "File", "Plan", "make_plan", "write"]
