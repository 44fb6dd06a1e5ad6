"""Versions of distributions, as far as they are compared here."""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["installed", "numbers"]


def installed(name: str) -> str | None:
    """The version of the distribution *name*, ``None`` if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The release part of a version: ``"0.52.1rc2"`` is ``(0, 52, 1)``; empty for what has none."""
    found = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()
