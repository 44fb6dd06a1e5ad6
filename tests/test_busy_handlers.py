"""A connection that is closed while its handler does something else: as if its client had left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.websockets import WebSocketState
from support.servers import UvicornServer
from support.waiting import eventually
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wsmanager import adapters, drain, get_websocket_manager
from wsmanager.compat import ConnectionManager
from wsmanager.security import InboundLimiter, Sessions, reject

DIRECT = "wsmanager.uvicorn:WebSocketProtocol"
BOTH = pytest.mark.parametrize("ws", ["auto", DIRECT])

Handler = Callable[[WebSocket], Awaitable[Any]]


async def receives(websocket: WebSocket) -> Any:
    try:
        await websocket.receive_text()
    except WebSocketDisconnect as gone:
        return gone.code, gone.reason


async def iterates(websocket: WebSocket) -> Any:
    return [text async for text in websocket.iter_text()]


async def sends(websocket: WebSocket) -> Any:
    try:
        await websocket.send_text("done")
    except WebSocketDisconnect as gone:
        return gone.code


async def closes(websocket: WebSocket) -> Any:
    await websocket.close(4000)


async def receives_and_closes(websocket: WebSocket) -> Any:
    try:
        return await receives(websocket)
    finally:
        await websocket.close()


async def refuses(websocket: WebSocket) -> Any:
    raise WebSocketException(1008, "too late")


class Busy:
    """An application whose handlers are busy until they are let go; then they do what the path says."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.sockets: list[WebSocket] = []
        self.results: list[Any] = []
        self.go = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.sessions = Sessions(code=4401)
        self.app.add_api_websocket_route("/{name}", self.handle)

    async def handle(self, websocket: WebSocket, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        await websocket.accept()
        manager = get_websocket_manager("ann")
        connection_id = manager.add_connection(websocket)
        self.sessions.register(manager, connection_id, "s1")
        self.sockets.append(websocket)
        try:
            await self.go.wait()
            handler: Handler = globals()[name]
            self.results.append(await handler(websocket))
        finally:
            manager.remove_connection(connection_id)

    def let_go(self) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.go.set)


async def ended(client: ClientConnection) -> tuple[int | None, str | None]:
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(client.recv(), 5)
    await client.wait_closed()
    return client.close_code, client.close_reason


async def by_user() -> None:
    await get_websocket_manager("ann").disconnect_user("ann", code=4401, reason="logged out")


HANDLERS = {
    "receives": (4401, "logged out"),
    "iterates": [],
    "sends": 1006,
    "closes": None,
    "receives_and_closes": (4401, "logged out"),
}


@BOTH
@pytest.mark.parametrize("name", HANDLERS)
async def test_a_busy_handler_sees_that_it_is_over(
    name: str, ws: str, caplog: pytest.LogCaptureFixture
) -> None:
    busy = Busy()
    with UvicornServer(busy.app, ws=ws, log_config=None) as server:
        client = await connect(server.url.replace("/ws", f"/{name}"))
        await eventually(lambda: busy.sockets)
        await by_user()
        assert await ended(client) == (4401, "logged out")
        busy.let_go()
        await eventually(lambda: busy.results)
        assert busy.results == [HANDLERS[name]]
    assert "Exception in ASGI application" not in caplog.text


@BOTH
async def test_an_exception_that_is_to_close_it_comes_too_late(
    ws: str, caplog: pytest.LogCaptureFixture
) -> None:
    busy = Busy()
    with UvicornServer(busy.app, ws=ws, log_config=None) as server:
        client = await connect(server.url.replace("/ws", "/refuses"))
        await eventually(lambda: busy.sockets)
        await by_user()
        assert await ended(client) == (4401, "logged out")
        busy.let_go()
    assert "Exception in ASGI application" not in caplog.text


