"""One event to many sockets: each gets it once, and none can take it from another."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import uvicorn.protocols.utils
from aiohttp import ClientConnectionResetError
from starlette.websockets import WebSocketDisconnect
from support.sockets import (
    FailingSocket,
    HangingSocket,
    Inbox,
    ReentrantSocket,
    StarletteSocket,
    SuspendingSocket,
    SyncSocket,
    WebSocketState,
)
from support.waiting import eventually, turns
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

import wsmanager
from wsmanager import UnifiedWebSocketManager, get_websocket_manager
from wsmanager._wsmanager import classify

# -- receipts -------------------------------------------------------------------


async def test_a_receipt_counts_what_became_of_the_event() -> None:
    manager = get_websocket_manager("ann")
    good, hanging = StarletteSocket(), HangingSocket()
    manager.add_connection(good, "good")
    manager.add_connection(hanging, "hanging")
    manager.add_connection(FailingSocket(ValueError("bug")), "failing")
    manager.add_connection(FailingSocket(ConnectionResetError()), "gone")
    receipt = await asyncio.wait_for(manager.emit_event("x", {}, detail=True), 5)
    assert receipt.sent == 1
    assert receipt.queued == 1
    assert receipt.failed == 2
    assert receipt.dropped == 0
    assert receipt
    assert receipt.connections is not None
    assert set(receipt.connections) == {"good", "hanging", "failing", "gone"}
    assert receipt.connections["good"] == "sent"
    assert receipt.connections["hanging"] == "queued"
    assert receipt.connections["failing"] == receipt.connections["gone"] == "failed"
    hanging.release()


async def test_without_detail_no_connections_are_listed() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    assert (await manager.emit_event("x", {})).connections is None


async def test_nobody_there_is_false() -> None:
    receipt = await get_websocket_manager("ann").emit_event("x", {})
    assert (receipt.sent, receipt.queued, receipt.failed, receipt.dropped) == (0, 0, 0, 0)
    assert not receipt
    assert receipt.stored == 1


async def test_only_failures_is_false() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(FailingSocket(ConnectionResetError()))
    assert not await manager.emit_event("x", {})


async def test_a_receipt_is_immutable() -> None:
    receipt = await get_websocket_manager("ann").emit_event("x", {})
    with pytest.raises(AttributeError):
        receipt.sent = 5  # type: ignore[misc]


async def test_the_receipt_of_a_later_failure() -> None:
    """An event that was queued and then failed is failed in the receipt that is read later."""
    manager = get_websocket_manager("ann")

    class LateFailure(StarletteSocket):
        async def send_text(self, data: str) -> None:
            await asyncio.sleep(0)
            raise ConnectionResetError

    manager.add_connection(LateFailure())
    delivery = manager.emit_event("x", {})
    assert await delivery.flushed(5) in (True, False)
    await eventually(lambda: len(manager) == 0)


# -- at once, without tasks, encoded once ---------------------------------------


async def test_an_idle_connection_is_written_before_emit_returns() -> None:
    manager = get_websocket_manager("ann")
    sockets: list[Inbox] = [StarletteSocket(), SyncSocket()]
    for socket in sockets:
        manager.add_connection(socket)
    manager.emit_event("x", {})
    assert [socket.types for socket in sockets] == [["x"], ["x"]]


async def test_no_task_per_recipient(task_count: Callable[[], int]) -> None:
    manager = get_websocket_manager("ann")
    sockets = [StarletteSocket() for _ in range(100)]
    for socket in sockets:
        manager.add_connection(socket)
    before = task_count()
    for _ in range(10):
        await manager.emit_event("x", {})
    assert task_count() - before <= 1, "a task was made for sends that never suspended"
    assert all(len(socket.texts) == 10 for socket in sockets)


async def test_control_a_task_per_recipient_is_counted(task_count: Callable[[], int]) -> None:
    sockets = [StarletteSocket() for _ in range(10)]
    before = task_count()
    await asyncio.gather(*(socket.send_text("x") for socket in sockets))
    assert task_count() - before == 10


async def test_one_writer_per_connection_and_order() -> None:
    """A second event never enters a send that is still suspended; order is the emit's order."""
    manager = get_websocket_manager("ann")
    sockets = [SuspendingSocket(turns=n) for n in (0, 1, 2, 5)]
    for socket in sockets:
        manager.add_connection(socket)
    for n in range(50):
        manager.emit_event("x", {"n": n})
        if n % 7 == 0:
            await asyncio.sleep(0)
    for socket in sockets:
        await eventually(lambda socket=socket: len(socket.texts) == 50)
        assert [event["payload"]["n"] for event in socket.events] == list(range(50))
        assert socket.most_running == 1


