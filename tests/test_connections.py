"""Connections of a user: added, found, moved between chats and removed, each by its generation."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock, NonCallableMagicMock, create_autospec

import pytest
from support.loops import LoopThread
from support.sockets import (
    LIBRARY_SHAPES,
    FailingSocket,
    HangingSocket,
    Inbox,
    StarletteSocket,
    SyncSocket,
    WebSocketState,
)
from support.waiting import eventually

import wsmanager
from wsmanager import (
    ConnectionNotFound,
    UserIsolationError,
    WebSocketConnection,
    get_manager_registry_status,
    get_websocket_manager,
)

# -- adding ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", LIBRARY_SHAPES, ids=lambda shape: shape.__name__)
async def test_every_librarys_socket(shape: type[Inbox]) -> None:
    manager = get_websocket_manager("ann")
    socket = shape()
    connection_id = manager.add_connection(socket)
    assert isinstance(connection_id, str)
    assert await manager.emit_event("x", {"n": 1})
    await eventually(lambda: socket.types == ["x"])
    assert manager.get_connection(connection_id).websocket is socket  # type: ignore[union-attr]


@pytest.mark.parametrize("nothing", [None, 5, "text", object(), [], {}])
async def test_what_can_send_nothing_is_refused(nothing: Any) -> None:
    manager = get_websocket_manager("ann")
    with pytest.raises((TypeError, ValueError)):
        manager.add_connection(nothing)
    assert len(manager) == 0


async def plain_coroutine(*_: object) -> None:
    """An async function that is no mock."""


MOCKS: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing said": (MagicMock, "send_text"),
    "all async": (AsyncMock, "send_text"),
    "send_json": (lambda: MagicMock(send_json=AsyncMock()), "send_json"),
    "send": (lambda: MagicMock(send=AsyncMock()), "send"),
    "send_str": (lambda: MagicMock(send_str=AsyncMock()), "send_str"),
    "two of them": (lambda: MagicMock(send=AsyncMock(), send_json=AsyncMock()), "send"),
    "not callable": (lambda: NonCallableMagicMock(send_json=AsyncMock()), "send_json"),
    "a function": (lambda: MagicMock(send_json=plain_coroutine), ""),
    "a spec": (lambda: MagicMock(spec=["send_json"], send_json=AsyncMock()), "send_json"),
    "a plain spec": (lambda: MagicMock(spec=["send", "send_json"]), "send"),
    "a spec of a library's": (lambda: create_autospec(StarletteSocket)(), "send_text"),
}


@pytest.mark.parametrize("name", MOCKS)
async def test_the_method_that_is_meant_of_a_mock(name: str) -> None:
    """It has every method; those that somebody made async are the ones to be awaited."""
    make, meant = MOCKS[name]
    socket = make()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket)
    assert await manager.emit_event("x", {"n": 1})
    used = {call[0] for call in socket.mock_calls} & {
        "send_text", "send_str", "send", "send_json"
    }  # fmt: skip
    assert used == ({meant} if meant else set())
    assert len(manager) == 1


async def test_what_is_no_mock_is_taken_in_the_usual_order() -> None:
    class Both(SyncSocket):
        async def send_json(self, data: object) -> None:
            raise AssertionError("send_text comes first")

    manager = get_websocket_manager("ann")
    socket = Both()
    manager.add_connection(socket)
    assert await manager.emit_event("x", {})
    assert socket.types == ["x"]


def test_without_a_loop_it_says_so() -> None:
    manager = get_websocket_manager("ann")
    with pytest.raises(RuntimeError, match="loop"):
        manager.add_connection(StarletteSocket())
    assert len(manager) == 0


def test_the_loop_may_be_named(loop_thread: LoopThread) -> None:
    manager = get_websocket_manager("ann")
    connection_id = manager.add_connection(StarletteSocket(), loop=loop_thread.loop)
    assert manager.get_connection(connection_id).loop is loop_thread.loop  # type: ignore[union-attr]


async def test_it_is_bound_to_the_running_loop() -> None:
    manager = get_websocket_manager("ann")
    connection = manager.get_connection(manager.add_connection(StarletteSocket()))
    assert connection is not None
    assert connection.loop is asyncio.get_running_loop()
    assert connection.is_active is True
    assert connection.channel == "generic"
    assert connection.user_id == "ann"
    assert connection.connected_at > 1_700_000_000


async def test_own_ids_and_generated_ones() -> None:
    manager = get_websocket_manager("ann")
    assert manager.add_connection(StarletteSocket(), "mine") == "mine"
    assert manager.add_connection(StarletteSocket(), connection_id="second") == "second"
    generated = {manager.add_connection(StarletteSocket()) for _ in range(100)}
    assert len(generated) == 100
    assert manager.get_user_connections() == {"mine", "second", *generated}


@pytest.mark.parametrize("wrong", [5, b"x", 1.5])
async def test_ids_that_are_none(wrong: Any) -> None:
    manager = get_websocket_manager("ann")
    with pytest.raises((TypeError, ValueError)):
        manager.add_connection(StarletteSocket(), connection_id=wrong)
    assert len(manager) == 0


async def test_the_dataclass_of_the_application() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    record = WebSocketConnection(
        user_id="ann", websocket=socket, connection_id="c-1", thread_id="chat"
    )
    assert dataclasses.is_dataclass(record)
    assert await manager.add_connection(record) == "c-1"
    await manager.send_to_thread("chat", {"type": "x"})
    assert socket.types == ["x"]
    assert manager.get_connection("c-1").websocket is socket  # type: ignore[union-attr]


async def test_the_dataclass_of_another_user_is_refused() -> None:
    with pytest.raises(UserIsolationError):
        get_websocket_manager("ann").add_connection(
            WebSocketConnection(user_id="bob", websocket=StarletteSocket())
        )
    assert get_manager_registry_status()["total_connections"] == 0


async def test_the_manager_of_none_routes_the_dataclass() -> None:
    socket = StarletteSocket()
    router = get_websocket_manager(None)
    connection_id = router.add_connection(WebSocketConnection(user_id="bob", websocket=socket))
    assert get_websocket_manager("bob").get_user_connections() == {connection_id}
    await get_websocket_manager("bob").emit_event("own", {})
    await router.send_to_user("bob", {"type": "routed"})
    assert socket.types == ["own", "routed"]
    assert router.remove_connection(connection_id)
    assert len(get_websocket_manager("bob")) == 0


async def test_one_socket_belongs_to_one_user() -> None:
    socket = StarletteSocket()
    get_websocket_manager("ann").add_connection(socket)
    with pytest.raises(UserIsolationError):
        get_websocket_manager("bob").add_connection(socket)
    assert len(get_websocket_manager("bob")) == 0


async def test_the_same_socket_again_is_one_connection() -> None:
    """Added twice by two layers of an application: the user must not see each event twice."""
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    with contextlib.suppress(ValueError, wsmanager.WebSocketManagerError):
        manager.add_connection(socket)
    await manager.emit_event("x", {})
    assert socket.types == ["x"]


async def test_sockets_are_told_apart_by_identity() -> None:
    class Equal(StarletteSocket):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    manager, other = get_websocket_manager("ann"), get_websocket_manager("bob")
    first, second, third = Equal(), Equal(), Equal()
    ids = [manager.add_connection(first), manager.add_connection(second)]
    other.add_connection(third)
    assert manager.get_connection_id_by_websocket(first) == ids[0]
    assert manager.get_connection_id_by_websocket(second) == ids[1]
    assert manager.get_connection_id_by_websocket(third) is None


async def test_unhashable_sockets_are_fine() -> None:
    class Unhashable(StarletteSocket):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("never compare")

    manager = get_websocket_manager("ann")
    socket = Unhashable()
    connection_id = manager.add_connection(socket)
    assert manager.get_connection_id_by_websocket(socket) == connection_id


# -- removing, by generation ----------------------------------------------------


async def test_removing() -> None:
    manager = get_websocket_manager("ann")
    sockets = [StarletteSocket() for _ in range(3)]
    ids = [manager.add_connection(socket) for socket in sockets]
    assert manager.remove_connection(ids[0])
    assert manager.remove_connection(manager.get_connection(ids[1]))
    assert manager.remove_connection(sockets[2])
    assert len(manager) == 0
    await manager.emit_event("x", {})
    assert [socket.texts for socket in sockets] == [[], [], []]


async def test_removing_what_is_not_there_is_false() -> None:
    manager = get_websocket_manager("ann")
    connection_id = manager.add_connection(StarletteSocket())
    assert manager.remove_connection("no-such-id").value is False
    assert manager.remove_connection(connection_id).value is True
    assert manager.remove_connection(connection_id).value is False
    assert manager.remove_connection(StarletteSocket()).value is False


async def test_an_old_connection_never_removes_its_successor() -> None:
    """Page reload with one fixed id: the old handler's cleanup runs after the new one is up."""
    manager = get_websocket_manager("ann")
    old_id = manager.add_connection(StarletteSocket(), connection_id="browser-1")
    old = manager.get_connection(old_id)
    new_socket = StarletteSocket()
    new_id = manager.add_connection(new_socket, connection_id="browser-1")
    assert new_id == old_id == "browser-1"
    assert new_id.generation > old_id.generation
    assert not manager.remove_connection(old_id)
    assert not manager.remove_connection(old)
    await manager.emit_event("x", {})
    assert new_socket.types == ["x"]
    assert manager.remove_connection(new_id)
    assert len(manager) == 0


