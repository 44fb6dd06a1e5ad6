"""The child's side of the arena: the go pipe, the events and the servers' start.

A peer makes an *emitter*, a function that takes a size and sends one event of
it to every connected client, and hands it to a :class:`Stage`. An order in
the go pipe asks for a burst of events in one turn of the loop. An emitter
that is a coroutine function is awaited in one task per order, event by event.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

_ORDER = struct.Struct("=II")
_EPOCH = "0123456789abcdef"


class Events:
    """Numbered events whose JSON, as ``json.dumps`` writes it compactly, has the size asked for."""

    def __init__(self) -> None:
        self._number = 0
        self._padding: dict[int, str] = {}

    def __call__(self, size: int) -> dict[str, Any]:
        self._number += 1
        padding = self._padding.get(size)
        if padding is None:
            bare = len(text(self._event("")))
            padding = self._padding[size] = "x" * max(0, size - bare)
        return self._event(padding)

    def _event(self, padding: str) -> dict[str, Any]:
        return {
            "id": f"{_EPOCH}:{self._number}",
            "type": "agent_thinking",
            "payload": {"text": padding},
            "user_id": "u1",
            "thread_id": None,
            "run_id": None,
            "timestamp": "2026-11-21T10:00:00.123456+00:00",
        }


def text(event: dict[str, Any]) -> str:
    """Return the event's JSON, compact as Starlette's ``send_json`` writes it."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


class Stage:
    """The pipes of this child. Made in the running loop."""

    def __init__(self) -> None:
        *_, connections, ready, go = sys.argv
        self.connections = int(connections)
        self._ready = int(ready)
        self._go = int(go)
        self._tasks: set[asyncio.Task[None]] = set()

    def perform(self, emit: Callable[..., Any]) -> None:
        """Call *emit* with the size, burst times for each order that comes, within one turn."""
        loop = asyncio.get_running_loop()
        if inspect.iscoroutinefunction(emit):
            loop.add_reader(self._go, self._obey_in_task, emit)
        else:
            loop.add_reader(self._go, self._obey, emit)

    def announce(self, port: int) -> None:
        """Say that clients may connect."""
        os.write(self._ready, b"%d\n" % port)
        os.close(self._ready)

    def _order(self) -> tuple[int, int]:
        record = os.read(self._go, _ORDER.size)
        if not record:  # the other side is gone
            os._exit(0)
        return _ORDER.unpack(record)

    def _obey(self, emit: Callable[[int], object]) -> None:
        burst, size = self._order()
        for _ in range(burst):
            emit(size)

    def _obey_in_task(self, emit: Callable[[int], Awaitable[object]]) -> None:
        burst, size = self._order()

        async def burst_of_events() -> None:
            for _ in range(burst):
                await emit(size)

        task = asyncio.get_running_loop().create_task(burst_of_events())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def listener() -> socket.socket:
    """Return a socket that listens on a free port of 127.0.0.1."""
    # The protocol is named because asyncio sets TCP_NODELAY only where it is.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def serve_asgi(
    app: Any, emit: Callable[..., Any], *, ws: str = "auto", stage: type[Stage] = Stage
) -> None:
    """Run *app* under uvicorn with its defaults, but for *ws*, and perform *emit* in its loop."""
    import uvicorn

    config = uvicorn.Config(
        app, ws=ws, loop="asyncio", lifespan="off", log_level="warning", access_log=False
    )

    async def main() -> None:
        sock = listener()
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            if task.done():
                await task
                return
            await asyncio.sleep(0.01)
        actor = stage()
        actor.perform(emit)
        actor.announce(sock.getsockname()[1])
        await task

    asyncio.run(main())
