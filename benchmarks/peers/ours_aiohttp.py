"""wsmanager on aiohttp's server."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .ours import configured, emitter
from .stage import Stage, listener

manager = configured()


async def handler(request: web.Request) -> web.WebSocketResponse:
    """Register the connection until it closes."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    connection_id = manager.add_connection(ws)
    try:
        async for _ in ws:
            pass
    finally:
        manager.remove_connection(connection_id)
    return ws


async def main() -> None:
    """Serve until the arena ends."""
    app = web.Application()
    app.router.add_get("/ws", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock = listener()
    await web.SockSite(runner, sock).start()
    stage = Stage()
    stage.perform(emitter(manager))
    stage.announce(sock.getsockname()[1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