async def test_a_manager_removes_only_its_own() -> None:
    manager, other = get_websocket_manager("ann"), get_websocket_manager("bob")
    socket = StarletteSocket()
    connection_id = manager.add_connection(socket, connection_id="shared-name")
    connection = manager.get_connection(connection_id)
    for argument in (connection_id, "shared-name", connection, socket):
        with contextlib.suppress(UserIsolationError):
            assert not other.remove_connection(argument)
    assert len(manager) == 1
    assert other.get_connection(connection_id) is None
    assert other.get_connection_id_by_websocket(socket) is None


async def test_connect_and_disconnect_user() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    connection_id = await manager.connect_user("ann", socket)
    assert manager.is_connection_active("ann")
    assert manager.get_connection(connection_id).websocket is socket  # type: ignore[union-attr]
    assert await manager.disconnect_user("ann") == 1
    await eventually(lambda: socket.closed_with is not None)
    assert socket.closed_with == (1000, "")
    assert not manager.is_connection_active("ann")


async def test_connect_user_needs_a_socket_and_its_own_user() -> None:
    manager = get_websocket_manager("ann")
    with pytest.raises(ValueError, match="websocket"):
        manager.connect_user("ann", None)
    with pytest.raises(UserIsolationError):
        manager.connect_user("bob", StarletteSocket())
    with pytest.raises(UserIsolationError):
        manager.disconnect_user("bob")
    assert len(manager) == 0


