"""Cycles through our objects are collected, and nothing that is in use is."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from support.contexts import PlainContext
from support.loops import LoopThread
from support.sockets import StarletteSocket, SyncSocket
from support.waiting import eventually, turns

import wsmanager
from wsmanager import (
    WebSocketConnection,
    get_websocket_manager,
    get_websocket_manager_async,
    reset_manager_registry,
)
from wsmanager import _wsmanager as core


class Canary:
    """Something that can be seen to die."""


def collect() -> None:
    for _ in range(3):
        gc.collect()


def test_every_type_of_ours_takes_part_in_collection() -> None:
    """A type without Py_TPFLAGS_HAVE_GC that holds objects is a leak that waits for a cycle."""
    have_gc = 1 << 14
    for name in ("UnifiedWebSocketManager", "Connection", "Delivery", "ManagerAcquire", "Channel"):
        assert getattr(core, name).__flags__ & have_gc, name


async def test_a_manager_in_a_cycle_with_its_context() -> None:
    wsmanager.configure(idle_ttl=0.0)
    context = PlainContext("ann")
    manager = get_websocket_manager(context)
    context.manager = manager  # type: ignore[attr-defined]
    manager.canary = canary = Canary()  # type: ignore[attr-defined]
    alive = weakref.ref(canary)
    del canary, context, manager
    reset_manager_registry()
    collect()
    assert alive() is None


async def test_control_what_is_held_elsewhere_is_not_collected() -> None:
    """The check above can fail: with one reference outside, the canary lives."""
    context = PlainContext("ann")
    manager = get_websocket_manager(context)
    context.manager = manager  # type: ignore[attr-defined]
    manager.canary = Canary()  # type: ignore[attr-defined]
    alive = weakref.ref(manager.canary)  # type: ignore[attr-defined]
    del context
    reset_manager_registry()
    collect()
    assert alive() is not None
    del manager
    collect()
    assert alive() is None


def test_control_a_type_that_does_not_visit_is_caught(nursery: Any, run_isolated: Any) -> None:
    assert run_isolated("cycles.py").ok
    outcome = run_isolated("cycles.py", package=nursery.package("NO_VISIT"))
    assert outcome.status == 1, outcome.explain()


async def test_a_socket_that_holds_its_own_connection() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    connection_id = manager.add_connection(
        WebSocketConnection(user_id="ann", websocket=socket, metadata={"socket": socket})
    )
    socket.connection = manager.get_connection(connection_id)  # type: ignore[attr-defined]
    socket.manager = manager  # type: ignore[attr-defined]
    alive = weakref.ref(socket)
    assert manager.remove_connection(connection_id)
    del socket
    collect()
    assert alive() is None


async def test_a_removed_socket_is_freed_without_the_collector() -> None:
    """Without a cycle of the application's own, the reference count alone suffices."""
    manager = get_websocket_manager("ann")
    gc.disable()
    try:
        socket = StarletteSocket()
        alive = weakref.ref(socket)
        connection_id = manager.add_connection(socket)
        await manager.emit_event("x", {})
        manager.remove_connection(connection_id)
        del socket
        await turns(3)
        assert alive() is None
    finally:
        gc.enable()


KEEPS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "until it is acknowledged": {"ack": True},
    "for its idempotency key": {"idempotency_key": "k"},
}  # fmt: skip


@pytest.mark.parametrize("names", KEEPS.values(), ids=KEEPS)
async def test_an_event_for_one_connection_does_not_keep_it(names: dict[str, Any]) -> None:
    """The manager may keep the event; the connection that has left goes by its count alone."""
    manager = get_websocket_manager("ann")
    gc.disable()
    try:
        socket = StarletteSocket()
        alive = weakref.ref(socket)
        connection_id = manager.add_connection(socket)
        await manager.emit_event("x", {}, connection_id=connection_id, **names)
        assert socket.types == ["x"]
        manager.remove_connection(connection_id)
        del socket
        await turns(3)
        assert alive() is None
    finally:
        gc.enable()


async def test_a_delivery_for_one_connection_held_by_its_socket() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    alive = weakref.ref(socket)
    connection_id = manager.add_connection(socket)
    socket.delivery = manager.emit_event("x", {}, connection_id=connection_id)  # type: ignore[attr-defined]
    manager.remove_connection(connection_id)
    del socket
    collect()
    assert alive() is None