async def test_an_unawaited_emit_goes_out_without_a_word() -> None:
    manager = get_websocket_manager("ann")
    sockets: list[Inbox] = [StarletteSocket(), SuspendingSocket(3), SyncSocket()]
    for socket in sockets:
        manager.add_connection(socket)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager.emit_event("x", {})
        manager.send_to_user({"type": "y"})
        gc.collect()
        for socket in sockets:
            await eventually(lambda socket=socket: socket.types == ["x", "y"])
        gc.collect()


async def test_flushed_is_per_event() -> None:
    manager = get_websocket_manager("ann")
    hanging = HangingSocket()
    manager.add_connection(hanging)
    first = manager.emit_event("x", {})
    second = manager.emit_event("y", {})
    assert await first.flushed(0.01) is False
    hanging.release()
    assert await asyncio.gather(first.flushed(5), second.flushed(5)) == [True, True]
    assert hanging.types == ["x", "y"]


# -- the table of dead sockets --------------------------------------------------


def class_of(module: str, name: str, base: type[Exception] = Exception) -> type[Exception]:
    """A library's exception without the library: only module and name are looked at."""
    return type(name, (base,), {"__module__": module})


GONE: dict[str, BaseException] = {
    "starlette WebSocketDisconnect": WebSocketDisconnect(1006),
    "starlette after close": RuntimeError('Cannot call "send" once a close message has been sent.'),
    "uvicorn after close": RuntimeError(
        "Unexpected ASGI message 'websocket.send', after sending 'websocket.close' "
        "or response already completed."
    ),
    "uvicorn ClientDisconnected": uvicorn.protocols.utils.ClientDisconnected(),
    "websockets ok": ConnectionClosedOK(None, None),
    "websockets error": ConnectionClosedError(None, None),
    "aiohttp": ClientConnectionResetError("Cannot write to closing transport"),
    "reset": ConnectionResetError(104, "reset by peer"),
    "aborted": ConnectionAbortedError(),
    "pipe": BrokenPipeError(32, "pipe"),
    "anyio closed": anyio.ClosedResourceError(),
    "anyio broken": anyio.BrokenResourceError(),
    "litestar": class_of("litestar.exceptions", "WebSocketDisconnect")(),
    "subclass of ours": class_of("app.errors", "Gone", ConnectionResetError)(),
}
ERRORS: dict[str, BaseException] = {
    "ValueError": ValueError("bug"),
    "RuntimeError": RuntimeError("some bug"),
    "a name alone": class_of("app.errors", "ConnectionClosedish")(),
    "file not found": FileNotFoundError(2, "x"),
    "no route": OSError(113, "No route to host"),
    "timeout": TimeoutError(),
    "KeyError with a known text": KeyError("once a close message has been sent"),
}


def check_table(table: Callable[[BaseException], str]) -> None:
    assert {name: table(error) for name, error in GONE.items()} == dict.fromkeys(GONE, "gone")
    assert {name: table(error) for name, error in ERRORS.items()} == dict.fromkeys(ERRORS, "error")
    assert table(asyncio.CancelledError()) == "cancelled"
    assert table(KeyboardInterrupt()) == "fatal"
    assert table(SystemExit(1)) == "fatal"


def test_the_dead_socket_table() -> None:
    check_table(classify)


@pytest.mark.parametrize("always", ["gone", "error"])
def test_control_a_table_that_knows_one_answer_is_caught(always: str) -> None:
    with pytest.raises(AssertionError):
        check_table(lambda error: always)


@pytest.mark.parametrize("name", GONE)
async def test_a_dead_socket_is_removed_in_the_same_pass(name: str) -> None:
    manager = get_websocket_manager("ann")
    dead, alive = FailingSocket(GONE[name]), StarletteSocket()
    manager.add_connection(dead)
    manager.add_connection(alive)
    receipt = await manager.emit_event("x", {})
    assert (receipt.sent, receipt.failed) == (1, 1)
    assert len(manager) == 1
    assert manager.get_connection_id_by_websocket(dead) is None
    await manager.emit_event("y", {})
    assert dead.attempts == 1
    assert alive.types == ["x", "y"]


