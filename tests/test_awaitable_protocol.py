"""The awaitables of the core as asyncio, uvloop, anyio and hand-written drivers use them."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from support.sockets import HangingSocket, StarletteSocket
from support.waiting import eventually, eventually_sync, turns

import wsmanager
from wsmanager import get_websocket_manager, get_websocket_manager_async


class Steps:
    """A check that suspends a given number of times, and tells where it was cancelled."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.reached = 0
        self.cancelled_at: int | None = None

    async def __call__(self) -> bool:
        try:
            for n in range(self.steps):
                self.reached = n
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled_at = self.reached
            raise
        return True


@pytest.fixture(params=[0, 1, 3], ids=lambda steps: f"check of {steps} steps")
def steps(request: pytest.FixtureRequest) -> int:
    """With a check that suspends so often, the awaitable really suspends as well."""
    wsmanager.configure(availability_check=Steps(request.param))
    return request.param


# -- what it is -----------------------------------------------------------------


async def test_it_is_a_coroutine_object_in_the_sense_of_pep_492() -> None:
    acquire = get_websocket_manager_async("ann")
    assert inspect.isawaitable(acquire)
    assert isinstance(acquire, collections.abc.Awaitable)
    assert isinstance(acquire, collections.abc.Coroutine)
    assert asyncio.iscoroutine(acquire)
    await acquire


async def test_a_delivery_is_one_as_well() -> None:
    delivery = get_websocket_manager("ann").emit_event("x", {})
    assert inspect.isawaitable(delivery)
    assert isinstance(delivery, collections.abc.Coroutine)
    await delivery


def test_arguments_are_checked_at_the_call() -> None:
    """Not at the first step: the traceback shows the caller's line."""
    with pytest.raises(wsmanager.InvalidUserContext):
        get_websocket_manager_async({})
    with pytest.raises(TypeError):
        get_websocket_manager_async("ann", unknown=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        get_websocket_manager_async("ann", None, None)  # type: ignore[call-arg]


# -- everything that takes an awaitable takes it --------------------------------


def test_await(run: Any, steps: int) -> None:
    async def main() -> object:
        return await get_websocket_manager_async("ann")

    assert run(main) is get_websocket_manager("ann")


def test_create_task(run: Any, steps: int) -> None:
    async def main() -> object:
        return await asyncio.create_task(get_websocket_manager_async("ann"), name="mine")

    assert run(main) is get_websocket_manager("ann")


def test_ensure_future_gather_and_shield(run: Any, steps: int) -> None:
    async def main() -> list[object]:
        return [
            await asyncio.ensure_future(get_websocket_manager_async("ann")),
            *await asyncio.gather(*(get_websocket_manager_async("ann") for _ in range(5))),
            await asyncio.shield(get_websocket_manager_async("ann")),
            await asyncio.wait_for(get_websocket_manager_async("ann"), 5),
            await asyncio.wait_for(get_websocket_manager_async("ann"), None),
        ]

    assert {id(m) for m in run(main)} == {id(get_websocket_manager("ann"))}


def test_run_until_complete_takes_it(run: Any, steps: int) -> None:
    loop = asyncio.new_event_loop()
    try:
        manager = loop.run_until_complete(get_websocket_manager_async("ann"))
    finally:
        loop.close()
    assert manager is get_websocket_manager("ann")


def test_asyncio_run_takes_it(steps: int) -> None:
    assert asyncio.run(get_websocket_manager_async("ann")) is get_websocket_manager("ann")


def test_run_coroutine_threadsafe_takes_it(loop_thread: Any, steps: int) -> None:
    future = asyncio.run_coroutine_threadsafe(get_websocket_manager_async("ann"), loop_thread.loop)
    assert future.result(5) is get_websocket_manager("ann")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup came with 3.11")
def test_task_group(run: Any, steps: int) -> None:
    async def main() -> list[object]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(get_websocket_manager_async("ann")) for _ in range(5)]
        return [task.result() for task in tasks]

    assert {id(m) for m in run(main)} == {id(get_websocket_manager("ann"))}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks(run: Any, steps: int, request: pytest.FixtureRequest) -> None:
    if "uvloop" in request.node.name and sys.version_info >= (3, 13):
        pytest.skip("uvloop passes eager_start, which CPython's own eager factory does not take")

    async def main() -> object:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await asyncio.create_task(get_websocket_manager_async("ann"))

    assert run(main) is get_websocket_manager("ann")


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_anyio(backend: str, steps: int) -> None:
    async def main() -> list[object]:
        found: list[object] = []

        async def ask() -> None:
            found.append(await get_websocket_manager_async("ann"))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
        with anyio.fail_after(5):
            await ask()
        return found

    found = anyio.run(main, backend_options={"use_uvloop": backend == "uvloop"})
    assert {id(m) for m in found} == {id(get_websocket_manager("ann"))}


