"""The ``websockets`` library: its asyncio server, and its threaded one, which has no transport."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final
from weakref import ref

from .._wsmanager import Channel
from ._first import First
from ._transport import as_transport

__all__ = ["TYPES", "channel", "closing", "transport"]

TYPES: Final = (
    ("websockets.asyncio.server", "ServerConnection"),
    ("websockets.sync.server", "ServerConnection"),
)

_BUSY: Final = ("send_in_progress", "fragmented_send_waiter")
"""What says that a fragmented message is under way; the second is its name before version 16."""


def channel(websocket: Any) -> Channel | None:
    """The direct way to its transport; ``None`` for TLS, or if a part is not where it is known to be."""
    found = transport(websocket)
    protocol = getattr(websocket, "protocol", None)
    busy = next((name for name in _BUSY if hasattr(websocket, name)), None)
    state = getattr(protocol, "state", None)
    if found is None or busy is None or getattr(state, "name", None) != "OPEN":
        return None
    if not all(hasattr(protocol, name) for name in ("close_rcvd", "expect_continuation_frame")):
        return None
    try:
        return Channel(found, ready=_ready(websocket, busy, state, _writing(websocket, state)))
    except (TypeError, ValueError):
        return None


class _Writing(First):
    """In place of the object's ``send_data()``, by which it writes all that it does: the emits before it first.

    Not after its close frame, nor the peer's, nor between the fragments of a
    message: a text frame may stand in neither place.
    """

    __slots__ = ("_before", "_free", "_opened", "_websocket")

    def __init__(self, websocket: Any, opened: Any) -> None:
        super().__init__()
        self._websocket = ref(websocket)
        self._before = vars(websocket).get("send_data")
        self._opened = opened
        self._free = not websocket.protocol.expect_continuation_frame

    def __call__(self) -> None:
        websocket = self._websocket()
        if websocket is None:
            return
        protocol = websocket.protocol
        if self._free and protocol.close_rcvd is None:
            self.flush(websocket, whole=protocol.state is self._opened)
        try:
            if self._before is None:
                type(websocket).send_data(websocket)
            else:
                self._before()
        finally:
            self._free = protocol.state is self._opened and not protocol.expect_continuation_frame


def _writing(websocket: Any, opened: Any) -> First:
    found = vars(websocket).get("send_data")
    if not isinstance(found, _Writing):
        found = websocket.send_data = _Writing(websocket, opened)
    return found


def _ready(websocket: Any, busy: str, opened: Any, first: First) -> Callable[[], bool]:
    """Whether a frame may be written now: open, and not inside a fragmented message."""
    protocol = websocket.protocol

    def ready() -> bool:
        if protocol.state is opened and getattr(websocket, busy) is None:
            return True
        return first.flushing

    return ready


def transport(websocket: Any) -> asyncio.Transport | None:
    """Its asyncio transport."""
    return as_transport(getattr(websocket, "transport", None))


def closing(websocket: Any, code: int, reason: str) -> Any:
    """Its close; the threaded one blocks until the peer has answered, so not in the loop's thread."""
    if inspect.iscoroutinefunction(websocket.close):
        return websocket.close(code, reason)
    return asyncio.to_thread(websocket.close, code, reason)
