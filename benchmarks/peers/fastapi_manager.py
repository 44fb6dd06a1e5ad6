"""The ConnectionManager of FastAPI's documentation, with ``send_json``, on uvicorn's default."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from .stage import Events, serve_asgi


class ConnectionManager:
    """As in the chapter "WebSockets" of the FastAPI tutorial, but the events are JSON."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: dict[str, Any]) -> None:
        for connection in self.active_connections:
            await connection.send_json(message)


app = FastAPI()
manager = ConnectionManager()
events = Events()


@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    """Register the connection until it closes."""
    await manager.connect(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.disconnect(websocket)


async def emit(size: int) -> None:
    """Send one event to everyone."""
    await manager.broadcast(events(size))


if __name__ == "__main__":
    serve_asgi(app, emit)