def test_anyio_cancel_scope_around_a_waiting_acquire() -> None:
    async def never() -> bool:
        await asyncio.Event().wait()
        return True

    async def main() -> bool:
        wsmanager.configure(availability_check=never, availability_timeout=60)
        with anyio.move_on_after(0.02) as scope:
            await get_websocket_manager_async("ann")
        return scope.cancelled_caught

    assert anyio.run(main) is True
    assert wsmanager.get_manager_registry_status()["total_registered_managers"] == 0


# -- cancellation at each step --------------------------------------------------


@pytest.mark.parametrize("after", range(6))
def test_cancellation_after_each_turn(run: Any, after: int) -> None:
    """Cancelled after n turns: CancelledError, the check is told, the next call works."""

    async def main() -> None:
        check = Steps(4)
        wsmanager.configure(availability_check=check)
        task = asyncio.create_task(get_websocket_manager_async("ann"))
        await turns(after)
        if task.done():
            assert task.result() is get_websocket_manager("ann")
            return
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(3)
        assert wsmanager.get_manager_registry_status()["total_registered_managers"] == 0
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert not rest
        manager = await asyncio.wait_for(get_websocket_manager_async("ann"), 5)
        assert manager.service_available is True

    run(main)


def test_cancellation_reaches_the_check(run: Any) -> None:
    """The outer CancelledError is not all: the user's own check sees it, too."""

    async def main() -> int:
        seen = 0

        async def check() -> bool:
            nonlocal seen
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen += 1
                raise
            return True

        wsmanager.configure(availability_check=check, availability_timeout=60)
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(get_websocket_manager_async("ann"), 0.02)
        await turns(5)
        return seen

    assert run(main) == 1


@pytest.mark.parametrize("after", [0.0, 0.001, 0.005, 0.02])
def test_wait_for_with_every_delay(run: Any, after: float) -> None:
    """A timeout that races the answer: a manager or TimeoutError, never both, never neither."""

    async def check() -> bool:
        await asyncio.sleep(0.005)
        return True

    async def main() -> None:
        wsmanager.configure(availability_check=check)
        try:
            manager = await asyncio.wait_for(get_websocket_manager_async("ann"), after)
        except (TimeoutError, asyncio.TimeoutError):
            await turns(5)
        else:
            assert manager is get_websocket_manager("ann")
        assert (await get_websocket_manager_async("ann")) is get_websocket_manager("ann")

    run(main)


# -- driven by hand -------------------------------------------------------------


async def test_send_throw_close_on_a_finished_one() -> None:
    acquire = get_websocket_manager_async("ann")
    await acquire
    with pytest.raises(RuntimeError):
        acquire.send(None)
    with pytest.raises(RuntimeError):
        await acquire
    acquire.close()
    acquire.close()


async def test_throw_before_the_first_step_is_raised() -> None:
    acquire = get_websocket_manager_async("ann")
    with pytest.raises(ZeroDivisionError):
        acquire.throw(ZeroDivisionError("mine"))
    with pytest.raises(RuntimeError):
        acquire.send(None)


@pytest.mark.filterwarnings("ignore:the .*signature of throw:DeprecationWarning")
async def test_throw_in_its_older_shapes() -> None:
    for arguments in ((ValueError,), (ValueError, "text"), (ValueError, ValueError("text"), None)):
        acquire = get_websocket_manager_async("ann")
        with pytest.raises(ValueError):
            acquire.throw(*arguments)


