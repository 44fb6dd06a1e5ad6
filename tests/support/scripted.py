"""A WebSocket server that does what a test tells it, frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class Visit:
    """One connection of a client, as the server sees it."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        assert connection.request is not None
        self.path = connection.request.path
        self.received: list[Any] = []

    @property
    def resume(self) -> str | None:
        values = parse_qs(urlsplit(self.path).query, keep_blank_values=True).get("resume")
        return values[0] if values else None

    async def send(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.connection.send(json.dumps(message))

    async def resumed(self, position: str, recovered: bool = False, replayed: int = 0) -> None:
        payload = {
            "recovered": recovered, "replayed": replayed, "position": position,
            "reason": None if recovered else "unknown epoch",
        }  # fmt: skip
        await self.send({"type": "resumed", "payload": payload})

    async def events(self, epoch: str, *numbers: int, **fields: Any) -> None:
        for n in numbers:
            event = {"type": "x", "payload": {"n": n}, "id": f"{epoch}:{n}", **fields}
            await self.send(event)

    async def close(self, code: int = 1012, reason: str = "") -> None:
        await self.connection.close(code, reason)


class ScriptedServer:
    """``await visit()`` is the next client that has connected."""

    def __init__(self) -> None:
        self.visits: asyncio.Queue[Visit] = asyncio.Queue()
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def visit(self, timeout: float = 15.0) -> Visit:
        return await asyncio.wait_for(self.visits.get(), timeout)

    async def handle(self, connection: ServerConnection) -> None:
        visit = Visit(connection)
        self.visits.put_nowait(visit)
        try:
            async for text in connection:
                visit.received.append(json.loads(text))
        except ConnectionClosed:
            pass


@asynccontextmanager
async def scripted_server(**options: Any) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    async with serve(scripted.handle, "127.0.0.1", 0, **options) as server:
        scripted.port = next(iter(server.sockets)).getsockname()[1]
        yield scripted


class Relay:
    """A TCP relay in front of a port whose links can go silent: half-open ones."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.links: list[Link] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        link = Link((writer, far_writer))
        self.links.append(link)
        await asyncio.gather(link.pump(reader, far_writer), link.pump(far_reader, writer))

    def go_silent(self) -> None:
        """From now on nothing passes the links there are, either way, nor is any closed."""
        for link in self.links:
            link.silent = True

    def cut(self) -> None:
        """Reset every link."""
        for link in self.links:
            for writer in link.ends:
                writer.transport.abort()
        self.links.clear()


class Link:
    """One connection through a relay."""

    def __init__(self, ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.ends = ends
        self.silent = False

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                if not self.silent:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # reset: the end, like the other
        if not self.silent:
            writer.close()


@asynccontextmanager
async def relay(target: int) -> AsyncIterator[Relay]:
    middle = Relay(target)
    server = await asyncio.start_server(middle.handle, "127.0.0.1", 0)
    middle.port = server.sockets[0].getsockname()[1]
    try:
        yield middle
    finally:
        server.close()
        middle.cut()
        await asyncio.sleep(0)
