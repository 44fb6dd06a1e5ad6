"""wsmanager on websockets' own server."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, serve

from .ours import configured, emitter
from .stage import Stage

manager = configured()


async def handler(connection: ServerConnection) -> None:
    """Register the connection until it closes."""
    connection_id = manager.add_connection(connection)
    try:
        await connection.wait_closed()
    finally:
        manager.remove_connection(connection_id)


async def main() -> None:
    """Serve until the arena ends."""
    async with serve(handler, "127.0.0.1", 0) as server:
        stage = Stage()
        stage.perform(emitter(manager))
        stage.announce(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