@pytest.mark.parametrize("wrong", [5, "text", object, None])
async def test_throw_of_what_is_no_exception(wrong: Any) -> None:
    acquire = get_websocket_manager_async("ann")
    with pytest.raises(TypeError):
        acquire.throw(wrong)
    acquire.close()


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyError("mine"), asyncio.TimeoutError(), RuntimeError("mine")]
)
async def test_what_a_caller_throws_into_the_wait_is_raised(error: Exception) -> None:
    """It is no word of the check, which goes: nobody waits for it any more."""
    check = Steps(100)
    wsmanager.configure(availability_check=check)
    acquire = get_websocket_manager_async("ann")
    acquire.send(None)
    await turns(3)
    with pytest.raises(type(error)) as caught:
        acquire.throw(error)
    assert caught.value is error
    with pytest.raises(RuntimeError, match="already awaited"):
        acquire.send(None)
    await turns(10)
    assert check.cancelled_at is not None
    assert wsmanager.get_manager_registry_status()["total_registered_managers"] == 0


async def test_what_a_caller_throws_through_a_coroutine_is_raised() -> None:
    wsmanager.configure(availability_check=Steps(100))

    async def caller() -> object:
        return await get_websocket_manager_async("ann")

    coroutine = caller()
    coroutine.send(None)
    with pytest.raises(ValueError, match="mine"):
        coroutine.throw(ValueError("mine"))
    assert wsmanager.get_manager_registry_status()["total_registered_managers"] == 0


async def test_what_a_caller_throws_leaves_the_others_waiting() -> None:
    check = Steps(20)
    wsmanager.configure(availability_check=check)
    task = asyncio.create_task(get_websocket_manager_async("ann"))
    await turns(1)
    acquire = get_websocket_manager_async("ann")
    acquire.send(None)
    with pytest.raises(ValueError):
        acquire.throw(ValueError("mine"))
    assert (await asyncio.wait_for(task, 5)).service_available is True
    assert check.cancelled_at is None


async def test_what_a_caller_throws_once_the_check_has_ended_is_raised() -> None:
    """Also then it is the caller's: the check ended well."""
    wsmanager.configure(availability_check=Steps(1))
    acquire = get_websocket_manager_async("ann")
    future = acquire.send(None)
    await eventually(future.done)
    with pytest.raises(ValueError):
        acquire.throw(ValueError("mine"))


async def test_a_check_whose_error_the_loop_throws_is_a_failed_check() -> None:
    """The core's own rule, for a check that nothing bounds: its error is no caller's."""

    async def check() -> bool:
        await asyncio.sleep(0)
        raise ValueError("the check's")

    wsmanager._wsmanager._configure(availability_check=check)  # type: ignore[attr-defined]
    try:
        assert (await get_websocket_manager_async("ann")).service_available is False
    finally:
        wsmanager._wsmanager._configure(availability_check=None)  # type: ignore[attr-defined]


NO_THROW: dict[str, tuple[Any, ...]] = {
    "a number": (42,),
    "nothing": (),
    "a value beside an exception": (ValueError("a"), 5),
    "no traceback": (ValueError, None, 5),
    "four": (ValueError, None, None, None),
}


@pytest.mark.filterwarnings("ignore:the .*signature of throw:DeprecationWarning")
@pytest.mark.parametrize("what", NO_THROW)
async def test_what_cannot_be_thrown_changes_nothing(what: str) -> None:
    """As with a coroutine: TypeError for the caller, and it goes on."""
    wsmanager.configure(availability_check=Steps(2))
    acquire = get_websocket_manager_async("ann")
    with pytest.raises(TypeError):
        acquire.throw(*NO_THROW[what])
    future = acquire.send(None)
    with pytest.raises(TypeError):
        acquire.throw(*NO_THROW[what])
    await eventually(future.done)
    with pytest.raises(StopIteration) as stop:
        acquire.send(None)
    assert stop.value.value.service_available is True


