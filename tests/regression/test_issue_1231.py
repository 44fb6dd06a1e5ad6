"""A factory awaited by mistake cost the health, config and stats pages and every agent event."""

from __future__ import annotations

import asyncio
import inspect

import httpx
import pytest
from support.agent import FIVE_EVENTS, run_agent
from support.contexts import UserExecutionContext
from support.servers import UvicornServer
from support.sockets import StarletteSocket
from support.waiting import eventually

from wsmanager import (
    WebSocketManager,
    WebSocketManagerMode,
    get_websocket_manager,
    get_websocket_manager_async,
)

pytestmark = pytest.mark.issue_1231


def test_get_websocket_manager_is_synchronous_after_fix() -> None:
    assert not inspect.iscoroutinefunction(get_websocket_manager)
    assert not inspect.iscoroutine(get_websocket_manager({"user_id": "sync-1231"}))


async def test_awaiting_get_websocket_manager_causes_error() -> None:
    with pytest.raises(TypeError):
        await get_websocket_manager({"user_id": "awaited-1231"})  # type: ignore[misc]
    manager = get_websocket_manager({"user_id": "awaited-1231"})
    assert manager.user_id == "awaited-1231", "the failed await left a broken manager"


def test_manager_creation_works_after_fix() -> None:
    context = UserExecutionContext.from_request("ssot-1231", "thread-1", "run-1")
    manager = get_websocket_manager(context)
    assert isinstance(manager, WebSocketManager)
    for name in ("send_to_thread", "add_connection", "remove_connection", "get_stats"):
        assert callable(getattr(manager, name)), name


@pytest.mark.parametrize(
    ("path", "key"), [("health", "status"), ("config", "mode"), ("stats", "registry")]
)
async def test_websocket_status_endpoints_work_after_fix(
    chat_server: UvicornServer, path: str, key: str
) -> None:
    """Handlers that call the sync form, in a real application over HTTP."""
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{chat_server.http}/ws/{path}")
    assert response.status_code == 200, response.text
    assert key in response.json()


async def test_status_endpoints_tell_the_truth(chat_server: UvicornServer) -> None:
    """The pages that showed 0 users while everybody was cut off show what there is."""
    get_websocket_manager({"user_id": "counted-1231"}).add_connection(StarletteSocket())
    async with httpx.AsyncClient(trust_env=False) as client:
        stats = (await client.get(f"{chat_server.http}/ws/stats")).json()
    assert stats["registry"]["total_registered_managers"] >= 1
    assert stats["registry"]["total_connections"] == 1
    assert "counted-1231" not in str(stats["registry"]), "a status page names users"


async def test_websocket_connection_establishment_works_after_fix() -> None:
    manager = get_websocket_manager({"user_id": "connect-1231"})
    socket = StarletteSocket()
    connection_id = manager.add_connection(socket)
    assert await manager.add_connection(StarletteSocket()) != connection_id
    assert len(manager) == 2
    assert manager.is_connection_active()
    assert manager.get_connection(connection_id).websocket is socket  # type: ignore[union-attr]


async def test_websocket_event_delivery_restored_after_fix() -> None:
    """All five events, from an agent that runs in a thread and awaits nothing."""
    manager = get_websocket_manager({"user_id": "events-1231"})
    socket = StarletteSocket()
    manager.add_connection(socket)
    await asyncio.to_thread(run_agent, "events-1231")
    await eventually(lambda: len(socket.texts) >= 5)
    assert tuple(socket.types) == FIVE_EVENTS


async def test_multi_user_websocket_isolation_restored_after_fix() -> None:
    users = [f"isolated-{n}-1231" for n in range(5)]
    sockets = {user: StarletteSocket() for user in users}
    for user, socket in sockets.items():
        get_websocket_manager({"user_id": user}).add_connection(socket)
    await asyncio.gather(*(asyncio.to_thread(run_agent, user) for user in users))
    for user, socket in sockets.items():
        await eventually(lambda socket=socket: len(socket.texts) >= 5)
        assert tuple(socket.types) == FIVE_EVENTS
        assert {event["payload"]["mark"] for event in socket.events} == {user}
        assert {event["user_id"] for event in socket.events} == {user}


async def test_factory_pattern_consistency_after_fix() -> None:
    """Every mode, every form, every shape of context of one user: one manager."""
    context = UserExecutionContext.from_request("consistent-1231", "t", "r")
    first = get_websocket_manager(context)
    assert get_websocket_manager(user_context=context) is first
    assert get_websocket_manager({"user_id": "consistent-1231"}) is first
    assert get_websocket_manager("consistent-1231") is first
    assert await get_websocket_manager_async(context) is first
    for mode in WebSocketManagerMode:
        assert get_websocket_manager(context, mode) is first
        assert get_websocket_manager(context, mode=mode).mode is WebSocketManagerMode.UNIFIED


async def test_race_between_connect_and_first_event() -> None:
    """The plan's "expected intermittent" failure, a race, as a test that may not fail."""
    for n in range(200):
        user = f"race-{n}-1231"
        socket = StarletteSocket()

        async def connect(user: str = user, socket: StarletteSocket = socket) -> None:
            get_websocket_manager({"user_id": user}).add_connection(socket)

        async def emit(user: str = user) -> None:
            manager = await get_websocket_manager_async({"user_id": user})
            await manager.emit_event("agent_started", {"n": 1})

        await asyncio.gather(connect(), emit())
        assert socket.types == ["agent_started"]