async def test_disconnecting_one_socket_of_two() -> None:
    manager = get_websocket_manager("ann")
    gone, kept = StarletteSocket(), StarletteSocket()
    manager.add_connection(gone)
    manager.add_connection(kept)
    assert manager.disconnect_user("ann", gone, code=4001, reason="elsewhere") == 1
    await eventually(lambda: gone.closed_with == (4001, "elsewhere"))
    assert kept.closed_with is None
    assert len(manager) == 1


async def test_close_all_connections() -> None:
    manager = get_websocket_manager("ann")
    sockets = [shape() for shape in LIBRARY_SHAPES]
    for socket in sockets:
        manager.add_connection(socket)
    assert await manager.close_all_connections(code=1001, reason="restart") == len(sockets)
    assert len(manager) == 0
    able = [s for s in sockets if hasattr(s, "close")]
    await eventually(lambda: all(s.closed_with == (1001, "restart") for s in able))
    assert manager.close_all_connections() == 0


async def test_remove_connection_by_user() -> None:
    manager = get_websocket_manager("ann")
    for _ in range(3):
        manager.add_connection(StarletteSocket())
    with pytest.raises(UserIsolationError):
        manager.remove_connection_by_user("bob")
    assert manager.remove_connection_by_user("ann") == 3
    assert manager.remove_connection_by_user() == 0


async def test_closing_a_socket_that_fails_to_close() -> None:
    class Stubborn(StarletteSocket):
        async def close(self, code: int = 1000, reason: str | None = None) -> None:
            raise RuntimeError('Cannot call "send" once a close message has been sent.')

    manager = get_websocket_manager("ann")
    manager.add_connection(Stubborn())
    other = StarletteSocket()
    manager.add_connection(other)
    assert await manager.close_all_connections() == 2
    await eventually(lambda: other.closed_with is not None)
    assert len(manager) == 0


# -- what there is --------------------------------------------------------------


