"""examples/secure_fastapi.py over a real server: each door it shuts is tried."""

from __future__ import annotations

import asyncio
import contextlib
import json
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.servers import UvicornServer
from support.waiting import eventually
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from wsmanager import get_websocket_manager

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "secure_fastapi.py"

pytestmark = pytest.mark.skipif(
    not EXAMPLE.exists(), reason="the examples are not beside these tests"
)


@pytest.fixture(params=["auto", "wsmanager.uvicorn:WebSocketProtocol"])
def server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UvicornServer]:
    monkeypatch.setenv("SESSION_SECONDS", "60")
    module = types.ModuleType("secure_fastapi")
    monkeypatch.setitem(__import__("sys").modules, "secure_fastapi", module)
    exec(compile(EXAMPLE.read_text(), str(EXAMPLE), "exec"), module.__dict__)
    with UvicornServer(module.app, ws=request.param) as server:
        server.module = module  # type: ignore[attr-defined]
        yield server


@contextlib.asynccontextmanager
async def browser(server: UvicornServer, user: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as client:
        assert (await client.post(f"/login/{user}")).status_code == 200
        yield client


async def ticket_of(client: httpx.AsyncClient) -> str:
    return str((await client.post("/ticket")).json()["ticket"])


async def opened(server: UvicornServer, ticket: str | None, **options: Any) -> ClientConnection:
    protocols = ["events.v1"] + ([] if ticket is None else [f"wsmanager.ticket.{ticket}"])
    options.setdefault("origin", server.http)
    return await connect(server.url, subprotocols=protocols, **options)  # type: ignore[arg-type]


async def ended(client: ClientConnection) -> tuple[int | None, str | None]:
    with pytest.raises(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), 10)
    return client.close_code, client.close_reason


async def test_the_way_in(server: UvicornServer) -> None:
    async with browser(server, "ann") as ann, browser(server, "bob") as bob:
        tab = await opened(server, await ticket_of(ann))
        other = await opened(server, await ticket_of(bob))
        assert tab.subprotocol == "events.v1"
        await eventually(
            lambda: len(get_websocket_manager("ann")) == len(get_websocket_manager("bob")) == 1
        )
        assert (await ann.post("/say/hello")).status_code == 200
        event = json.loads(await asyncio.wait_for(tab.recv(), 5))
        assert (event["type"], event["payload"], event["user_id"]) == (
            "said",
            {"text": "hello"},
            "ann",
        )
        await other.send("mine")
        event = json.loads(await asyncio.wait_for(other.recv(), 5))
        assert (event["type"], event["user_id"]) == ("echo", "bob")
        await tab.close()
        await other.close()
        await eventually(lambda: not len(get_websocket_manager("ann")))


async def test_the_shut_doors(server: UvicornServer) -> None:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as nobody:
        for path in ("/ticket", "/refresh", "/logout", "/say/x"):
            assert (await nobody.post(path)).status_code == 401
    async with browser(server, "ann") as ann:
        foreign = await opened(server, await ticket_of(ann), origin="https://evil.com")
        assert await ended(foreign) == (1008, "origin")
        assert await ended(await opened(server, await ticket_of(ann), origin=None)) == (
            1008,
            "origin",
        )
        assert await ended(await opened(server, None)) == (3000, "log in first")
        assert await ended(await opened(server, "forged")) == (3000, "log in first")
        ticket = await ticket_of(ann)
        tab = await opened(server, ticket)
        assert await ended(await opened(server, ticket)) == (3000, "log in first"), "used already"
        await tab.close()


async def test_log_out_reaches_open_sockets_and_tickets(server: UvicornServer) -> None:
    async with browser(server, "ann") as ann:
        tabs = [await opened(server, await ticket_of(ann)) for _ in range(2)]
        late = await ticket_of(ann)
        await eventually(lambda: len(server.module.sockets) == 2)  # type: ignore[attr-defined]
        assert (await ann.post("/logout")).json() == {"sockets": 2}
        for tab in tabs:
            assert await ended(tab) == (3000, "logged out")
        assert await ended(await opened(server, late)) == (3000, "log in first")
        assert (await ann.post("/ticket")).status_code == 401


async def test_expiry_and_refresh(server: UvicornServer) -> None:
    module = server.module  # type: ignore[attr-defined]
    async with browser(server, "ann") as ann, browser(server, "bob") as bob:
        kept, short = (
            await opened(server, await ticket_of(ann)),
            await opened(server, await ticket_of(bob)),
        )
        await eventually(lambda: len(module.sockets) == 2)
        module.SESSION_SECONDS = 0.5
        assert (await bob.post("/refresh")).json() == {"sockets": 1}
        assert await ended(short) == (3000, "session expired")
        assert (await bob.post("/ticket")).status_code == 401
        module.SESSION_SECONDS = 60
        assert (await ann.post("/refresh")).json() == {"sockets": 1}
        await ann.post("/say/still")
        assert json.loads(await asyncio.wait_for(kept.recv(), 5))["payload"] == {"text": "still"}
        await kept.close()


async def test_limits(server: UvicornServer) -> None:
    async with browser(server, "ann") as ann, browser(server, "bob") as bob:
        big = await opened(server, await ticket_of(ann))
        await big.send("x" * (16 * 1024 + 1))
        assert await ended(big) == (1009, "message too big")
        flood = await opened(server, await ticket_of(bob))
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                await flood.send("x")
        assert await ended(flood) == (1008, "too many messages")
