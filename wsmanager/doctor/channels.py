"""Which channel each server library gives: tried, on small servers on 127.0.0.1."""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from importlib import util
from typing import Any, Final, NamedTuple

from .._log import error_name, one_line
from .._wsmanager import get_websocket_manager
from ..adapters.asgi import EXTENSION
from .finding import Finding

__all__ = ["check"]

TIMEOUT: Final = 10.0
"""Seconds one server may take."""

_OURS: Final = "wsmanager.uvicorn:WebSocketProtocol"


class Probe(NamedTuple):
    """A server to be tried: *expected* is the channel that it is known to give."""

    id: str
    title: str
    modules: tuple[str, ...]
    try_it: Callable[[], Awaitable[str]]
    expected: str
    remedy: str


def check() -> Iterator[Finding]:
    """What each library that is installed gives."""
    for probe in PROBES:
        if all(util.find_spec(module) is not None for module in probe.modules):
            yield _judge(probe, _in_a_thread(probe.try_it))


def _judge(probe: Probe, outcome: str | BaseException) -> Finding:
    id = f"channel-{probe.id}"
    if isinstance(outcome, BaseException):
        why = one_line(f"{error_name(outcome)}: {outcome}", 300)
        return Finding(
            id, "warning", f"{probe.title} could not be tried: {why}", details={"error": why}
        )
    details = {"channel": outcome, "expected": probe.expected}
    if outcome == "direct":
        text = f"{probe.title} gives the direct channel: frames go to the socket from C"
        return Finding(id, "info", text, details=details)
    text = f"{probe.title} gives the generic channel: events go by the library's own send"
    if outcome == probe.expected:
        return Finding(id, "info", text, probe.remedy, details)
    return Finding(
        id, "warning", f"{text}, where the direct one was expected", probe.remedy, details
    )


def _in_a_thread(try_it: Callable[[], Awaitable[str]]) -> str | BaseException:
    """Its result or its error; on a loop and a thread of its own, where a server takes no signals."""
    outcome: list[str | BaseException] = []

    async def bounded() -> str:
        return await asyncio.wait_for(try_it(), TIMEOUT)

    def work() -> None:
        try:
            outcome.append(asyncio.run(bounded()))
        except BaseException as error:  # noqa: BLE001 - SystemExit of a server too: it is the answer
            outcome.append(error)

    thread = threading.Thread(target=work, name="wsmanager-doctor", daemon=True)
    thread.start()
    thread.join(TIMEOUT + 5)
    return outcome[0] if outcome else TimeoutError(f"no end within {TIMEOUT + 5:g} seconds")


def _channel_of(websocket: Any) -> str:
    """What a connection of *websocket* gets, registered for a moment under a name that is nobody's."""
    manager = get_websocket_manager(f"wsmanager.doctor/{secrets.token_hex(8)}")
    connection_id = manager.add_connection(websocket)
    try:
        connection = manager.get_connection(connection_id)
        return "none" if connection is None else connection.channel
    finally:
        manager.remove_connection(connection_id)


async def _knock(port: int) -> asyncio.StreamWriter:
    """A WebSocket handshake (RFC 6455, 4.1) by hand: no client library is needed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    writer.write(
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in answer.partition(b"\r\n")[0]:
        writer.close()
        raise ConnectionError(f"the handshake was refused: {answer[:80]!r}")
    return writer


async def _uvicorn(ws: str) -> str:
    import uvicorn

    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            found.set_result(await _accepted(scope, receive, send))
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            found.set_exception(error)

    # log_config=None: uvicorn's own would change the logging of the whole process.
    config = uvicorn.Config(
        app, ws=ws, workers=1, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        try:
            while not server.started:
                if serving.done():
                    serving.result()
                    raise ConnectionError("the server ended before it had started")
                await asyncio.sleep(0.005)
            writer = await _knock(listening.getsockname()[1])
            result = await found
            writer.close()
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.wait([serving])
    return result


async def _accepted(scope: Any, receive: Any, send: Any) -> str:
    if util.find_spec("starlette") is not None:
        from starlette.websockets import WebSocket

        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        channel = _channel_of(websocket)
        await websocket.close()
        return channel
    await receive()
    await send({"type": "websocket.accept"})
    channel = "direct" if EXTENSION in scope.get("extensions", ()) else "generic"
    await send({"type": "websocket.close"})
    return channel


async def _websockets() -> str:
    from websockets.asyncio.server import serve

    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(connection: Any) -> None:
        try:
            found.set_result(_channel_of(connection))
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            found.set_exception(error)

    async with serve(handler, "127.0.0.1", 0) as server:
        writer = await _knock(next(iter(server.sockets)).getsockname()[1])
        result = await found
        writer.close()
    return result


async def _aiohttp() -> str:
    from aiohttp import web

    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        try:
            found.set_result(_channel_of(websocket))
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            found.set_exception(error)
        await websocket.close()
        return websocket

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        writer = await _knock(runner.addresses[0][1])
        result = await found
        writer.close()
    finally:
        await runner.cleanup()
    return result


PROBES: Final = (
    Probe(
        "uvicorn",
        "uvicorn with its own protocol",
        ("uvicorn", "websockets"),
        lambda: _uvicorn("auto"),
        "generic",
        f"uvicorn --ws {_OURS} gives the direct one",
    ),
    Probe(
        "uvicorn-direct",
        f"uvicorn --ws {_OURS}",
        ("uvicorn", "websockets"),
        lambda: _uvicorn(_OURS),
        "direct",
        "pip install --upgrade uvicorn wsmanager; all works meanwhile, by uvicorn's own send",
    ),
    Probe(
        "websockets",
        "websockets",
        ("websockets.asyncio",),
        _websockets,
        "direct",
        "pip install --upgrade wsmanager; all works meanwhile, by the library's own send",
    ),
    Probe(
        "aiohttp",
        "aiohttp",
        ("aiohttp",),
        _aiohttp,
        "direct",
        "pip install --upgrade wsmanager; all works meanwhile, by the library's own send",
    ),
)
