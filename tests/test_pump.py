"""One event to many objects whose send is a coroutine: each send is booked on its own connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from support.children import Outcome
from support.plants import Nursery
from support.sockets import (
    AiohttpSocket,
    FailingSocket,
    Inbox,
    StarletteSocket,
    SyncSocket,
    WebsocketsSocket,
)

from wsmanager import get_websocket_manager

Isolated = Callable[..., Outcome]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sends_that_end_in_every_way_are_booked_right(isolated: Isolated, seed: int) -> None:
    assert "wrong 0" in isolated("pump.py", 300, 40, seed, timeout=110).out


@pytest.mark.parametrize("bug", ["PUMP_TWICE", "PUMP_CONTEXT", "PUMP_BLANK"])
def test_control_a_send_booked_wrong_is_seen(
    bug: str, nursery: Nursery, run_isolated: Isolated
) -> None:
    outcome = run_isolated("pump.py", 300, 40, 1, package=nursery.package(bug), timeout=110)
    assert outcome.status == 1, outcome.explain()


@pytest.mark.parametrize("kind", [StarletteSocket, WebsocketsSocket, AiohttpSocket])
async def test_many_of_one_library_get_each_event_once(kind: type[Inbox]) -> None:
    manager = get_websocket_manager("ann")
    sockets = [kind() for _ in range(20)]
    for socket in sockets:
        manager.add_connection(socket)
    for n in range(5):
        assert (await manager.emit_event(f"e{n}", {})).sent == 20
    assert all(socket.types == [f"e{n}" for n in range(5)] for socket in sockets)


async def test_libraries_side_by_side() -> None:
    manager = get_websocket_manager("ann")
    kinds: list[type[Inbox]] = [StarletteSocket, WebsocketsSocket, AiohttpSocket, SyncSocket]
    sockets = [kind() for kind in kinds for _ in range(6)]
    sockets += [kind() for _ in range(6) for kind in kinds]
    for socket in sockets:
        manager.add_connection(socket)
    for _ in range(4):
        assert (await manager.emit_event("x", {})).sent == len(sockets)
    assert all(len(socket.texts) == 4 for socket in sockets)


async def test_the_dead_among_many_are_removed_and_the_others_served() -> None:
    manager = get_websocket_manager("ann")
    sockets: list[StarletteSocket] = []
    for n in range(30):
        dead = FailingSocket(ConnectionResetError(), times=None)
        sockets.append(dead if n % 7 == 3 else StarletteSocket())
    living = [socket for socket in sockets if not isinstance(socket, FailingSocket)]
    for socket in living:
        manager.add_connection(socket)
    await manager.emit_event("warm", {})  # from now on they are known to be coroutines
    for socket in sockets:
        if socket not in living:
            manager.add_connection(socket)
    receipt = await manager.emit_event("x", {})
    assert (receipt.sent, receipt.failed) == (len(living), len(sockets) - len(living))
    assert len(manager) == len(living)
    assert all(socket.types == ["warm", "x"] for socket in living)


class Leaving(StarletteSocket):
    """Its send takes another connection out of the manager."""

    other: str | None = None

    async def send_text(self, data: str) -> None:
        self.take(data)
        if self.other is not None:
            get_websocket_manager("ann").remove_connection(self.other)


async def test_a_connection_removed_by_the_send_before_its_own() -> None:
    manager = get_websocket_manager("ann")
    sockets = [Leaving() for _ in range(10)]
    for n, socket in enumerate(sockets):
        manager.add_connection(socket, f"c{n}")
    await manager.emit_event("a", {})
    sockets[3].other = "c7"
    receipt = await manager.emit_event("b", {})
    assert receipt.sent + receipt.failed == 10
    assert receipt.sent == sum("b" in socket.types for socket in sockets)
    sockets[3].other = None
    assert (await manager.emit_event("c", {})).sent == 9
    assert "c" not in sockets[7].types


class Interrupting(StarletteSocket):
    """Raises KeyboardInterrupt once, when told to."""

    armed = False

    async def send_text(self, data: str) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        self.take(data)


async def test_an_interrupt_in_one_send_reaches_the_caller_and_the_others_their_event() -> None:
    manager = get_websocket_manager("ann")
    sockets = [Interrupting() for _ in range(12)]
    for socket in sockets:
        manager.add_connection(socket)
    await manager.emit_event("a", {})
    sockets[5].armed = True
    with pytest.raises(KeyboardInterrupt):
        manager.emit_event("b", {})
    assert [socket.types for socket in sockets].count(["a", "b"]) == 11
    assert (await manager.emit_event("c", {})).sent == 12


async def test_a_timeout_inside_a_send_ends_that_send_alone() -> None:
    class Patient(StarletteSocket):
        slow = False

        async def send_text(self, data: str) -> None:
            if self.slow:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            self.take(data)

    manager = get_websocket_manager("ann")
    sockets = [Patient() for _ in range(10)]
    for socket in sockets:
        manager.add_connection(socket)
    await manager.emit_event("a", {})
    sockets[2].slow = sockets[8].slow = True
    delivery = manager.emit_event("b", {})
    assert (delivery.receipt.sent, delivery.receipt.queued) == (8, 2)
    assert await delivery.flushed(5)
    assert delivery.receipt.sent == 10
    assert all(socket.types == ["a", "b"] for socket in sockets)
