"""What users pay for: the five agent events reach the right browser, all of them, in order."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from unittest.mock import MagicMock, patch

import pytest
from support.agent import FIVE_EVENTS, five_payloads
from support.contexts import UserExecutionContext
from support.sockets import FailingSocket, StarletteSocket
from support.waiting import eventually

import wsmanager
from wsmanager import (
    InvalidUserContext,
    UserIsolationError,
    get_manager_registry_status,
    get_websocket_manager,
    get_websocket_manager_async,
)

pytestmark = [pytest.mark.mission_critical, pytest.mark.issue_1184]


@pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "not awaited"])
async def test_five_required_websocket_events_delivered(awaited: bool) -> None:
    """Through a real emit, not a patched one: what the browser would read is looked at."""
    manager = get_websocket_manager({"user_id": "mission-critical-1184"})
    socket = StarletteSocket()
    manager.add_connection(socket)
    for event_type, data in five_payloads("m"):
        delivery = manager.emit_event(event_type, data)
        if awaited:
            assert await delivery
    await eventually(lambda: len(socket.texts) == 5)
    assert tuple(socket.types) == FIVE_EVENTS
    for event, (_, data) in zip(socket.events, five_payloads("m"), strict=True):
        assert event["payload"] == data
        assert event["agent_name"] == data["agent_name"]
    assert [event.get("tool_name") for event in socket.events][2:4] == ["search", "search"]


async def test_five_events_with_emit_event_patched() -> None:
    """The way the application's own tests look at it: patch.object on the manager."""
    manager = get_websocket_manager({"user_id": "mission-critical-1184"})
    events_sent: list[str] = []

    async def capture_event(event_type: str, data: object) -> None:
        events_sent.append(event_type)

    with patch.object(manager, "emit_event", side_effect=capture_event) as emit:
        for event_type, data in five_payloads("m"):
            await manager.emit_event(event_type, data)
    assert tuple(events_sent) == FIVE_EVENTS
    assert emit.call_count == 5
    socket = StarletteSocket()
    manager.add_connection(socket)
    await manager.emit_event("agent_started", {})
    assert socket.types == ["agent_started"], "the patch outlived its block"


async def test_connections_replaced_by_a_test() -> None:
    """``manager._connections = {...}`` is what a test reads back; delivery stays the registry's."""
    manager = get_websocket_manager({"user_id": "replaced-1184"})
    real = StarletteSocket()
    manager.add_connection(real)
    replacement = {"test-connection": MagicMock()}
    manager._connections = replacement
    assert manager._connections is replacement
    assert len(manager._connections) == 1
    receipt = await manager.emit_event("agent_started", {"agent": "test"})
    await eventually(lambda: len(real.events) == 1)
    assert receipt
    del manager._connections
    assert next(iter(manager._connections.values())).websocket is real


async def test_connections_is_a_mapping_with_a_length() -> None:
    manager = get_websocket_manager({"user_id": "mapping-1184"})
    assert len(manager._connections) == 0
    connection_id = manager.add_connection(StarletteSocket())
    assert len(manager._connections) == 1
    assert connection_id in manager._connections
    assert list(manager.active_connections) == [connection_id]


async def test_websocket_manager_user_isolation() -> None:
    first_context = {"user_id": "isolation-user1-1184", "thread_id": "thread1"}
    second_context = {"user_id": "isolation-user2-1184", "thread_id": "thread2"}
    first = get_websocket_manager(user_context=first_context)
    second = get_websocket_manager(user_context=second_context)
    assert first is not second
    assert first.user_context["user_id"] != second.user_context["user_id"]
    sockets = StarletteSocket(), StarletteSocket()
    first.add_connection(sockets[0])
    second.add_connection(sockets[1])
    await first.emit_event("agent_started", {"for": 1})
    assert sockets[0].types == ["agent_started"]
    assert sockets[1].types == []
    with pytest.raises(UserIsolationError):
        second.send_to_user("isolation-user1-1184", {"type": "agent_started"})
    with pytest.raises(UserIsolationError):
        second.add_connection(sockets[0])
    assert sockets[0].types == ["agent_started"]


async def test_send_to_thread_reaches_that_thread_and_no_other() -> None:
    manager = get_websocket_manager({"user_id": "threads-1184"})
    chat, other = StarletteSocket(), StarletteSocket()
    manager.add_connection(chat, thread_id="chat")
    manager.add_connection(other, thread_id="other")
    assert await manager.send_to_thread("chat", {"type": "agent_thinking", "data": {"n": 1}})
    assert chat.types == ["agent_thinking"]
    assert other.types == []
    assert not await manager.send_to_thread("nobody", {"type": "agent_thinking"})


async def test_a_thread_id_is_never_a_user_id() -> None:
    """The original sent to the user whose id equalled the thread id."""
    victim, own = StarletteSocket(), StarletteSocket()
    get_websocket_manager("shared-name").add_connection(victim)
    manager = get_websocket_manager("sender")
    manager.add_connection(own, thread_id="shared-name")
    await manager.send_to_thread("shared-name", {"type": "agent_thinking"})
    assert victim.texts == []
    assert own.types == ["agent_thinking"]


