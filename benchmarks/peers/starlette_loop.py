"""Starlette on uvicorn: a loop of ``await websocket.send_text(text)``, encoded once.

Options ``auto`` (uvicorn's default), ``websockets`` or ``wsproto``: the
WebSocket implementation of uvicorn.
"""

from __future__ import annotations

import sys

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from .stage import Events, serve_asgi, text

CONNECTIONS: list[WebSocket] = []


async def endpoint(websocket: WebSocket) -> None:
    """Register the connection until it closes."""
    await websocket.accept()
    CONNECTIONS.append(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        CONNECTIONS.remove(websocket)


events = Events()


async def emit(size: int) -> None:
    """Send one event to everyone."""
    message = text(events(size))
    for websocket in CONNECTIONS:
        await websocket.send_text(message)


if __name__ == "__main__":
    serve_asgi(Starlette(routes=[WebSocketRoute("/ws", endpoint)]), emit, ws=sys.argv[1])