async def test_the_first_send_must_be_none() -> None:
    acquire = get_websocket_manager_async("ann")
    with pytest.raises(TypeError):
        acquire.send(1)
    acquire.close()


async def test_close_before_the_first_step_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        acquire = get_websocket_manager_async("ann")
        acquire.close()
        del acquire
        gc.collect()
    assert wsmanager.get_manager_registry_status()["total_registered_managers"] == 0


async def test_close_in_the_middle_drops_the_inner_work() -> None:
    check = Steps(100)
    wsmanager.configure(availability_check=check)
    acquire = get_websocket_manager_async("ann")
    acquire.send(None)
    acquire.close()
    await turns(10)
    with pytest.raises(RuntimeError):
        acquire.send(None)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert wsmanager.get_manager_registry_status()["total_registered_managers"] == 0


async def test_two_awaiters_of_one_acquire() -> None:
    """As with a coroutine: the second gets RuntimeError, the first its manager."""
    wsmanager.configure(availability_check=Steps(3))
    acquire = get_websocket_manager_async("ann")

    async def wait() -> object:
        return await acquire

    results = await asyncio.gather(wait(), wait(), return_exceptions=True)
    kinds = sorted(type(result).__name__ for result in results)
    assert kinds == ["RuntimeError", "UnifiedWebSocketManager"]


@pytest.mark.parametrize("second", ["awaits", "is a task", "sends"])
async def test_a_second_awaiter_is_refused_and_the_first_goes_on(second: str) -> None:
    """At once, so that a second one that is cancelled takes nothing from the first."""
    check = Steps(10)
    wsmanager.configure(availability_check=check)
    acquire = get_websocket_manager_async("ann")

    async def wait() -> object:
        return await acquire

    first = asyncio.create_task(wait())
    await turns(3)
    assert not first.done()
    if second == "sends":
        with pytest.raises(RuntimeError, match="being awaited already"):
            acquire.send(None)
    else:
        task = asyncio.create_task(wait() if second == "awaits" else acquire)
        await turns(1)
        task.cancel()
        await asyncio.wait([task])
        assert not task.cancelled()
        with pytest.raises(RuntimeError, match="being awaited already"):
            await task
    manager = await asyncio.wait_for(first, 5)
    assert manager is get_websocket_manager("ann")
    assert manager.service_available is True
    assert check.cancelled_at is None


async def test_a_delegating_generator_and_steps_by_hand_still_work() -> None:
    wsmanager.configure(availability_check=Steps(2))

    def delegate(acquire: Any) -> Any:
        return (yield from acquire.__await__())

    for acquire in (get_websocket_manager_async("ann"), get_websocket_manager_async("bob")):
        generator = delegate(acquire)
        future = generator.send(None)
        await eventually(future.done)
        with pytest.raises(StopIteration) as stop:
            generator.send(None)
        assert stop.value.value.service_available is True


async def test_the_iterator_of_await() -> None:
    acquire = get_websocket_manager_async("ann")
    iterator = acquire.__await__()
    with pytest.raises(StopIteration) as stop:
        next(iterator)
    assert stop.value.value is get_websocket_manager("ann")


def stop_of(acquire: Any) -> StopIteration:
    try:
        next(acquire.__await__())
    except StopIteration as stop:
        return stop
    raise AssertionError("it suspended")


MARKS: dict[str, Callable[[StopIteration], object]] = {
    "an attribute": lambda stop: setattr(stop, "mark", 1),
    "arguments": lambda stop: setattr(stop, "args", ("mark",)),
    "a note": lambda stop: setattr(stop, "__notes__", ["mark"]),
    "no context": lambda stop: setattr(stop, "__suppress_context__", True),
    "a cause": lambda stop: setattr(stop, "__cause__", KeyError("mark")),
    "its dict": vars,
}


