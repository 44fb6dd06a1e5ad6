"""The agent behind aiohttp: ``python agent_aiohttp.py [port]``.

A tab connects to ``/ws/<user>`` and sends ``run``; every tab of that user gets
the five events. In a real application the user's id comes from your log-in.
"""

from __future__ import annotations

import asyncio
import sys

from agent import run_agent
from aiohttp import WSMsgType, web

from wsmanager import get_websocket_manager


async def events(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    user_id = request.match_info["user_id"]
    manager = get_websocket_manager(user_id)
    connection_id = manager.add_connection(websocket)
    try:
        async for message in websocket:
            if message.type == WSMsgType.TEXT and message.data == "run":
                await asyncio.to_thread(run_agent, user_id)
    finally:
        manager.remove_connection(connection_id)
    return websocket


app = web.Application()
app.router.add_get("/ws/{user_id}", events)

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    web.run_app(app, host="127.0.0.1", port=port)