@pytest.mark.parametrize("names", KEEPS.values(), ids=KEEPS)
async def test_users_who_got_events_for_one_connection_are_swept(names: dict[str, Any]) -> None:
    wsmanager.configure(idle_ttl=0.0)
    for n in range(50):
        manager = get_websocket_manager(f"user-{n}")
        connection_id = manager.add_connection(StarletteSocket())
        manager.emit_event("x", {}, connection_id=connection_id, **names)
        manager.remove_connection(connection_id)
    for n in range(100):
        get_websocket_manager(f"other-{n}")
    collect()
    assert wsmanager.get_manager_registry_status()["total_registered_managers"] < 40


async def test_a_delivery_is_freed_without_the_collector() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    await manager.emit_event("warm", {})
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(200):
            await manager.emit_event("x", {"a": {}})
            manager.emit_event("x", {"a": {}})
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


async def test_a_delivery_held_by_its_own_socket() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    alive = weakref.ref(socket)
    connection_id = manager.add_connection(socket)
    socket.delivery = manager.emit_event("x", {}, detail=True)  # type: ignore[attr-defined]
    await socket.delivery  # type: ignore[attr-defined]
    manager.remove_connection(connection_id)
    del socket
    collect()
    assert alive() is None


async def test_an_acquire_in_a_cycle() -> None:
    async def check() -> bool:
        await asyncio.sleep(60)
        return True

    wsmanager.configure(availability_check=check, availability_timeout=120)
    canary = Canary()
    alive = weakref.ref(canary)

    async def waiting(keep: object) -> None:
        await get_websocket_manager_async(PlainContext("ann"))

    task = asyncio.create_task(waiting(canary))
    canary.task = task  # type: ignore[attr-defined]
    await turns(3)
    task.cancel()
    await asyncio.wait([task])
    del task, canary
    await turns(3)
    collect()
    assert alive() is None


async def test_the_settings_let_go_of_what_they_held() -> None:
    class Check(Canary):
        async def __call__(self) -> bool:
            return True

    check = Check()
    alive = weakref.ref(check)
    wsmanager.configure(availability_check=check, envelope=lambda e, c=check: dict(e))
    del check
    collect()
    assert alive() is not None
    wsmanager.configure(availability_check=None, envelope="payload")
    collect()
    assert alive() is None


def test_a_connected_user_is_kept_by_the_registry_alone(loop_thread: LoopThread) -> None:
    """Nobody holds the manager; its connection and its attributes stay, whatever is collected."""
    socket = SyncSocket()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket, loop=loop_thread.loop)
    manager.note = "kept"  # type: ignore[attr-defined]
    del manager
    for n in range(200):
        get_websocket_manager(f"other-{n}")
    collect()
    assert get_websocket_manager("ann").note == "kept"  # type: ignore[attr-defined]
    assert len(get_websocket_manager("ann")) == 1


async def test_collection_in_the_middle_of_a_fan_out() -> None:
    """A full collection inside each send: what the fan-out holds on its stack stays alive."""
    manager = get_websocket_manager("ann")

    class Collecting(StarletteSocket):
        async def send_text(self, data: str) -> None:
            gc.collect()
            await asyncio.sleep(0)
            gc.collect()
            self.take(data)

    sockets = [Collecting() for _ in range(5)]
    for socket in sockets:
        manager.add_connection(socket)
    for n in range(5):
        manager.emit_event("x", {"n": n})
    for socket in sockets:
        await eventually(lambda socket=socket: len(socket.texts) == 5, timeout=60)


async def test_weak_references_to_a_manager_die_with_it() -> None:
    wsmanager.configure(idle_ttl=0.0)
    called: list[object] = []
    reference = weakref.ref(get_websocket_manager("ann"), called.append)
    reset_manager_registry()
    collect()
    assert reference() is None
    assert called == [reference]


@pytest.mark.parametrize("threshold", [1, 3])
async def test_with_the_collector_at_its_most_eager(threshold: int) -> None:
    """A collection at every allocation: objects are complete before they are tracked."""
    before = gc.get_threshold()
    gc.set_threshold(threshold, 1, 1)
    try:
        manager = await get_websocket_manager_async({"user_id": "ann"})
        for n in range(20):
            socket = StarletteSocket()
            connection_id = manager.add_connection(socket)
            await manager.emit_event("x", {"n": n, "list": [1, [2]]}, detail=True)
            assert socket.events[0]["payload"]["n"] == n
            assert manager.remove_connection(connection_id)
    finally:
        gc.set_threshold(*before)
