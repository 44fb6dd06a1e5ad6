"""Code of the application that runs in the middle of ours and comes back in, in one thread."""

from __future__ import annotations

import asyncio
import collections
import gc
from collections.abc import Callable
from typing import Any

import pytest
from support.sockets import FailingSocket, ReentrantSocket, StarletteSocket
from support.waiting import eventually

import wsmanager
from wsmanager import (
    UnifiedWebSocketManager,
    get_manager_registry_status,
    get_websocket_manager,
)

ACTIONS: dict[str, Callable[[UnifiedWebSocketManager], Any]] = {
    "emit": lambda m: m.emit_event("inner", {}),
    "emit to another user": lambda m: get_websocket_manager("bob").emit_event("inner", {}),
    "broadcast": lambda m: wsmanager.broadcast({"type": "inner"}),
    "add": lambda m: m.add_connection(StarletteSocket()),
    "remove all": lambda m: m.remove_connection_by_user(),
    "close all": lambda m: m.close_all_connections(),
    "reset the registry": lambda m: wsmanager.reset_manager_registry(),
    "make managers": lambda m: [get_websocket_manager(f"new-{n}") for n in range(100)],
    "configure": lambda m: wsmanager.configure(outbox_max_events=7, envelope="flat"),
    "replace _connections": lambda m: setattr(m, "_connections", {}),
    "collect garbage": lambda m: gc.collect(),
    "look at everything": lambda m: (
        repr(m), m.get_stats(), m.metrics, m.active_connections, m.get_connection_health(), len(m)
    ),
}  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
async def test_from_within_a_send(action: str) -> None:
    manager = get_websocket_manager("ann")
    first = StarletteSocket()
    socket = ReentrantSocket(lambda: ACTIONS[action](manager))
    manager.add_connection(first)
    manager.add_connection(socket)
    await asyncio.wait_for(manager.emit_event("outer", {}), 5)
    assert first.types[0] == "outer"
    assert first.types.count("outer") == 1
    fresh = StarletteSocket()
    current = get_websocket_manager("ann")
    current.add_connection(fresh)
    await asyncio.wait_for(current.emit_event("after", {}), 5)
    if action != "replace _connections":
        assert fresh.types == ["after"]


@pytest.mark.parametrize("action", ACTIONS)
async def test_from_the_destructor_of_a_socket(action: str) -> None:
    """The last reference goes inside a removal: the registry is whole before user code runs."""
    manager = get_websocket_manager("ann")
    ran: list[int] = []

    class Dying(StarletteSocket):
        def __del__(self) -> None:
            ran.append(get_manager_registry_status()["total_connections"])
            ACTIONS[action](manager)

    connection_id = manager.add_connection(Dying())
    assert manager.remove_connection(connection_id)
    gc.collect()
    await eventually(lambda: ran)
    assert ran == [0]
    fresh = StarletteSocket()
    current = get_websocket_manager("ann")
    current.add_connection(fresh)
    await current.emit_event("after", {})
    if action != "replace _connections":
        assert fresh.types == ["after"]


@pytest.mark.parametrize("action", ACTIONS)
async def test_from_the_destructor_of_a_payload(action: str) -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)

    class Dying(collections.UserDict):  # type: ignore[type-arg]
        def __del__(self) -> None:
            ACTIONS[action](manager)

    await manager.emit_event("outer", {"value": Dying(a=1)})
    gc.collect()
    assert socket.types[0] == "outer"


async def test_from_a_contexts_destructor_while_managers_are_swept() -> None:
    wsmanager.configure(idle_ttl=0.0, max_idle_users=1)
    revived: list[object] = []

    class Context:
        def __init__(self, name: str) -> None:
            self.user_id = name

        def __del__(self) -> None:
            revived.append(get_websocket_manager(self.user_id))

    for n in range(50):
        get_websocket_manager(Context(f"user-{n}"))
    gc.collect()
    assert len({id(manager) for manager in revived}) == len(revived)
    for n in range(50):
        assert get_websocket_manager(f"user-{n}") is get_websocket_manager(f"user-{n}")


async def test_from_the_envelope_and_the_coalesce_key() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    depth = 0

    def envelope(event: Any) -> Any:
        nonlocal depth
        if depth < 3:
            depth += 1
            manager.emit_event(f"inner-{depth}", {})
        return dict(event)

    wsmanager.configure(envelope=envelope)
    await manager.emit_event("outer", {})
    assert sorted(socket.types) == ["inner-1", "inner-2", "inner-3", "outer"]
    epochs_and_numbers = [event["id"].split(":") for event in socket.events]
    numbers = [int(number) for _, number in epochs_and_numbers]
    assert numbers == sorted(numbers), "ids are in the order of the wire"


async def test_from_the_repr_and_the_hash_of_a_socket() -> None:
    """Neither is asked for; a socket that comes back in from there does no harm."""
    manager = get_websocket_manager("ann")

    class Odd(StarletteSocket):
        def __hash__(self) -> int:
            manager.remove_connection_by_user()
            return 1

        def __eq__(self, other: object) -> bool:
            manager.remove_connection_by_user()
            return True

        def __repr__(self) -> str:
            manager.remove_connection_by_user()
            return "odd"

    for _ in range(3):
        manager.add_connection(Odd())
    assert len(manager) == 3
    manager.get_connection_health()
    repr(manager.active_connections)
    await manager.emit_event("x", {})