@pytest.mark.parametrize("attribute", ["client_state", "application_state"])
async def test_a_socket_that_says_it_is_closed_is_gone(attribute: str) -> None:
    """Any error of a socket in state DISCONNECTED: either of Starlette's two states."""
    manager = get_websocket_manager("ann")
    dead = FailingSocket(RuntimeError("whatever"))
    manager.add_connection(dead)
    setattr(dead, attribute, WebSocketState.DISCONNECTED)
    await manager.emit_event("x", {})
    assert len(manager) == 0


async def test_the_emitter_never_sees_a_sockets_error() -> None:
    for error in (*GONE.values(), *ERRORS.values()):
        wsmanager.reset_manager_registry()
        manager = get_websocket_manager("ann")
        manager.add_connection(FailingSocket(error))
        await manager.emit_event("x", {})
        manager.emit_event("x", {})


# -- B3: every pair of behaviours, every call -----------------------------------


class SelfClosing(StarletteSocket):
    async def send_text(self, data: str) -> None:
        self.take(data)
        self.application_state = WebSocketState.DISCONNECTED
        raise RuntimeError('Cannot call "send" once a close message has been sent.')


class NonAwaitable(StarletteSocket):
    def send_text(self, data: str) -> object:  # type: ignore[override]
        self.take(data)
        return 42


class RaisesAtCall(StarletteSocket):
    def send_text(self, data: str) -> object:  # type: ignore[override]
        raise ValueError("not even a coroutine")


class BadAwaitable(StarletteSocket):
    def send_text(self, data: str) -> object:  # type: ignore[override]
        class Awaitable:
            def __await__(self) -> Any:
                raise LookupError("in __await__")

        return Awaitable()


class YieldsGarbage(StarletteSocket):
    def send_text(self, data: str) -> object:  # type: ignore[override]
        class Awaitable:
            def __await__(self) -> Any:
                yield object()

        return Awaitable()


def behaviours(manager: UnifiedWebSocketManager) -> dict[str, Callable[[], Any]]:
    """Twelve ways in which a socket can behave, and then some."""

    def reconnect() -> None:
        manager.add_connection(StarletteSocket())

    return {
        "fine": StarletteSocket,
        "suspends": lambda: SuspendingSocket(2),
        "raises ValueError": lambda: FailingSocket(ValueError("bug")),
        "is gone": lambda: FailingSocket(ConnectionResetError()),
        "is cancelled": lambda: FailingSocket(asyncio.CancelledError()),
        "raises SystemExit": lambda: FailingSocket(SystemExit(3)),
        "raises at the call": RaisesAtCall,
        "hangs": HangingSocket,
        "is not awaitable": NonAwaitable,
        "has a bad __await__": BadAwaitable,
        "yields garbage": YieldsGarbage,
        "closes itself": SelfClosing,
        "connects another": lambda: ReentrantSocket(reconnect),
        "disconnects all": lambda: ReentrantSocket(manager.remove_connection_by_user),
        "emits": lambda: ReentrantSocket(lambda: manager.emit_event("inner", {})),
        "awaits an emit": lambda: ReentrantSocket(lambda: await_emit(manager)),
    }


async def await_emit(manager: UnifiedWebSocketManager) -> None:
    await manager.emit_event("inner", {})


CALLS: dict[str, Callable[[UnifiedWebSocketManager], Any]] = {
    "emit_event": lambda m: m.emit_event("outer", {}),
    "send_event": lambda m: m.send_event("outer", {}),
    "emit_critical_event": lambda m: m.emit_critical_event("outer", {}),
    "send_to_user": lambda m: m.send_to_user({"type": "outer"}),
    "send_to_thread": lambda m: m.send_to_thread("chat", {"type": "outer"}),
    "send_message": lambda m: m.send_message("ann", {"type": "outer"}),
    "broadcast": lambda m: m.broadcast({"type": "outer"}),
    "wsmanager.broadcast": lambda m: wsmanager.broadcast({"type": "outer"}),
    "five in a row": lambda m: [m.emit_event("outer", {"n": n}) for n in range(5)].pop(),
}