async def test_looking_things_up() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    connection_id = manager.add_connection(socket, thread_id="chat")
    assert manager.get_connection("no-such-id") is None
    assert manager.get_user_connections() == {connection_id}
    assert manager.get_user_connections("ann") == {connection_id}
    with pytest.raises(UserIsolationError):
        manager.get_user_connections("bob")
    assert manager.get_connection_id_by_websocket(socket) == connection_id
    assert manager.get_connection_id_by_websocket(StarletteSocket()) is None
    assert dict(manager.active_connections).keys() == {connection_id}
    assert len(manager) == 1
    assert bool(manager) is True


async def test_an_empty_manager_is_true() -> None:
    """``if not manager:`` guards of the wild must not take a fresh manager for a missing one."""
    manager = get_websocket_manager("ann")
    assert len(manager) == 0
    assert bool(manager) is True


async def test_what_is_handed_out_is_a_copy() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    manager.get_user_connections().clear()
    manager.active_connections.clear()
    assert len(manager) == 1
    assert manager.is_connection_active()


async def test_moving_a_connection_between_chats() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    connection_id = manager.add_connection(socket, thread_id="one")
    assert manager.update_connection_thread(connection_id, "two") is True
    assert not await manager.send_to_thread("one", {"type": "x"})
    assert await manager.send_to_thread("two", {"type": "y"})
    assert socket.types == ["y"]
    assert manager.update_connection_thread(connection_id, None) is True
    assert not await manager.send_to_thread("two", {"type": "z"})
    assert manager.update_connection_thread("no-such-id", "two") is False


async def test_health_tells_channel_and_counts() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket(), connection_id="c-1")
    health = manager.get_connection_health()
    assert isinstance(health, dict)
    assert "generic" in repr(health)
    assert "c-1" in repr(health)
    with pytest.raises(UserIsolationError):
        manager.get_connection_health("bob")


async def test_stats_count_what_happened() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    manager.add_connection(StarletteSocket())
    before = manager.get_stats()
    assert isinstance(before, dict)
    assert before["total_connections"] == 2
    for _ in range(3):
        await manager.emit_event("x", {})
    assert "ann" not in {str(value) for value in get_manager_registry_status().values()}


async def test_is_connection_active() -> None:
    manager = get_websocket_manager("ann")
    assert manager.is_connection_active() is False
    connection_id = manager.add_connection(StarletteSocket())
    assert manager.is_connection_active() is True
    assert manager.is_connection_active("ann") is True
    with pytest.raises(UserIsolationError):
        manager.is_connection_active("bob")
    manager.remove_connection(connection_id)
    assert manager.is_connection_active() is False


# -- waiting for a connection ---------------------------------------------------


async def test_wait_for_connection() -> None:
    manager = get_websocket_manager("ann")
    assert await manager.wait_for_connection(0.02) is False
    waiting = asyncio.ensure_future(manager.wait_for_connection(5))
    await asyncio.sleep(0)
    manager.add_connection(StarletteSocket())
    assert await waiting is True
    assert await manager.wait_for_connection() is True


async def test_wait_for_connection_by_many_and_from_other_loops(loop_thread: LoopThread) -> None:
    manager = get_websocket_manager("ann")

    async def wait() -> bool:
        return await manager.wait_for_connection(5)

    there = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(wait(), loop_thread.loop))
    here = [asyncio.create_task(wait()) for _ in range(5)]
    await asyncio.sleep(0.02)
    await asyncio.to_thread(manager.add_connection, StarletteSocket(), loop=loop_thread.loop)
    assert await asyncio.wait_for(asyncio.gather(there, *here), 5) == [True] * 6


