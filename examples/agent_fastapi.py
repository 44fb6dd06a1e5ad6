"""The agent behind FastAPI: a tab sends ``run``, every tab of its user gets the five events.

``uvicorn agent_fastapi:app``, or, for the direct way to the sockets,
``uvicorn --ws wsmanager.uvicorn:WebSocketProtocol agent_fastapi:app``. In a real
application the user's id comes from your log-in, not from the URL.
"""

from __future__ import annotations

import asyncio

from agent import run_agent
from fastapi import FastAPI, WebSocket

from wsmanager import get_websocket_manager

app = FastAPI()


@app.websocket("/ws/{user_id}")
async def events(websocket: WebSocket, user_id: str) -> None:
    await websocket.accept()
    manager = get_websocket_manager(user_id)
    connection_id = manager.add_connection(websocket)
    try:
        async for text in websocket.iter_text():
            if text == "run":
                await asyncio.to_thread(run_agent, user_id)
    finally:
        manager.remove_connection(connection_id)