@pytest.mark.parametrize("what", MARKS)
async def test_the_end_of_a_wait_carries_nothing_of_an_earlier_one(what: str) -> None:
    """Where one is raised again, as from 3.12 on, it is as good as new."""
    manager = get_websocket_manager("ann")
    acquire = get_websocket_manager_async("ann")
    stop = stop_of(acquire)
    kept = MARKS[what](stop)
    stop.__traceback__ = None
    del stop
    del acquire
    for _ in range(2):
        stop = stop_of(get_websocket_manager_async("ann"))
        assert stop.value is manager
        assert "mark" not in stop.args
        assert vars(stop) == {}
        assert vars(stop) is not kept
        assert (stop.__cause__, stop.__suppress_context__) == (None, False)
        del stop


async def test_used_by_a_legacy_generator_coroutine() -> None:
    import types

    @types.coroutine
    def old() -> Any:
        return (yield from get_websocket_manager_async("ann").__await__())

    assert await old() is get_websocket_manager("ann")


# -- never awaited --------------------------------------------------------------


async def test_never_awaited_is_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match=r"get_websocket_manager_async\(\).* never awaited"):
        get_websocket_manager_async("ann")
        gc.collect()
    assert wsmanager.get_manager_registry_status()["total_registered_managers"] == 0


