"""Whether the core under test was built with sanitizers, and what they rule out."""

from __future__ import annotations

import os

import pytest

SANITIZED = bool(os.environ.get("WSMANAGER_SANITIZE"))

in_plain_memory = pytest.mark.skipif(
    SANITIZED,
    reason="a sanitizer keeps freed memory back, so memory cannot be measured under it",
)
"""For tests that measure memory."""
