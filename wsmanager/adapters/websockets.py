"""The ``websockets`` library: its asyncio server, and its threaded one, which has no transport."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final

from .._wsmanager import Channel
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
    busy = next((name for name in _BUSY if hasattr(websocket, name)), None)
    state = getattr(getattr(websocket, "protocol", None), "state", None)
    if found is None or busy is None or getattr(state, "name", None) != "OPEN":
        return None
    try:
        return Channel(found, ready=_ready(websocket, busy, state))
    except (TypeError, ValueError):
        return None


def _ready(websocket: Any, busy: str, opened: Any) -> Callable[[], bool]:
    """Whether a frame may be written now: open, and not inside a fragmented message."""
    protocol = websocket.protocol

    def ready() -> bool:
        return protocol.state is opened and getattr(websocket, busy) is None

    return ready


def transport(websocket: Any) -> asyncio.Transport | None:
    """Its asyncio transport."""
    return as_transport(getattr(websocket, "transport", None))


def closing(websocket: Any, code: int, reason: str) -> Any:
    """Its close; the threaded one blocks until the peer has answered, so not in the loop's thread."""
    if inspect.iscoroutinefunction(websocket.close):
        return websocket.close(code, reason)
    return asyncio.to_thread(websocket.close, code, reason)
