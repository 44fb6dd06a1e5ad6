"""Objects that carry the scope of their ASGI connection: Litestar, Quart, Django Channels.

A server that offers the direct channel puts it into the scope's extensions,
as :class:`wsmanager.uvicorn.WebSocketProtocol` does. It belongs to the
connection, not to the library, so any object with the scope leads to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from .._wsmanager import Channel
from .other import closing

__all__ = ["EXTENSION", "TYPES", "channel", "closing", "transport"]

EXTENSION: Final = "wsmanager.channel"
"""The key of the channel in ``scope["extensions"]``."""

TYPES: Final = (
    ("litestar.connection.websocket", "WebSocket"),
    ("quart.wrappers.websocket", "Websocket"),
    ("channels.consumer", "AsyncConsumer"),
)


def channel(websocket: Any) -> Channel | None:
    """The channel the server put into the scope, if it did."""
    scope = getattr(websocket, "scope", None)
    if not isinstance(scope, Mapping):
        return None
    extensions = scope.get("extensions")
    if not isinstance(extensions, Mapping):
        return None
    found = extensions.get(EXTENSION)
    return found if isinstance(found, Channel) else None


def transport(websocket: Any) -> asyncio.Transport | None:
    """The channel's transport; without a channel the scope does not lead to one."""
    found = channel(websocket)
    return None if found is None else found.transport
