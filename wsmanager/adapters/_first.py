"""What is emitted to a socket leaves before what its own library writes next."""

from __future__ import annotations

from typing import Any, Final

from .. import _wsmanager

__all__ = ["First"]

_core: Final[Any] = _wsmanager  # with what is not for users


class First:
    """Writes what a WebSocket has waiting, just before its library writes.

    The library's closing shows in its object's state before the close frame is
    written, so *flushing* tells ``ready`` that the direct way is still open.
    """

    __slots__ = ("flushing",)

    def __init__(self) -> None:
        self.flushing = False

    def flush(self, websocket: Any, *, whole: bool) -> None:
        """Called on the thread of the socket's loop, between two frames of it; *whole*: not before a close frame."""
        self.flushing = True
        try:
            _core._flush(websocket, whole)
        finally:
            self.flushing = False
