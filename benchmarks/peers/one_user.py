"""One user with one connection: an event from dict to wire, again and again.

Option ``emit`` or ``send_json``, both on uvicorn with wsmanager's protocol
class. For each order the events go out one per turn of the loop, then the
loop turns as often with nothing to do. Standard output gets a line with the
CPU nanoseconds of the process for the first and for the second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from .ours import configured, emitter
from .stage import Events, Stage, serve_asgi

manager = configured()
events = Events()
sockets: list[WebSocket] = []


async def endpoint(websocket: WebSocket) -> None:
    """Keep the one connection."""
    await websocket.accept()
    manager.add_connection(websocket)
    sockets.append(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.remove_connection(websocket)


async def by_send_json(count: int, size: int) -> None:
    """Send with Starlette, one event per turn."""
    websocket = sockets[0]
    for _ in range(count):
        await websocket.send_json(events(size))
        await asyncio.sleep(0)


emit = emitter(manager)


async def by_emit(count: int, size: int) -> None:
    """Emit with wsmanager, one event per turn."""
    for _ in range(count):
        emit(size)
        await asyncio.sleep(0)


async def by_nothing(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


class Rehearsal(Stage):
    """A stage that takes the burst of an order as one job and times it."""

    def perform(self, emit: Callable[..., Any]) -> None:
        asyncio.get_running_loop().add_reader(self._go, self._obey_timed, emit)

    def _obey_timed(self, job: Callable[..., Any]) -> None:
        count, size = self._order()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._go)  # one job at a time

        async def timed() -> None:
            start = time.process_time_ns()
            await job(count, size)
            middle = time.process_time_ns()
            await by_nothing(count)
            end = time.process_time_ns()
            print(middle - start, end - middle, flush=True)
            loop.add_reader(self._go, self._obey_timed, job)

        task = loop.create_task(timed())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


if __name__ == "__main__":
    job = by_emit if sys.argv[1] == "emit" else by_send_json
    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)])
    serve_asgi(app, job, ws="wsmanager.uvicorn:WebSocketProtocol", stage=Rehearsal)
