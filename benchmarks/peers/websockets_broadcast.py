"""``websockets.broadcast(connections, message)`` on websockets' own server."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, broadcast, serve

from .stage import Events, Stage, text

CONNECTIONS: set[ServerConnection] = set()


async def handler(connection: ServerConnection) -> None:
    """Register the connection until it closes."""
    CONNECTIONS.add(connection)
    try:
        await connection.wait_closed()
    finally:
        CONNECTIONS.remove(connection)


async def main() -> None:
    """Serve until the arena ends."""
    events = Events()

    def emit(size: int) -> None:
        broadcast(CONNECTIONS, text(events(size)))

    async with serve(handler, "127.0.0.1", 0) as server:
        stage = Stage()
        stage.perform(emit)
        stage.announce(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
