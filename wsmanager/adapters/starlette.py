"""Starlette and FastAPI."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from .asgi import channel, transport

__all__ = ["TYPES", "channel", "closing", "transport"]

TYPES: Final = (("starlette.websockets", "WebSocket"),)


def closing(websocket: Any, code: int, reason: str) -> Any:
    """Close it, unless one of both sides has closed already: a second close is an error there."""
    states = (websocket.client_state, websocket.application_state)
    if _is_left(websocket) or any(state.name == "DISCONNECTED" for state in states):
        return None
    accepted = websocket.application_state.name == "CONNECTED"
    if accepted and callable(getattr(websocket, "_send", None)):
        return _leave(websocket, code, reason)
    return websocket.close(code=code, reason=reason)


async def _leave(websocket: Any, code: int, reason: str) -> None:
    """Close it by the send below it, so that its handler sees what it sees when a client leaves.

    After its own close() whatever the handler asks of it next is a RuntimeError,
    since only the handler is thought to close. This way it reads the disconnect,
    and what it sends is a WebSocketDisconnect.
    """
    send = websocket._send
    websocket._send = _left
    with suppress(AttributeError):  # of a class that has such a property
        websocket.closed = True  # its states do not say so before the handler reads
    await send({"type": "websocket.close", "code": code, "reason": reason})


async def _left(message: Any) -> None:
    """The send of one that is closed: a second close is none, as it is too late for anything else."""
    if message["type"] != "websocket.close":
        raise ConnectionError("the WebSocket has been closed")


def _is_left(websocket: Any) -> bool:
    return getattr(websocket, "_send", None) is _left
