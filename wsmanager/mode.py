"""The ``mode`` argument of the factories: kept for old calls, without effect."""

from __future__ import annotations

import enum

__all__ = ["WebSocketManagerMode"]


class WebSocketManagerMode(str, enum.Enum):
    """How a manager works. There is one way: :attr:`UNIFIED`.

    The other members are the names older code passes. They are accepted, and
    a manager asked for with one of them is the same manager, with the same
    behaviour and ``manager.mode is WebSocketManagerMode.UNIFIED``. New code
    leaves the argument out. A member is a ``str``, so that the statistics it is
    in can be written as JSON by any encoder.
    """

    UNIFIED = "unified"
    ISOLATED = "isolated"
    EMERGENCY = "emergency"
    DEGRADED = "degraded"

    def __format__(self, spec: str) -> str:
        """As ``str()`` gives it, which CPython 3.10 would not."""
        return format(str(self), spec)
