"""python-socketio: ``await sio.emit(event, data, room=user)`` on uvicorn's default."""

from __future__ import annotations

from typing import Any

import socketio

from .stage import Events, serve_asgi

sio = socketio.AsyncServer(async_mode="asgi", ping_interval=3600)
app = socketio.ASGIApp(sio)
events = Events()


async def connect(sid: str, environ: dict[str, Any]) -> None:
    """Put every connection into the user's room."""
    await sio.enter_room(sid, "u1")


sio.on("connect", connect)


async def emit(size: int) -> None:
    """Send one event to the room."""
    await sio.emit("agent_thinking", events(size), room="u1")


if __name__ == "__main__":
    serve_asgi(app, emit)
