"""Telling a transport from something else."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_METHODS: Final = ("abort", "get_extra_info", "get_write_buffer_size", "is_closing", "write")


def as_transport(found: Any) -> asyncio.Transport | None:
    """*found* if it has a transport's methods; uvloop's are of no class of asyncio's."""
    if found is None or not all(callable(getattr(found, name, None)) for name in _METHODS):
        return None
    transport: asyncio.Transport = found
    return transport