async def one_pair(first: str, second: str, call: str) -> None:
    """Two misbehaving sockets between two good ones: the good ones get the event, once."""
    wsmanager.reset_manager_registry()
    manager = get_websocket_manager("ann")
    makers = behaviours(manager)
    before, after, bystander = StarletteSocket(), StarletteSocket(), StarletteSocket()
    bad = [makers[first](), makers[second]()]
    for socket in (before, *bad, after):
        manager.add_connection(socket, thread_id="chat")
    get_websocket_manager("bob").add_connection(bystander)
    fatal = "raises SystemExit" in (first, second)
    removes = "disconnects all" in (first, second)
    try:
        result = CALLS[call](manager)
        if asyncio.iscoroutine(result):
            await asyncio.wait_for(result, 5)
    except SystemExit:
        assert fatal, f"{first} × {second}: SystemExit from nowhere"
    expected = 5 if call == "five in a row" else 1
    if not (fatal and call == "five in a row"):
        await eventually(
            lambda: removes or after.types.count("outer") == expected,
            5,
            f"{first} × {second} × {call}: the good socket behind got {after.types}",
        )
        assert before.types.count("outer") == (before.types.count("outer") if removes else expected)
    assert before.types.count("outer") <= expected
    assert after.types.count("outer") <= expected
    assert before.types.count("outer") >= 1, f"{first} × {second} × {call}"
    assert bystander.types == (["outer"] if call == "wsmanager.broadcast" else [])
    for socket in bad:
        if isinstance(socket, HangingSocket):
            socket.release()
    # Whatever happened, the manager still works.
    fresh = StarletteSocket()
    manager.add_connection(fresh)
    try:
        await asyncio.wait_for(manager.emit_event("afterwards", {}), 5)
    except SystemExit:
        assert fatal
    await eventually(lambda: "afterwards" in fresh.types)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("call", CALLS)
async def test_no_pair_of_behaviours_takes_the_event_from_others(call: str) -> None:
    names = list(behaviours(get_websocket_manager("ann")))
    for first, second in itertools.combinations_with_replacement(names, 2):
        await asyncio.wait_for(one_pair(first, second, call), 10)


# -- cancel scopes inside a send ------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with 3.11")
@pytest.mark.parametrize("times_out", [False, True])
async def test_asyncio_timeout_inside_a_send_that_suspends(times_out: bool) -> None:
    """The timeout binds to its own task: it must not cancel the emitter, and must work."""

    class Timed(StarletteSocket):
        outcome = ""

        async def send_text(self, data: str) -> None:
            try:
                async with asyncio.timeout(0.02 if times_out else 5):
                    await asyncio.sleep(10 if times_out else 0.001)
            except TimeoutError:
                self.outcome = "timed out"
                raise
            self.outcome = "done"
            self.take(data)

    manager = get_websocket_manager("ann")
    timed, other = Timed(), StarletteSocket()
    manager.add_connection(timed)
    manager.add_connection(other)
    await manager.emit_event("x", {})
    await asyncio.sleep(0)
    await eventually(lambda: timed.outcome)
    assert timed.outcome == ("timed out" if times_out else "done")
    assert other.types == ["x"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0.03)  # a stray cancellation of this task would arrive here


@pytest.mark.parametrize("times_out", [False, True])
async def test_anyio_cancel_scope_inside_a_send_that_suspends(times_out: bool) -> None:
    class Scoped(StarletteSocket):
        outcome = ""

        async def send_text(self, data: str) -> None:
            with anyio.move_on_after(0.02 if times_out else 5) as scope:
                await anyio.sleep(10 if times_out else 0.001)
                self.take(data)
            self.outcome = "timed out" if scope.cancelled_caught else "done"

    manager = get_websocket_manager("ann")
    scoped, other = Scoped(), StarletteSocket()
    manager.add_connection(scoped)
    manager.add_connection(other)
    with anyio.CancelScope() as emitters_own:
        await manager.emit_event("x", {})
        await eventually(lambda: scoped.outcome)
        await asyncio.sleep(0.03)
    assert not emitters_own.cancelled_caught
    assert scoped.outcome == ("timed out" if times_out else "done")
    assert other.types == ["x"]


