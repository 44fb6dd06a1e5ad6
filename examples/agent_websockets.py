"""The agent behind the ``websockets`` library: ``python agent_websockets.py [port]``.

A tab connects to ``/ws/<user>`` and sends ``run``; every tab of that user gets
the five events. In a real application the user's id comes from your log-in.
"""

from __future__ import annotations

import asyncio
import sys

from agent import run_agent
from websockets.asyncio.server import ServerConnection, serve

from wsmanager import get_websocket_manager


async def events(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    user_id = websocket.request.path.rpartition("/")[2]
    manager = get_websocket_manager(user_id)
    connection_id = manager.add_connection(websocket)
    try:
        async for message in websocket:
            if message == "run":
                await asyncio.to_thread(run_agent, user_id)
    finally:
        manager.remove_connection(connection_id)


async def main(port: int) -> None:
    async with serve(events, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
