"""A client that is turned away gets the code; and where it cannot, an HTTP status."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI, WebSocket
from support.servers import UvicornServer, WebsocketsServer
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wsmanager.security import AsgiWebSocket, reject
from wsmanager.testing import FakeAsgi, FakeStarlette, FakeWebsockets

IMPLEMENTATIONS = ["websockets-sansio", "wsmanager.uvicorn:WebSocketProtocol"]


async def told(url: str, **options: Any) -> tuple[int | None, str | None]:
    """Code and reason as a client gets them."""
    async with connect(url, **options) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        return client.close_code, client.close_reason


@pytest.mark.parametrize("ws", IMPLEMENTATIONS)
async def test_the_code_arrives(ws: str) -> None:
    app = FastAPI()

    @app.websocket("/reject")
    async def rejecting(websocket: WebSocket) -> None:
        await reject(websocket, 4403, "not you")

    @app.websocket("/accepted")
    async def accepted(websocket: WebSocket) -> None:
        await websocket.accept()
        await reject(websocket, 1008, "too late")

    @app.websocket("/naive")
    async def naive(websocket: WebSocket) -> None:
        await websocket.close(4403, "not you")

    @app.websocket("/denied")
    async def denied(websocket: WebSocket) -> None:
        await reject(websocket, 4403, "not you", status=429)

    with UvicornServer(app, ws=ws) as server:
        base = f"ws://127.0.0.1:{server.port}"
        assert await told(f"{base}/reject") == (4403, "not you")
        assert await told(f"{base}/accepted") == (1008, "too late")
        with pytest.raises(InvalidStatus) as refused:  # the control: what everybody writes first
            await connect(f"{base}/naive")
        assert refused.value.response.status_code == 403
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{base}/denied")
        assert refused.value.response.status_code == 429
        assert b"Too Many Requests" in (refused.value.response.body or b"")


async def test_a_subprotocol_is_chosen_so_that_a_browser_waits_for_the_code() -> None:
    """A plain one before one that carries a credential; that one if there is no other."""
    app = FastAPI()

    @app.websocket("/ws")
    async def rejecting(websocket: WebSocket) -> None:
        await reject(websocket, 4403)

    with UvicornServer(app) as server:
        for offered, chosen in (
            (["wsmanager.ticket.abc", "chat.v1"], "chat.v1"),
            (["wsmanager.ticket.abc"], "wsmanager.ticket.abc"),
        ):
            async with connect(server.url, subprotocols=offered) as client:  # type: ignore[arg-type]
                assert client.subprotocol == chosen
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 4403


async def test_plain_asgi() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reject(AsgiWebSocket(scope, receive, send), 4403, "not you")

    with UvicornServer(app) as server:
        assert await told(server.url) == (4403, "not you")


async def test_websockets_and_aiohttp() -> None:
    async def handler(connection: ServerConnection) -> None:
        await reject(connection, 4403, "not you")

    with WebsocketsServer(handler=handler) as server:
        assert await told(server.url) == (4403, "not you")

    async def refuse(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await reject(websocket, 4403, "not you")
        return websocket

    app = web.Application()
    app.router.add_get("/ws", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    assert await told(f"ws://127.0.0.1:{runner.addresses[0][1]}/ws") == (4403, "not you")
    await runner.cleanup()


async def test_on_fakes() -> None:
    starlette, websockets = FakeStarlette(accepted=False), FakeWebsockets()
    await reject(starlette, 3000, "x" * 500)
    await reject(websockets, 3000, "why")
    assert starlette.closed_with == (3000, "x" * 123)
    assert websockets.closed_with == (3000, "why")
    await reject(starlette, 3000)  # closed already: nothing happens
    denied = FakeStarlette(accepted=False)
    await reject(denied, status=503)
    assert (denied.server.status, denied.server.body) == (503, b"Service Unavailable")
    old = FakeStarlette(accepted=False)
    old.scope["extensions"] = {}
    await reject(old, 4001, status=503)
    assert old.closed_with == (4001, "")
    unknown = FakeStarlette(accepted=False)
    await reject(unknown, status=599)
    assert unknown.server.body == b"Refused"


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1])
async def test_codes_that_may_not_be_sent(code: int) -> None:
    websocket = FakeStarlette(accepted=False)
    with pytest.raises(ValueError, match="no close code"):
        await reject(websocket, code)
    assert websocket.closed_with is None


async def test_a_status_that_is_no_refusal() -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        await reject(FakeStarlette(accepted=False), status=200)


async def test_the_asgi_socket_keeps_to_the_protocol() -> None:
    fake = FakeAsgi()
    websocket = AsgiWebSocket(fake.scope, fake.receive, fake.send)
    assert (await websocket.receive())["type"] == "websocket.connect"
    await websocket.accept("chat")
    await websocket.send_text("hi")
    await websocket.close(4000, "bye")
    assert (fake.messages, fake.closed_with) == (["hi"], (4000, "bye"))
    with pytest.raises(RuntimeError, match="once a close message has been sent"):
        await websocket.send_text("late")
    with pytest.raises(ValueError, match="not 'websocket'"):
        AsgiWebSocket({"type": "http"}, fake.receive, fake.send)
    gone = FakeAsgi(accepted=True)
    gone.disconnect()
    with pytest.raises(RuntimeError, match=r"websocket\.connect"):
        await AsgiWebSocket(gone.scope, gone.receive, gone.send).accept()