REPLACING = """
import gc
import wsmanager

manager = wsmanager.get_websocket_manager("ann")

class Evil:
    def __init__(self, meant):
        self.meant = meant

    def __hash__(self):
        return hash("_connections")

    def __eq__(self, other):
        if self.meant is not None:
            self.meant = None
            manager.__dict__ = {}
            gc.collect()
            junk = [{n: n} for n in range(1000)]
        return False

def look():
    return manager._connections

def put():
    manager._connections = {"mine": 1}

def drop():
    del manager._connections

for action in (look, put, drop):
    for more in range(0, 40, 13):
        manager.__dict__ = {Evil(action): 1, **{str(n): n for n in range(more)}}
        action()
        manager.__dict__ = {}
        assert manager._connections == {}
manager._connections = {"mine": 1}
assert manager._connections == {"mine": 1}
del manager._connections
assert manager._connections == {}
"""


def test_from_a_comparison_that_replaces_the_dict(isolated: Callable[..., Any]) -> None:
    isolated(REPLACING, env={"PYTHONMALLOC": "debug"})


async def test_from_the_report_hook(caplog: pytest.LogCaptureFixture) -> None:
    """A logging handler that emits: the classic way to recurse without end."""
    import logging

    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    calls = 0

    class Emitting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal calls
            calls += 1
            if calls < 50:
                manager.emit_event("log", {"text": record.getMessage()})

    handler = Emitting()
    logger = logging.getLogger("wsmanager")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        for _ in range(5):
            manager.add_connection(FailingSocket(ValueError("bug")))
        await asyncio.wait_for(manager.emit_event("x", {}), 5)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert "x" in socket.types
    assert calls < 50


STEPS: dict[str, Callable[[Any], Any]] = {
    "close": lambda task: task.close(),
    "send": lambda task: task.send(None),
    "next": next,
    "throw": lambda task: task.throw(ValueError("from within")),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
async def test_a_send_that_steps_or_closes_its_own_task(step: str) -> None:
    """Refused, as a coroutine that runs refuses it; the send goes on, and so does the next."""
    manager = get_websocket_manager("ann")
    refused: list[str] = []

    class Closing(StarletteSocket):
        async def send_text(self, data: str) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError) as caught:
                STEPS[step](asyncio.current_task())
            refused.append(str(caught.value))
            await asyncio.sleep(0)
            self.take(data)

    socket = Closing()
    manager.add_connection(socket)
    first, second = manager.emit_event("x", {}), manager.emit_event("y", {})
    assert await second.flushed(5)
    assert socket.types == ["x", "y"]
    assert first.receipt.sent == second.receipt.sent == 1
    assert len(manager) == 1
    assert len(refused) == 2 and all("a send cannot step" in text for text in refused)


async def test_a_send_that_closes_the_very_delivery_it_is_part_of() -> None:
    manager = get_websocket_manager("ann")
    deliveries: list[Any] = []
    late = StarletteSocket()

    class Closing(StarletteSocket):
        async def send_text(self, data: str) -> None:
            await asyncio.sleep(0)
            for delivery in deliveries:
                delivery.close()
            self.take(data)

    closing = Closing()
    manager.add_connection(closing)
    manager.add_connection(late)
    deliveries.append(manager.emit_event("x", {}))
    await eventually(lambda: closing.types == ["x"])
    assert late.types == ["x"]


async def test_endless_recursion_ends_in_an_error_not_in_a_crash() -> None:
    """Each send emits again: the outbox holds what comes, one writer goes through it."""
    manager = get_websocket_manager("ann")
    emitted = 0

    class Endless(StarletteSocket):
        async def send_text(self, data: str) -> None:
            nonlocal emitted
            self.take(data)
            if emitted < 5000:
                emitted += 1
                manager.emit_event("again", {"n": emitted})

    socket = Endless()
    manager.add_connection(socket)
    await manager.emit_event("again", {"n": 0})
    await eventually(lambda: len(socket.texts) == 5001, 20)
    assert [event["payload"]["n"] for event in socket.events] == list(range(5001))


async def test_two_sockets_that_play_ping_pong() -> None:
    manager, other = get_websocket_manager("ann"), get_websocket_manager("bob")
    left = 3000

    class Ping(StarletteSocket):
        def __init__(self, target: UnifiedWebSocketManager) -> None:
            super().__init__()
            self.target = target

        async def send_text(self, data: str) -> None:
            nonlocal left
            self.take(data)
            if left:
                left -= 1
                self.target.emit_event("ball", {})

    ann, bob = Ping(other), Ping(manager)
    manager.add_connection(ann)
    other.add_connection(bob)
    manager.emit_event("ball", {})
    await eventually(lambda: len(ann.texts) + len(bob.texts) == 3001, 20)
