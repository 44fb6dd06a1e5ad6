"""aiohttp's server: a loop of ``await ws.send_str(text)``, encoded once."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .stage import Events, Stage, listener, text

CONNECTIONS: set[web.WebSocketResponse] = set()


async def handler(request: web.Request) -> web.WebSocketResponse:
    """Register the connection until it closes."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    CONNECTIONS.add(ws)
    try:
        async for _ in ws:
            pass
    finally:
        CONNECTIONS.discard(ws)
    return ws


async def main() -> None:
    """Serve until the arena ends."""
    events = Events()

    async def emit(size: int) -> None:
        message = text(events(size))
        for ws in set(CONNECTIONS):
            await ws.send_str(message)

    app = web.Application()
    app.router.add_get("/ws", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock = listener()
    await web.SockSite(runner, sock).start()
    stage = Stage()
    stage.perform(emit)
    stage.announce(sock.getsockname()[1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