async def test_each_one_that_is_never_awaited_is_warned_of() -> None:
    """Also where the memory of an earlier one is used again."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            get_websocket_manager_async("ann")
            await get_websocket_manager_async("ann")
    assert len(caught) == 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_never_awaited_as_an_error_is_unraisable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With warnings as errors a destructor must not raise, and must not hide what is raised."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            acquire = get_websocket_manager_async("ann")
            raise KeyError("mine")
        except KeyError as error:
            del acquire
            assert error.args == ("mine",)
        gc.collect()
    assert [type(hook.exc_value) for hook in seen] == [RuntimeWarning]


async def test_no_warning_once_it_was_started_or_finished() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await get_websocket_manager_async("ann")
        wsmanager.configure(availability_check=Steps(3))
        task = asyncio.create_task(get_websocket_manager_async("bob"))
        await turns(1)
        task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()


# -- hints ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["emit_event", "add_connection", "user_context", "send_to_thread", "_connections"]
)
async def test_an_attribute_of_the_manager_says_to_await(name: str) -> None:
    acquire = get_websocket_manager_async("ann")
    with pytest.raises(AttributeError, match="await") as caught:
        getattr(acquire, name)
    assert name in str(caught.value)
    acquire.close()


async def test_an_unknown_attribute_is_an_ordinary_error() -> None:
    acquire = get_websocket_manager_async("ann")
    with pytest.raises(AttributeError):
        acquire.no_such_name  # type: ignore[attr-defined]  # noqa: B018
    acquire.close()


# -- deliveries -----------------------------------------------------------------


async def test_a_delivery_may_be_awaited_any_number_of_times() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    delivery = manager.emit_event("x", {})
    first, second = await delivery, await delivery
    assert (first.sent, second.sent) == (1, 1)
    assert first.id == second.id == delivery.id
    assert len(socket.texts) == 1
    results = await asyncio.gather(delivery, asyncio.create_task(delivery), return_exceptions=True)
    assert all(getattr(result, "sent", 0) == 1 for result in results)


def test_deliveries_in_every_helper(run: Any) -> None:
    async def main() -> None:
        manager = get_websocket_manager("ann")
        socket = StarletteSocket()
        manager.add_connection(socket)
        assert (await asyncio.wait_for(manager.emit_event("a", {}), 5)).sent == 1
        assert (await asyncio.create_task(manager.emit_event("b", {}))).sent == 1
        assert (await asyncio.shield(manager.emit_event("c", {}))).sent == 1
        many = await asyncio.gather(*(manager.emit_event(f"d{n}", {}) for n in range(3)))
        assert [receipt.sent for receipt in many] == [1, 1, 1]
        assert socket.types == ["a", "b", "c", "d0", "d1", "d2"]
        wsmanager.reset_manager_registry()

    run(main)


async def test_cancelling_the_waiter_does_not_recall_the_event() -> None:
    manager = get_websocket_manager("ann")
    hanging = HangingSocket()
    manager.add_connection(hanging)
    task = asyncio.create_task(manager.emit_event("x", {}))
    await eventually(lambda: hanging.entered)
    task.cancel()
    await asyncio.wait([task])
    assert hanging.cancelled == 0, "the waiter's cancellation went into the socket's send"
    hanging.release()
    await eventually(lambda: hanging.types == ["x"])


async def test_a_receipt_stands_where_a_bool_did() -> None:
    """``if await manager.send_to_thread(...) == True`` is in the code that is there."""
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket(), thread_id="chat")
    for thread, taken in (("chat", True), ("empty", False)):
        delivery = manager.send_to_thread(thread, {"type": "x"})
        for thing in (delivery, await delivery, delivery.receipt):
            assert (thing == taken) is True
            assert (thing != taken) is False
            assert (thing == (not taken)) is False
            assert (taken == thing) is True
            assert thing in (taken, "x")
            assert thing == thing
            for other in (await delivery, int(taken), float(taken), str(taken), None, [], ...):
                assert thing != other
                assert (thing == other) is False
            assert {thing: 1}[thing] == 1
            assert hash(thing) == object.__hash__(thing)
            with pytest.raises(TypeError):
                thing < True  # noqa: B015


async def test_dropped_deliveries_are_silent() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(100):
            manager.emit_event("x", {"n": n})
        gc.collect()


async def test_a_delivery_awaited_from_another_loop(loop_thread: Any) -> None:
    """Emitted here, awaited there: no "attached to a different loop"."""
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    delivery = manager.emit_event("x", {})

    async def wait() -> Any:
        return await delivery

    receipt = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(wait(), loop_thread.loop))
    assert receipt


def test_a_delivery_from_a_thread_without_a_loop(loop_thread: Any) -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket, loop=loop_thread.loop)
    deliveries = [manager.emit_event("x", {"n": n}) for n in range(10)]
    assert all(d.receipt.sent + d.receipt.queued == 1 for d in deliveries)
    assert all(deliveries)
    future = asyncio.run_coroutine_threadsafe(deliveries[-1], loop_thread.loop)
    assert future.result(5)
    eventually_sync(lambda: len(socket.texts) == 10)
    assert [event["payload"]["n"] for event in socket.events] == list(range(10))


def test_flushed_waits_for_the_transport(run: Any) -> None:
    async def main() -> None:
        manager = get_websocket_manager("ann")
        slow = HangingSocket()
        manager.add_connection(slow)
        delivery = manager.emit_event("x", {})
        assert await delivery.flushed(0.02) is False
        slow.release()
        assert await delivery.flushed(5) is True
        assert slow.types == ["x"]
        assert await manager.emit_event("y", {}).flushed() is True
        wsmanager.reset_manager_registry()

    run(main)


# -- answers --------------------------------------------------------------------


async def test_plain_answers_may_be_awaited_or_not() -> None:
    manager = get_websocket_manager("ann")
    connection_id = manager.add_connection(StarletteSocket())
    assert isinstance(connection_id, str)
    assert await connection_id == connection_id
    second = await manager.add_connection(StarletteSocket())
    assert await manager.remove_connection(connection_id)
    answer = manager.remove_connection(second)
    assert answer
    assert answer == True  # noqa: E712  it compares as the value it holds
    assert answer.value is True
    assert not manager.remove_connection(second)
    assert await manager.remove_connection(second) is False
    assert manager.disconnect_user("ann") == 0


def test_threads_may_step_what_they_got(fast_switches: None) -> None:
    """One acquire given to two threads: one gets the manager, the other RuntimeError."""
    for _ in range(200):
        acquire = get_websocket_manager_async("ann")
        results: list[object] = []
        barrier = threading.Barrier(2)

        def step(acquire: Any = acquire, barrier: Any = barrier, results: Any = results) -> None:
            barrier.wait()
            try:
                acquire.send(None)
            except StopIteration as stop:
                results.append(stop.value)
            except RuntimeError as error:
                results.append(error)

        threads = [threading.Thread(target=step) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        managers = [r for r in results if isinstance(r, wsmanager.UnifiedWebSocketManager)]
        assert len(managers) == 1, results
        assert len(results) == 2
