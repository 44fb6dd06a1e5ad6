"""The next message of a client, whatever library reads it."""

from __future__ import annotations

import inspect
from typing import Any

from .._wsmanager import classify

__all__ = ["kind_of", "payload_of", "receive_message"]


def kind_of(websocket: Any) -> str:
    """How *websocket* is read: ``"asgi"``, ``"aiohttp"`` or ``"recv"``.

    :raises TypeError: for an object that has none of their methods.
    """
    if inspect.iscoroutinefunction(getattr(websocket, "recv", None)):
        return "recv"
    if inspect.iscoroutinefunction(getattr(websocket, "receive", None)):
        return "aiohttp" if hasattr(websocket, "send_str") else "asgi"
    raise TypeError(
        f"{type(websocket).__name__} cannot be read here: a WebSocket of Starlette, FastAPI, "
        "websockets (asyncio) or aiohttp, or an AsgiWebSocket is expected"
    )


def payload_of(kind: str, message: Any) -> str | bytes | None:
    """The text or bytes of what a ``receive`` gave; ``None``: it is no data, but the end."""
    if kind == "recv":
        found = message
    elif kind == "aiohttp":
        found = message.data
    else:
        if message["type"] != "websocket.receive":
            return None
        text = message.get("text")
        found = message.get("bytes") if text is None else text
    return found if isinstance(found, (str, bytes)) else None


async def receive_message(websocket: Any) -> str | bytes | None:
    """Its next message; ``None`` once the client has gone."""
    kind = kind_of(websocket)
    try:
        message = await (websocket.recv() if kind == "recv" else websocket.receive())
    except Exception as error:
        if classify(error) != "gone":
            raise
        return None
    return payload_of(kind, message)
