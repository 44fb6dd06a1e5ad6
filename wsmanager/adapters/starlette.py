"""Starlette and FastAPI."""

from __future__ import annotations

from typing import Any, Final

from .asgi import channel, transport

__all__ = ["TYPES", "channel", "closing", "transport"]

TYPES: Final = (("starlette.websockets", "WebSocket"),)


def closing(websocket: Any, code: int, reason: str) -> Any:
    """Its close, unless one of both sides has closed already: a second close is an error there."""
    states = (websocket.client_state, websocket.application_state)
    if any(state.name == "DISCONNECTED" for state in states):
        return None
    return websocket.close(code=code, reason=reason)
