"""F10: KeyboardInterrupt at any moment leaves a registry that is whole and heals itself."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.loops import LoopThread
from support.sockets import FailingSocket, Inbox, StarletteSocket
from support.waiting import eventually, eventually_sync, turns

from wsmanager import _hooks, events, get_websocket_manager


@pytest.mark.timeout(120)
def test_interrupts_leave_no_stray_connection(isolated: Callable[..., Any]) -> None:
    """Timers that interrupt add, emit and remove; closed sockets are gone after one sweep."""
    outcome = isolated("interrupts.py", 400, timeout=100)
    assert "strays 0 uneven 0 swallowed 0" in outcome.out


@pytest.mark.timeout(120)
def test_control_a_core_that_keeps_strays_is_caught(
    nursery: Any, run_isolated: Callable[..., Any]
) -> None:
    outcome = run_isolated("interrupts.py", 400, package=nursery.package("KEEP_STRAY"), timeout=100)
    assert outcome.status == 1, outcome.explain()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_twenty_thousand_interrupts(isolated: Callable[..., Any]) -> None:
    assert "strays 0" in isolated("interrupts.py", 20_000, timeout=1700).out


class Struck(asyncio.SelectorEventLoop):
    """Its next calls by the core raise what is in *errors*, before or after the deed."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self.late = False

    def _strike(self, ours: bool) -> None:
        if ours and self.errors:
            raise self.errors.pop()

    def call_soon_threadsafe(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        ours = type(callback).__name__ == "Mailbox"
        self._strike(ours and not self.late)
        handle = super().call_soon_threadsafe(callback, *args, **kwargs)
        self._strike(ours and self.late)
        return handle

    def call_soon(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        self._strike(type(callback).__name__ == "Mailbox")
        return super().call_soon(callback, *args, **kwargs)

    def is_closed(self) -> bool:
        self._strike(threading.current_thread() is threading.main_thread())
        return super().is_closed()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: seen.append(found.exc_value))
    return seen


def interrupted(function: Callable[[], object]) -> None:
    """Call it, and let what was put back be raised."""
    with pytest.raises(KeyboardInterrupt):
        function()
        for _ in range(1000):
            time.sleep(0)


@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_that_strikes_a_wake_up_costs_neither(
    late: bool, unraisable: list[Any]
) -> None:
    with LoopThread(Struck) as loop_thread:
        manager = get_websocket_manager("ann")
        socket = StarletteSocket()
        manager.add_connection(socket, loop=loop_thread.loop)
        manager.emit_event("one", {})
        eventually_sync(lambda: socket.types == ["one"])
        loop_thread.loop.late = late
        loop_thread.loop.errors = [KeyboardInterrupt()]
        interrupted(lambda: manager.emit_event("two", {}))
        eventually_sync(lambda: socket.types == ["one", "two"])
    assert unraisable == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_after_a_wake_up_that_failed_any_emit_wakes(
    error: type[BaseException], unraisable: list[Any]
) -> None:
    """Be it to the connection that waits already, or to another one of the loop."""
    with LoopThread(Struck) as loop_thread:
        sockets = {user: StarletteSocket() for user in ("ann", "bob")}
        for user, socket in sockets.items():
            get_websocket_manager(user).add_connection(socket, loop=loop_thread.loop)
        for number, user in enumerate(("ann", "bob"), 1):
            # An interrupt each time that it is tried: to arm, and to ask whether it is closed.
            loop_thread.loop.errors = [
                error() for _ in range(3 if error is KeyboardInterrupt else 1)
            ]
            emit = functools.partial(get_websocket_manager("ann").emit_event, "x", {})
            if error is KeyboardInterrupt:
                interrupted(emit)
            else:
                emit()
            assert loop_thread.loop.errors == []
            get_websocket_manager(user).emit_event("y", {})
            eventually_sync(lambda number=number: sockets["ann"].types.count("x") == number)
            eventually_sync(lambda user=user: "y" in sockets[user].types)
    assert [type(each) for each in unraisable] == [MemoryError] * (2 if error is MemoryError else 0)


def test_after_a_turn_that_was_not_given_any_emit_asks_again(unraisable: list[Any]) -> None:
    """On the loop's own thread."""

    async def main() -> None:
        manager = get_websocket_manager("ann")
        first, second = StarletteSocket(), StarletteSocket()
        first_id = manager.add_connection(first)
        await manager.emit_event("one", {})
        manager.remove_connection(first_id)
        manager.emit_event("two", {})
        loop.errors = [MemoryError()]
        manager.add_connection(second, resume=first.events[0]["id"])
        assert loop.errors == []
        await turns()
        assert second.types == []
        manager.emit_event("three", {})
        await eventually(lambda: second.types == ["resumed", "two", "three"])

    loop = Struck()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert [type(each) for each in unraisable] == [MemoryError]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_inside_a_send_is_the_emitters(error: type[BaseException]) -> None:
    """Raised by Ctrl-C while a socket's code runs: not swallowed, and the others have the event."""
    manager = get_websocket_manager("ann")
    before, after = StarletteSocket(), StarletteSocket()
    manager.add_connection(before)
    manager.add_connection(FailingSocket(error(), times=1))
    manager.add_connection(after)
    with pytest.raises(error):
        manager.emit_event("x", {})
        await turns(2)
    await eventually(lambda: before.types == ["x"] and after.types == ["x"])
    await manager.emit_event("y", {})
    assert before.types == after.types == ["x", "y"]


@pytest.mark.parametrize("after", range(8))
async def test_cancellation_at_each_turn_of_an_emitting_task(after: int) -> None:
    """A task that connects, emits and disconnects, cancelled after n turns: all or nothing."""
    manager = get_websocket_manager("ann")
    steady = StarletteSocket()
    manager.add_connection(steady)

    async def session() -> None:
        socket = StarletteSocket()
        connection_id = await manager.add_connection(socket)
        try:
            await asyncio.sleep(0)
            await manager.emit_event("one", {})
            await asyncio.sleep(0)
            await manager.emit_event("two", {})
            await manager.emit_event("slow", {}).flushed(1)
            await asyncio.sleep(0)
        finally:
            await manager.remove_connection(connection_id)

    task = asyncio.create_task(session())
    await turns(after)
    task.cancel()
    await asyncio.wait([task])
    await turns(3)
    assert len(manager) == 1
    assert steady.types in ([], ["one"], ["one", "two"], ["one", "two", "slow"])
    await manager.emit_event("end", {})
    assert steady.types[-1] == "end"


async def test_an_interrupt_in_the_encoder_is_the_emitters() -> None:
    """And nobody has got the event."""
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    pending: list[type[BaseException]] = [KeyboardInterrupt, SystemExit]

    def encode(value: object) -> bytes:
        if pending:
            raise pending.pop()
        return events.encode(value)

    _hooks.core._install(encode=encode)
    try:
        with pytest.raises(SystemExit):
            manager.emit_event("x", {})
        with pytest.raises(KeyboardInterrupt):
            manager.emit_event("x", {})
        await manager.emit_event("y", {})
    finally:
        _hooks.core._install(encode=events.encode)
    assert socket.types == ["y"]


@pytest.fixture
def interrupts() -> Iterator[list[int]]:
    """What came as SIGINT, in place of an exception."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGINT, before)


class Interrupting:
    """Raises KeyboardInterrupt, as a Ctrl-C in the code of a property would, the first time."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *_: object) -> str:
        self.asked += 1
        if self.asked == 1:
            raise KeyboardInterrupt
        return ""


@pytest.mark.parametrize("name", ["client_state", "application_state", "closed", "close_code"])
async def test_an_interrupt_in_a_property_of_a_socket_is_not_lost(
    name: str, interrupts: list[int]
) -> None:
    """What is asked of the socket is answered without it, and the interrupt comes after that."""
    ask = Interrupting()

    class Socket(Inbox):
        async def send_text(self, data: str) -> None:
            self.take(data)

    setattr(Socket, name, property(ask))
    manager = get_websocket_manager("ann")
    connection_id = manager.add_connection(Socket())
    assert manager.is_connection_active()
    assert manager.remove_connection(connection_id)
    assert ask.asked >= 1
    await eventually(lambda: interrupts == [signal.SIGINT])


async def test_an_interrupt_in_the_words_of_an_error_is_not_lost(interrupts: list[int]) -> None:
    class Wordy(RuntimeError):
        __str__ = Interrupting()

    manager = get_websocket_manager("ann")
    manager.add_connection(FailingSocket(Wordy(), times=1))
    assert (await manager.emit_event("x", {})).failed == 1
    await eventually(lambda: interrupts == [signal.SIGINT])


async def test_an_interrupt_in_the_name_of_an_error_is_not_lost(interrupts: list[int]) -> None:
    class Meta(type):
        __module__ = property(Interrupting())  # type: ignore[assignment]

    class Nameless(Exception, metaclass=Meta):
        pass

    manager = get_websocket_manager("ann")
    manager.add_connection(FailingSocket(Nameless(), times=1))
    assert (await manager.emit_event("x", {})).failed == 1
    await eventually(lambda: interrupts == [signal.SIGINT])
