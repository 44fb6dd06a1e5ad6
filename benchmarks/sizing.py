"""What a connection costs a whole server, and what the journal costs: ``python -m benchmarks.sizing``.

The figures of ``docs/sizing.rst``. A server, uvicorn with this package's
protocol, runs in a process of its own; its resident memory is read with 100 and
with 500 connections of the ``websockets`` library, and the difference of the
two is what 400 connections cost. "Busy" means that each connection has sent and
got one message of 2 KiB: the compressor of permessage-deflate takes its memory
when it is first used.

The journal is filled in a process of its own too: its own account of its bytes,
and the growth of resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect

import wsmanager

from . import machine

FEW, MANY = 100, 500
MESSAGE = "x" * 2048
USERS, EVENTS = 1000, 100


def resident(pid: int) -> int:
    """Resident memory of a process, bytes."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")


def serve(listener: socket.socket, deflate: bool) -> None:
    """The server: each connection is registered, and hears every message of its own."""
    app = FastAPI()

    @app.websocket("/{user_id}")
    async def events(websocket: WebSocket, user_id: str) -> None:
        await websocket.accept()
        manager = wsmanager.get_websocket_manager(user_id)
        manager.add_connection(websocket)
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    config = uvicorn.Config(
        app,
        ws="wsmanager.uvicorn:WebSocketProtocol",
        ws_per_message_deflate=deflate,
        ws_ping_interval=None,
        log_level="error",
    )
    uvicorn.Server(config).run([listener])


@contextlib.asynccontextmanager
async def clients(port: int, count: int, deflate: bool) -> AsyncIterator[list[Any]]:
    """So many connections, each of a user of its own; all closed at the end."""
    compression = "deflate" if deflate else None
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for user in range(count):
            url = f"ws://127.0.0.1:{port}/user-{user}"
            way = connect(url, compression=compression, ping_interval=None, proxy=None)
            opened.append(await stack.enter_async_context(way))
        yield opened


async def _reading(port: int, pid: int, count: int, deflate: bool, busy: bool) -> int:
    async with clients(port, count, deflate) as opened:
        for one in opened:
            if busy:
                await one.send(MESSAGE)
                await one.recv()
            else:
                await (await one.ping())  # so that the handler has come as far as it goes
        return resident(pid)


def per_connection(deflate: bool, busy: bool) -> float:
    """Bytes of the whole server for one connection; a server for each reading."""
    readings = []
    for count in (FEW, MANY):
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        server = _fresh().Process(target=serve, args=(listener, deflate), daemon=True)
        server.start()
        try:
            port, pid = listener.getsockname()[1], server.pid
            assert pid is not None
            readings.append(asyncio.run(_reading(port, pid, count, deflate, busy)))
        finally:
            server.kill()
            server.join()
            listener.close()
    return (readings[1] - readings[0]) / (MANY - FEW)


def fill_journal(result: Connection) -> None:
    """Events of 200 bytes to users without a connection."""
    wsmanager.configure(journal_budget=1 << 30)
    data = {"text": "x" * 60}
    managers = [wsmanager.get_websocket_manager(f"user-{number}") for number in range(USERS)]
    before = resident(os.getpid())
    for _ in range(EVENTS):
        for manager in managers:
            manager.emit_event("line", data)
    grown = resident(os.getpid()) - before
    status = wsmanager.get_manager_registry_status()
    result.send((grown / (USERS * EVENTS), status["journal_bytes"] / (USERS * EVENTS)))


def per_journal_event() -> tuple[float, float]:
    """Resident bytes of one event kept, and what the journal accounts for it."""
    here, there = multiprocessing.Pipe()
    child = _fresh().Process(target=fill_journal, args=(there,))
    child.start()
    figures: tuple[float, float] = here.recv()
    child.join()
    return figures


def _fresh() -> multiprocessing.context.SpawnContext:
    return multiprocessing.get_context("spawn")


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print."""
    argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__).parse_args(
        arguments
    )
    start = time.monotonic()
    print("\n".join(machine.describe()), "\n", sep="")
    for deflate in (False, True):
        for busy in (False, True):
            name = f"permessage-deflate {'on' if deflate else 'off'}, {'busy' if busy else 'idle'}"
            print(f"{name:<40}{per_connection(deflate, busy):>10,.0f} B a connection", flush=True)
    grown, accounted = per_journal_event()
    print(f"{'one event of 200 B in the journal':<40}{grown:>10,.0f} B resident")
    print(f"{'the same, as the journal counts it':<40}{accounted:>10,.0f} B")
    print(f"\n{time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
