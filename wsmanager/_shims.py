"""How a file that ``wsmanager shim`` wrote is known."""

from __future__ import annotations

from typing import Final

__all__ = ["HEADER", "is_shim"]

HEADER: Final = "# Written by `wsmanager shim`."
"""What the first line of each begins with; it never changes."""


def is_shim(data: bytes) -> bool:
    """Whether a file with these bytes is one."""
    return data.startswith(HEADER.encode())
