"""aiohttp's server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from .._wsmanager import Channel
from ._transport import as_transport

__all__ = ["TYPES", "channel", "closing", "transport"]

TYPES: Final = (("aiohttp.web_ws", "WebSocketResponse"),)


def channel(websocket: Any) -> Channel | None:
    """The direct way to its transport; ``None`` for TLS, or if a part is not where it is known to be."""
    found = transport(websocket)
    writer = getattr(websocket, "_writer", None)
    if found is None or websocket.closed or not isinstance(getattr(writer, "_closing", None), bool):
        return None
    try:
        return Channel(found, ready=_ready(websocket, writer))
    except (TypeError, ValueError):
        return None


def _ready(websocket: Any, writer: Any) -> Callable[[], bool]:
    """Whether a frame may be written now; aiohttp writes each message in one frame at one time."""

    def ready() -> bool:
        return not (writer._closing or websocket.closed)

    return ready


def transport(websocket: Any) -> asyncio.Transport | None:
    """The transport of its writer, which it has from ``prepare()`` on."""
    return as_transport(getattr(getattr(websocket, "_writer", None), "transport", None))


def closing(websocket: Any, code: int, reason: str) -> Any:
    """aiohttp names the reason ``message``, and takes it as bytes."""
    return websocket.close(code=code, message=reason.encode())