async def test_a_cancelled_waiter_is_forgotten() -> None:
    manager = get_websocket_manager("ann")
    waiting = asyncio.ensure_future(manager.wait_for_connection(60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    manager.add_connection(StarletteSocket())
    assert await manager.wait_for_connection(1) is True


# -- the manager as an object ---------------------------------------------------


async def test_the_manager_as_an_object() -> None:
    manager = get_websocket_manager({"user_id": "secret-user", "token": "canary-token"})
    manager.note = 1  # type: ignore[attr-defined]
    assert manager.__dict__["note"] == 1
    assert weakref.ref(manager)() is manager
    assert "canary-token" not in repr(manager)
    assert "UnifiedWebSocketManager" in repr(manager)
    assert hash(manager) == hash(manager)
    assert {manager: 1}[manager] == 1
    for name in ("user_id", "mode", "service_available", "user_context"):
        with pytest.raises(AttributeError):
            setattr(manager, name, "forged")


async def test_reprs_carry_no_payload() -> None:
    manager = get_websocket_manager("ann")
    connection = manager.get_connection(manager.add_connection(StarletteSocket(), thread_id="chat"))
    delivery = manager.emit_event("x", {"secret": "canary-payload"})
    for thing in (connection, delivery, await delivery, manager.remove_connection("none")):
        assert "canary-payload" not in repr(thing)
        assert len(repr(thing)) < 500


async def test_unknown_connections_have_a_named_error() -> None:
    manager = get_websocket_manager("ann")
    with pytest.raises((ConnectionNotFound, UserIsolationError)):
        await manager.send_message("no-such-connection", {"type": "x"})


# -- threads --------------------------------------------------------------------


def test_adding_and_removing_from_many_threads(
    loop_thread: LoopThread, fast_switches: None
) -> None:
    """Eight threads churn one user; what is left is exactly what was not removed."""
    manager = get_websocket_manager("ann")
    barrier = threading.Barrier(8)
    kept: list[str] = []

    def churn(number: int) -> None:
        barrier.wait()
        for n in range(50):
            connection_id = manager.add_connection(SyncSocket(), loop=loop_thread.loop)
            manager.emit_event("x", {})
            if n % 5:
                assert manager.remove_connection(connection_id)
            else:
                kept.append(connection_id)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert manager.get_user_connections() == set(kept)
    assert len(manager) == 80
    assert get_manager_registry_status()["total_connections"] == 80


async def test_removing_a_connection_ends_its_hanging_send() -> None:
    """It may finish what it has begun, within the age limit; then nobody waits for it any more."""
    wsmanager.configure(outbox_max_age=0.1)
    manager = get_websocket_manager("ann")
    hanging = HangingSocket()
    connection_id = manager.add_connection(hanging)
    delivery = manager.emit_event("x", {})
    await eventually(lambda: hanging.entered)
    manager.remove_connection(connection_id)
    await eventually(lambda: hanging.cancelled == 1)
    assert await asyncio.wait_for(delivery.flushed(5), 5) is not None


async def test_a_failing_socket_is_counted_and_evicted_after_its_limit() -> None:
    wsmanager.configure(error_limit=3)
    manager = get_websocket_manager("ann")
    failing = FailingSocket(ValueError("application bug"))
    manager.add_connection(failing)
    for n in range(3):
        assert len(manager) == 1, f"evicted after {n} errors"
        receipt = await manager.emit_event("x", {})
        assert receipt.failed == 1
    assert len(manager) == 0
    assert failing.attempts == 3
    await eventually(lambda: failing.closed_with == (1011, "send failed"))


async def test_a_send_before_the_handshakes_answer_is_no_error_of_the_socket() -> None:
    """Starlette refuses it until accept(); after it the connection is as good as any."""
    wsmanager.configure(error_limit=3)
    manager = get_websocket_manager("ann")
    early = FailingSocket(RuntimeError('Expected ASGI message "websocket.accept"'), times=5)
    early.application_state = WebSocketState.CONNECTING
    manager.add_connection(early)
    for _ in range(5):
        assert (await manager.emit_event("x", {})).failed == 1
    assert len(manager) == 1
    assert early.closed_with is None
    early.application_state = WebSocketState.CONNECTED
    assert (await manager.emit_event("y", {})).sent == 1
    assert early.types == ["y"]


async def test_a_socket_that_recovers_is_kept() -> None:
    wsmanager.configure(error_limit=3)
    manager = get_websocket_manager("ann")
    flaky = FailingSocket(ValueError("once"), times=2)
    manager.add_connection(flaky)
    for _ in range(5):
        await manager.emit_event("x", {})
    assert len(manager) == 1
    assert len(flaky.texts) == 3


async def test_an_empty_connection_id_is_refused() -> None:
    with pytest.raises(ValueError, match="connection_id is empty"):
        get_websocket_manager("ann").add_connection(StarletteSocket(), "")


async def test_a_loop_that_is_none_is_named() -> None:
    with pytest.raises(TypeError, match="loop must be an event loop, not str"):
        get_websocket_manager("ann").add_connection(StarletteSocket(), loop="x")  # type: ignore[arg-type]