async def test_a_task_group_inside_a_send() -> None:
    class Grouped(StarletteSocket):
        async def send_text(self, data: str) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0.001)
            self.take(data)

    manager = get_websocket_manager("ann")
    grouped = Grouped()
    manager.add_connection(grouped)
    manager.emit_event("x", {})
    manager.emit_event("y", {})
    await eventually(lambda: grouped.types == ["x", "y"])


async def test_the_emitters_cancellation_stays_out_of_the_sockets() -> None:
    manager = get_websocket_manager("ann")
    hanging = HangingSocket()
    manager.add_connection(hanging)

    async def emitter() -> None:
        await manager.emit_event("x", {})
        await asyncio.sleep(60)

    task = asyncio.create_task(emitter())
    await eventually(lambda: hanging.entered)
    task.cancel()
    await asyncio.wait([task])
    await turns(5)
    assert hanging.cancelled == 0
    hanging.release()
    await eventually(lambda: hanging.types == ["x"])


async def test_context_variables_of_the_emitter_stay_with_it() -> None:
    """A writer that runs on is not to leak the first emitter's request context to all later ones."""
    import contextvars

    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    class Seeing(StarletteSocket):
        async def send_text(self, data: str) -> None:
            await asyncio.sleep(0)
            request.set("leaked")
            seen.append("ok")
            self.take(data)

    manager = get_websocket_manager("ann")
    manager.add_connection(Seeing())
    request.set("emitter")
    await manager.emit_event("x", {})
    await eventually(lambda: seen)
    assert request.get() == "emitter"


async def test_current_task_inside_a_send_is_never_none() -> None:
    """Libraries ask for the current task; also on the first step, also from another thread's emit."""
    seen: list[object] = []

    class Asking(StarletteSocket):
        async def send_text(self, data: str) -> None:
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())
            self.take(data)

    manager = get_websocket_manager("ann")
    asking = Asking()
    manager.add_connection(asking)
    mine = asyncio.current_task()
    manager.emit_event("x", {})
    await eventually(lambda: len(asking.texts) == 1)
    await asyncio.to_thread(manager.emit_event, "y", {})
    await eventually(lambda: len(asking.texts) == 2)
    assert None not in seen
    assert seen[0] is seen[1], "resumed in another task than it was started in"
    assert seen[2] is seen[3]
    assert asyncio.current_task() is mine


async def test_a_send_that_cleans_up_after_it_was_cancelled_at_once() -> None:
    """Removed before its task's first step: what it waits for then wakes it, and its task ends."""
    before = asyncio.all_tasks()
    steps: list[str] = []

    class Cleaning(StarletteSocket):
        async def send_text(self, data: str) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                steps.append("cancelled")
                await asyncio.sleep(0.001)
                steps.append("cleaned up")
                raise

    manager = get_websocket_manager("ann")
    connection_id = manager.add_connection(Cleaning())
    delivery = manager.emit_event("x", {})
    manager.remove_connection(connection_id)
    await eventually(lambda: asyncio.all_tasks() == before)
    assert steps == ["cancelled", "cleaned up"]
    assert delivery.receipt.failed == 1
    assert delivery.receipt.queued == 0


async def test_a_send_that_is_a_coroutine_made_of_a_generator() -> None:
    """types.coroutine() makes what await takes: it is run, and sent when it has ended."""

    class Generating(StarletteSocket):
        @types.coroutine
        def send_text(self, data: str) -> Any:  # type: ignore[override]
            yield from asyncio.sleep(0).__await__()
            self.take(data)

    manager = get_websocket_manager("ann")
    socket = Generating()
    manager.add_connection(socket)
    first, second = manager.emit_event("x", {}), manager.emit_event("y", {})
    assert first.receipt.queued == second.receipt.queued == 1
    assert await second.flushed(5)
    assert socket.types == ["x", "y"]
    assert first.receipt.sent == second.receipt.sent == 1


async def test_a_send_that_gives_a_plain_generator() -> None:
    """await refuses such a one: it is a plain function's own result, and not run."""
    begun: list[str] = []

    class Giving(StarletteSocket):
        def send_text(self, data: str) -> Any:  # type: ignore[override]
            self.take(data)
            return (begun.append(data) for _ in range(1))

    manager = get_websocket_manager("ann")
    socket = Giving()
    manager.add_connection(socket)
    assert manager.emit_event("x", {}).receipt.sent == 1
    assert socket.types == ["x"]
    assert begun == []
