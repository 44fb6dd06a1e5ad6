"""From log-in to the last event, over a real server, with a client that others wrote."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvloop
from support.agent import FIVE_EVENTS
from support.clients import Tab, open_tab
from support.servers import AiohttpServer, UvicornServer, WebsocketsServer
from support.waiting import eventually
from websockets.asyncio.client import connect

from wsmanager import get_manager_registry_status, get_websocket_manager

pytestmark = [pytest.mark.golden_path, pytest.mark.mission_critical, pytest.mark.issue_1231]

DIRECT = "wsmanager.uvicorn:WebSocketProtocol"
SERVERS: dict[str, Callable[[], Any]] = {
    "uvicorn": UvicornServer,
    "uvicorn-websockets-sansio": lambda: UvicornServer(ws="websockets-sansio"),
    "uvicorn-direct": lambda: UvicornServer(ws=DIRECT),
    "uvicorn-uvloop": lambda: UvicornServer(loop="uvloop"),
    "uvicorn-uvloop-direct": lambda: UvicornServer(loop="uvloop", ws=DIRECT),
    "websockets": WebsocketsServer,
    "websockets-uvloop": lambda: WebsocketsServer(uvloop.new_event_loop),
    "websockets-no-deflate": lambda: WebsocketsServer(compression=None),
    "aiohttp": AiohttpServer,
    "aiohttp-uvloop": lambda: AiohttpServer(uvloop.new_event_loop),
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Any:
    with SERVERS[request.param]() as running:
        yield running


@pytest.mark.timeout(60)
async def test_golden_path_login_to_last_event(chat_server: UvicornServer) -> None:
    """POST /login, connect with the token, ask, and see the five events, each once, in order."""
    async with httpx.AsyncClient(trust_env=False) as http:
        login = (await http.post(f"{chat_server.http}/login/ann")).json()
    async with connect(f"{chat_server.url}?token={login['token']}") as client:
        await client.send("run")
        tab = Tab(client, login["user_id"])
        events = await tab.read(5)
        assert tuple(tab.types) == FIVE_EVENTS
        assert await tab.silent()
        assert {event["user_id"] for event in events} == {"user-ann"}
        assert {event["run_id"] for event in events} == {"run-1"}
        assert len({event["id"] for event in events}) == 5
    await eventually(lambda: get_manager_registry_status()["total_connections"] == 0)


@pytest.mark.timeout(60)
async def test_a_stranger_gets_no_connection(chat_server: UvicornServer) -> None:
    """A token that nobody was given: refused before anything is registered."""
    with pytest.raises(Exception, match="403"):
        await connect(f"{chat_server.url}?token=forged")
    assert get_manager_registry_status()["total_connections"] == 0


@pytest.mark.timeout(60)
async def test_two_users_two_tabs_on_every_server(server: Any) -> None:
    """The same five events in the same order on each server library, and none across users."""
    tabs = [
        await open_tab(server.url, user, expected) for user in ("ann", "bob") for expected in (1, 2)
    ]
    await asyncio.gather(tabs[0].client.send("run"), tabs[2].client.send("run"))
    await asyncio.gather(*(tab.read(5) for tab in tabs))
    for tab in tabs:
        assert tuple(tab.types) == FIVE_EVENTS
        assert {event["payload"]["mark"] for event in tab.events} == {tab.user}
        assert await tab.silent(0.02)
    first, second = tabs[0].events, tabs[1].events
    assert first == second, "two tabs of one user were told different things"
    for tab in tabs:
        await tab.client.close()
    await eventually(lambda: get_manager_registry_status()["total_connections"] == 0)


@pytest.mark.timeout(60)
async def test_library_and_manager_share_one_socket(server: Any) -> None:
    """The library's own messages and ours on one connection: whole frames, in order."""
    tab = await open_tab(server.url, "echo")
    manager = get_websocket_manager("echo")
    for n in range(20):
        await tab.client.send(f"{n}")
        assert await asyncio.wait_for(tab.client.recv(), 5) == f"echo:{n}"
        await asyncio.to_thread(manager.emit_event, "between", {"n": n, "pad": "x" * n * 500})
        events = await tab.read(1)
        assert events[-1]["payload"]["n"] == n
    await tab.client.close()


@pytest.mark.timeout(90)
async def test_multi_user_isolation_under_load(chat_server: UvicornServer) -> None:
    """Twenty users with real sockets, forty threads of agents: no foreign and no lost event."""
    users = [f"load-{n}" for n in range(20)]
    tabs = [await open_tab(chat_server.url, user) for user in users]
    per_thread, threads_each = 25, 2

    def agent(user: str, thread: int) -> None:
        manager = get_websocket_manager({"user_id": user})
        for n in range(per_thread):
            manager.emit_event("agent_thinking", {"owner": user, "thread": thread, "n": n})

    await asyncio.gather(
        *(asyncio.to_thread(agent, user, t) for user in users for t in range(threads_each))
    )
    await asyncio.gather(*(tab.read(per_thread * threads_each, 30) for tab in tabs))
    for tab in tabs:
        payloads = [event["payload"] for event in tab.events]
        assert {payload["owner"] for payload in payloads} == {tab.user}
        for thread in range(threads_each):
            own = [payload["n"] for payload in payloads if payload["thread"] == thread]
            assert own == list(range(per_thread)), "lost, doubled or out of order"
        assert await tab.silent(0.01)
    await asyncio.gather(*(tab.client.close() for tab in tabs))


@pytest.mark.timeout(60)
async def test_reconnect_does_not_lose_the_new_tab(chat_server: UvicornServer) -> None:
    """The cleanup of the old socket must not unregister the new one."""
    for _ in range(10):
        old = await open_tab(chat_server.url, "reload")
        new = await open_tab(chat_server.url, "reload", 2)
        await old.client.close()
        manager = get_websocket_manager("reload")
        await eventually(lambda manager=manager: len(manager) == 1)
        await asyncio.to_thread(manager.emit_event, "agent_started", {})
        await new.read(1)
        await new.client.close()
        await eventually(lambda manager=manager: len(manager) == 0)


@pytest.mark.timeout(60)
async def test_server_shutdown_with_clients_connected() -> None:
    """Stopping the server with tabs open: they are told, the registry is empty, nothing hangs."""
    with UvicornServer() as server:
        tabs = [await open_tab(server.url, "shutdown", n + 1) for n in range(3)]
    for tab in tabs:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(tab.client.recv(), 5)
        assert tab.client.close_code in (1001, 1006, 1012)
    await eventually(lambda: get_manager_registry_status()["total_connections"] == 0)
