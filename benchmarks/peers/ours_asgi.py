"""wsmanager under uvicorn, in a Starlette app.

The option is uvicorn's ``--ws``: ``wsmanager.uvicorn:WebSocketProtocol`` gives
the direct channel, ``auto`` the generic one.
"""

from __future__ import annotations

import sys

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from .ours import configured, emitter
from .stage import serve_asgi

manager = configured()


async def endpoint(websocket: WebSocket) -> None:
    """Register the connection until it closes."""
    await websocket.accept()
    connection_id = manager.add_connection(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.remove_connection(connection_id)


if __name__ == "__main__":
    serve_asgi(
        Starlette(routes=[WebSocketRoute("/ws", endpoint)]), emitter(manager), ws=sys.argv[1]
    )