async def test_no_manager_is_invented_for_an_invalid_context() -> None:
    """The original registered a test or emergency manager under the real key."""
    for context in ({}, {"user": "x"}, "", "  ", 1.5, object(), [], {"user_id": None}):
        with pytest.raises(InvalidUserContext):
            get_websocket_manager(context)
        with pytest.raises(InvalidUserContext):
            await get_websocket_manager_async(context)
    assert get_manager_registry_status()["total_registered_managers"] == 0


async def test_none_is_a_manager_that_reaches_no_named_user() -> None:
    socket = StarletteSocket()
    get_websocket_manager("None").add_connection(socket)
    router = get_websocket_manager(None)
    assert router is get_websocket_manager()
    assert router is not get_websocket_manager("None")
    assert router.user_id is None
    assert not await router.emit_event("agent_started", {})
    assert socket.texts == []


async def test_rapid_creation_makes_one_manager_a_user() -> None:
    managers = [get_websocket_manager({"user_id": f"rapid-{n % 10}"}) for n in range(1000)]
    assert len({id(manager) for manager in managers}) == 10
    assert get_manager_registry_status()["total_registered_managers"] == 10
    again = await asyncio.gather(
        *(get_websocket_manager_async({"user_id": f"rapid-{n % 10}"}) for n in range(100))
    )
    assert {id(m) for m in again} == {id(m) for m in managers}


async def test_mixed_sync_and_async_use() -> None:
    """Half of the code migrated: both forms, plain threads and the loop, one stream of events."""
    context = UserExecutionContext.from_request("mixed-1184", "t", "r")
    socket = StarletteSocket()
    (await get_websocket_manager_async(context)).add_connection(socket)
    get_websocket_manager(context).emit_event("agent_started", {})
    await (await get_websocket_manager_async(context)).emit_event("agent_thinking", {})
    await asyncio.to_thread(lambda: get_websocket_manager(context).emit_event("tool_executing", {}))
    await eventually(lambda: len(socket.texts) == 3)
    assert socket.types == ["agent_started", "agent_thinking", "tool_executing"]


async def test_an_unawaited_emit_is_silent_and_sent() -> None:
    """``if asyncio.iscoroutinefunction(emit): await …; else: emit(…)`` is common in the wild."""
    manager = get_websocket_manager("forgetful-1184")
    socket = StarletteSocket()
    manager.add_connection(socket)
    awaits = asyncio.iscoroutinefunction(manager.emit_event)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if awaits:
            await manager.emit_event("agent_started", {})
        else:
            manager.emit_event("agent_started", {})
        gc.collect()
    assert socket.types == ["agent_started"]


async def test_a_lazy_emit_would_be_noticed() -> None:
    """Control: with an emit that only works when awaited, the check above fails."""
    manager = get_websocket_manager("lazy-1184")
    socket = StarletteSocket()
    manager.add_connection(socket)

    async def lazy(event_type: str, data: object) -> None:
        await manager.emit_event(event_type, data)

    forgotten = lazy("agent_started", {})
    assert socket.types == []
    forgotten.close()


async def test_a_dead_tab_does_not_take_the_event_from_the_others() -> None:
    manager = get_websocket_manager("tabs-1184")
    before, after = StarletteSocket(), StarletteSocket()
    dead = FailingSocket(ConnectionResetError("peer went away"))
    for socket in (before, dead, after):
        manager.add_connection(socket)
    for event_type, data in five_payloads("m"):
        assert await manager.emit_event(event_type, data)
    assert tuple(before.types) == FIVE_EVENTS
    assert tuple(after.types) == FIVE_EVENTS
    assert dead.attempts == 1, "a dead socket was tried again"
    assert len(manager) == 2


async def test_websocket_infrastructure_business_value_protection() -> None:
    """Three users with two tabs each, at once, from threads: each sees its five and no more."""
    users = [f"business-user{n}-1184" for n in range(1, 4)]
    tabs = {user: [StarletteSocket(), StarletteSocket()] for user in users}
    for user, sockets in tabs.items():
        for socket in sockets:
            get_websocket_manager({"user_id": user}).add_connection(socket)

    def agent(user: str) -> None:
        manager = get_websocket_manager({"user_id": user})
        for event_type, data in five_payloads(user):
            manager.emit_event(event_type, data)

    threads = [threading.Thread(target=agent, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user, sockets in tabs.items():
        for socket in sockets:
            await eventually(lambda socket=socket: len(socket.texts) == 5)
            assert tuple(socket.types) == FIVE_EVENTS
            assert {event["payload"]["mark"] for event in socket.events} == {user}


async def test_missing_arguments_of_message_builders_are_told() -> None:
    """The outage's second error: builders called with arguments missing."""
    with pytest.raises(TypeError, match="create_server_message"):
        wsmanager.create_server_message()
    with pytest.raises(TypeError, match="create_error_message"):
        wsmanager.create_error_message()
    with pytest.raises(TypeError, match="create_error_message"):
        wsmanager.create_error_message("CODE_ONLY")


def test_the_bridge_module_is_there() -> None:
    """The outage's third error: "No module named …agent_websocket_bridge"."""
    from wsmanager.bridge import AgentWebSocketBridge

    assert callable(AgentWebSocketBridge)