@BOTH
@pytest.mark.parametrize("way", ["drain", "session"])
async def test_whoever_closes_it(ws: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    busy = Busy()
    with UvicornServer(busy.app, ws=ws, log_config=None) as server:
        clients = [await connect(server.url.replace("/ws", "/iterates")) for _ in range(3)]
        await eventually(lambda: len(busy.sockets) == 3)
        if way == "drain":
            assert (await drain(deadline=5, jitter=0.1)).closed == 3
        else:
            assert busy.sessions.close_session("s1") == 3
        codes = {(await ended(client))[0] for client in clients}
        assert codes == {1012 if way == "drain" else 4401}
        busy.let_go()
        await eventually(lambda: len(busy.results) == 3)
    assert "Exception in ASGI application" not in caplog.text


@BOTH
async def test_control_a_handlers_error_is_logged(
    ws: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        await websocket.close()
        await websocket.receive_text()

    with UvicornServer(app, ws=ws, log_config=None) as server:
        client = await connect(server.url)
        assert await ended(client) == (1000, "")
        await eventually(lambda: "Exception in ASGI application" in caplog.text)


@BOTH
async def test_it_is_seen_as_closed_before_its_handler_reads(ws: str) -> None:
    busy = Busy()
    with UvicornServer(busy.app, ws=ws) as server:
        client = await connect(server.url.replace("/ws", "/receives"))
        await eventually(lambda: busy.sockets)
        manager = get_websocket_manager("ann")
        (connection,) = manager.active_connections.values()
        assert connection.is_active
        done = adapters.close(connection.websocket, 4001, "over")
        assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(done, connection.loop))
        assert not connection.is_active
        assert not manager.is_connection_active()
        again = adapters.close(connection.websocket, 4002, "again")
        assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(again, connection.loop))
        assert await ended(client) == (4001, "over")
        manager.emit_event("x", {})
        await eventually(lambda: len(manager) == 0)
        busy.let_go()


@BOTH
async def test_a_close_before_the_accept_is_a_refused_handshake(
    ws: str, caplog: pytest.LogCaptureFixture
) -> None:
    states: list[WebSocketState] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        if scope["path"] == "/asked":
            await websocket.receive()
        await adapters.close(websocket, 4401, "no")
        states.append(websocket.application_state)

    with UvicornServer(app, ws=ws, log_config=None) as server:
        for path in ("/asked", "/at-once"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url.replace("/ws", path))
            assert refused.value.response.status_code == 403
    assert states == [WebSocketState.DISCONNECTED] * 2
    assert "Exception in ASGI application" not in caplog.text


@BOTH
async def test_what_rejects_and_what_limits_close_as_well(
    ws: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = InboundLimiter(max_bytes=10)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        if scope["path"] == "/rejected":
            await reject(websocket, 4403, "not you")
            return
        await websocket.accept()
        limiter.guard(websocket, "ann")
        assert [text async for text in websocket.iter_text()] == ["short"]
        assert [text async for text in websocket.iter_text()] == []

    with UvicornServer(app, ws=ws, log_config=None) as server:
        client = await connect(server.url.replace("/ws", "/rejected"))
        assert await ended(client) == (4403, "not you")
        client = await connect(server.url)
        await client.send("short")
        await client.send("much too long")
        assert (await ended(client))[0] == 1009
    assert "Exception in ASGI application" not in caplog.text


@BOTH
async def test_the_class_of_the_tutorial(ws: str, caplog: pytest.LogCaptureFixture) -> None:
    """It closes through an object of its own."""
    connections = ConnectionManager()
    go = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        await connections.connect(websocket)
        loops.append(asyncio.get_running_loop())
        await go.wait()
        assert [text async for text in websocket.iter_text()] == []

    with UvicornServer(app, ws=ws, log_config=None) as server:
        client = await connect(server.url)
        await eventually(lambda: loops)
        assert (await drain(deadline=5, jitter=0.1)).closed == 1
        assert (await ended(client))[0] == 1012
        loops[0].call_soon_threadsafe(go.set)
    assert "Exception in ASGI application" not in caplog.text


async def test_a_starlette_that_names_its_send_otherwise_is_closed_by_its_own_close() -> None:
    class Renamed(WebSocket):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.asgi_send = self.__dict__.pop("_send")

        async def close(self, code: int = 1000, reason: str | None = None) -> None:
            await self.asgi_send({"type": "websocket.close", "code": code, "reason": reason})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    websocket = Renamed({"type": "websocket", "headers": []}, receive, send)
    websocket.application_state = WebSocketState.CONNECTED
    assert await adapters.close(websocket, 4001, "x")
    assert sent == [{"type": "websocket.close", "code": 4001, "reason": "x"}]


def test_control_the_log_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("uvicorn.error").error("Exception in ASGI application")
    assert "Exception in ASGI application" in caplog.text
