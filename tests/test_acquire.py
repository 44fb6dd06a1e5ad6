"""The async factory: the same manager, the availability check, and no lock across a suspension."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.loops import LoopThread
from support.waiting import eventually, turns

import wsmanager
from wsmanager import (
    UnifiedWebSocketManager,
    get_manager_registry_status,
    get_websocket_manager,
    get_websocket_manager_async,
)


class Check:
    """An availability check that counts its runs and can be held up."""

    def __init__(self, answer: object = True, *, held: bool = False) -> None:
        self.answer = answer
        self.held = held
        self.started = 0
        self.cancelled = 0
        self._gates: list[asyncio.Event] = []

    async def __call__(self) -> object:
        self.started += 1
        if self.held:
            gate = asyncio.Event()
            self._gates.append(gate)
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def release(self) -> None:
        self.held = False
        for gate in self._gates:
            gate.set()


def configure(check: Any, **settings: Any) -> Any:
    wsmanager.configure(availability_check=check, **settings)
    return check


# -- with and without a check ---------------------------------------------------


async def test_without_a_check_nothing_is_waited_for() -> None:
    """On a hit and on a miss it completes without suspending."""
    for _ in range(2):
        acquire = get_websocket_manager_async("ann")
        with pytest.raises(StopIteration) as stop:
            acquire.send(None)
        assert stop.value.value is get_websocket_manager("ann")


async def test_on_a_hit_the_check_is_not_asked() -> None:
    manager = get_websocket_manager("ann")
    check = configure(Check(held=True))
    with pytest.raises(StopIteration) as stop:
        get_websocket_manager_async("ann").send(None)
    assert stop.value.value is manager
    assert check.started == 0


@pytest.mark.parametrize("answer", [True, 1, "yes", object()])
async def test_a_true_check(answer: object) -> None:
    check = configure(Check(answer))
    manager = await get_websocket_manager_async("ann")
    assert manager.service_available is True
    assert check.started == 1


@pytest.mark.parametrize("answer", [False, None, 0, ""])
async def test_a_false_check_gives_a_manager_all_the_same(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    configure(Check(answer))
    with caplog.at_level(logging.WARNING, "wsmanager"):
        manager = await get_websocket_manager_async("ann")
    assert manager.service_available is False
    assert manager is get_websocket_manager("ann")
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) <= 1


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), OSError(111, "refused"), asyncio.TimeoutError(), KeyError("k")]
)
async def test_a_raising_check_is_one_warning_and_no_exception(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    configure(Check(error))
    with caplog.at_level(logging.WARNING, "wsmanager"):
        manager = await get_websocket_manager_async("ann")
    assert manager.service_available is False
    assert isinstance(manager, UnifiedWebSocketManager)
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    assert "ann" not in caplog.text, "an id in a log record above DEBUG"


async def test_a_check_that_hangs_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    check = configure(Check(held=True), availability_timeout=0.05)
    start = time.monotonic()
    with caplog.at_level(logging.WARNING, "wsmanager"):
        manager = await get_websocket_manager_async("ann")
    assert 0.04 < time.monotonic() - start < 2
    assert manager.service_available is False
    assert check.cancelled == 1
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def test_the_sync_form_never_asks() -> None:
    check = configure(Check(False))
    assert get_websocket_manager("ann").service_available is True
    assert check.started == 0


async def test_the_sync_form_inside_a_running_loop_never_asks() -> None:
    check = configure(Check(False))
    tasks = asyncio.all_tasks()
    assert get_websocket_manager("ann").service_available is True
    await turns()
    assert check.started == 0
    assert asyncio.all_tasks() == tasks


async def test_no_fallback_manager_is_ever_registered() -> None:
    configure(Check(RuntimeError("down")))
    await get_websocket_manager_async("ann")
    assert get_manager_registry_status()["total_registered_managers"] == 1
    assert get_websocket_manager("ann").user_id == "ann"


async def test_removing_the_check() -> None:
    configure(Check(False))
    wsmanager.configure(availability_check=None)
    assert (await get_websocket_manager_async("ann")).service_available is True


@pytest.mark.parametrize("wrong", [5, "check", lambda: True])
async def test_a_check_that_is_no_async_callable(wrong: Any) -> None:
    """Refused at once, or reported as a failing check; never a wrong manager."""
    try:
        wsmanager.configure(availability_check=wrong)
    except TypeError:
        return
    assert isinstance(await get_websocket_manager_async("ann"), UnifiedWebSocketManager)


@pytest.mark.parametrize("again", ["the same", "what was read", "with its timeout"])
async def test_a_check_that_is_configured_again_is_still_bounded(
    again: str, caplog: pytest.LogCaptureFixture
) -> None:
    check = configure(Check(held=True), availability_timeout=0.05)
    if again == "what was read":
        wsmanager.configure(**wsmanager.get_config())
    else:
        configure(check, **({"availability_timeout": 0.05} if again == "with its timeout" else {}))
    with caplog.at_level(logging.WARNING, "wsmanager"):
        manager = await asyncio.wait_for(get_websocket_manager_async("ann"), 5)
    assert manager.service_available is False
    assert check.cancelled == 1


# -- single flight, and a leader that goes away ---------------------------------


async def test_concurrent_callers_of_one_loop_share_one_check() -> None:
    check = configure(Check(held=True))
    tasks = [asyncio.create_task(get_websocket_manager_async("ann")) for _ in range(20)]
    await eventually(lambda: check.started)
    await turns(10)
    assert check.started == 1
    assert not any(task.done() for task in tasks)
    check.release()
    managers = await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert len({id(manager) for manager in managers}) == 1
    assert check.started == 1


async def test_a_manager_made_meanwhile_is_the_one_that_everybody_gets() -> None:
    check = configure(Check(False, held=True))
    task = asyncio.create_task(get_websocket_manager_async("ann"))
    await eventually(lambda: check.started)
    manager = get_websocket_manager("ann")
    check.release()
    assert await asyncio.wait_for(task, 5) is manager
    assert manager.service_available is True


@pytest.mark.parametrize("leavers", [1, 2, 3])
async def test_a_cancelled_leader_hands_over(leavers: int) -> None:
    check = configure(Check(held=True))
    tasks = [asyncio.create_task(get_websocket_manager_async("ann")) for _ in range(4)]
    await eventually(lambda: check.started)
    for task in tasks[:leavers]:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await turns(5)
    assert not any(task.done() for task in tasks[leavers:])
    check.release()
    managers = await asyncio.wait_for(asyncio.gather(*tasks[leavers:]), 5)
    assert {id(manager) for manager in managers} == {id(get_websocket_manager("ann"))}


async def test_everybody_cancelled_leaves_nothing_behind() -> None:
    check = configure(Check(held=True))
    tasks = [asyncio.create_task(get_websocket_manager_async("ann")) for _ in range(3)]
    await eventually(lambda: check.started)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await turns(10)
    assert get_manager_registry_status()["total_registered_managers"] == 0
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    assert not rest, "a check is still running for nobody"
    wsmanager.configure(availability_check=Check(True))
    assert (await get_websocket_manager_async("ann")).service_available is True


async def test_a_check_that_cancels_itself_is_a_failed_check() -> None:
    configure(Check(asyncio.CancelledError()))
    task = asyncio.create_task(get_websocket_manager_async("ann"))
    done, _ = await asyncio.wait([task], timeout=5)
    assert done, "hung on a check that raised CancelledError"
    assert task.cancelled() or task.result().service_available is False


async def test_a_check_that_asks_for_managers_itself() -> None:
    """Re-entrance: another user's, and its own by the sync form."""

    async def check() -> bool:
        await asyncio.sleep(0)
        get_websocket_manager("other")
        return get_websocket_manager("ann") is get_websocket_manager("ann")

    configure(check)
    assert (await asyncio.wait_for(get_websocket_manager_async("ann"), 5)).user_id == "ann"


def spawn(get: Callable[[str], Any]) -> Any:
    async def call() -> Any:
        return await get("inner")

    return asyncio.create_task(call())


INNER: dict[str, Callable[[Callable[[str], Any]], Any]] = {
    "awaited": lambda get: get("inner"),
    "of its own user": lambda get: get("ann"),
    "in a task": spawn,
    "as a task": lambda get: asyncio.create_task(get("inner")),
    "with a time limit": lambda get: asyncio.wait_for(get("inner"), 5),
}


@pytest.mark.parametrize("how", INNER)
@pytest.mark.parametrize("eager", [False, True], ids=["", "eager tasks"])
async def test_a_check_that_awaits_managers_itself(how: str, eager: bool) -> None:
    """For what it asks for itself there is no check to wait for."""
    if eager and not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with 3.12")
    started = 0
    inner: list[UnifiedWebSocketManager] = []

    async def check() -> bool:
        nonlocal started
        started += 1
        inner.append(await INNER[how](get_websocket_manager_async))
        return False

    configure(check, availability_timeout=3)
    loop = asyncio.get_running_loop()
    if eager:
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    before = time.monotonic()
    outer = await asyncio.wait_for(get_websocket_manager_async("ann"), 10)
    assert time.monotonic() - before < 2, "it waited for itself"
    assert (started, len(inner)) == (1, 1)
    assert inner[0].service_available is True
    assert outer.service_available is (outer is inner[0])
    assert (await get_websocket_manager_async("carol")).service_available is False
    assert started == 2, "the callers of a check are not within it"


async def test_two_loops_do_not_wait_for_each_others_future(loop_thread: LoopThread) -> None:
    """Each loop runs its own check; a future of one loop is never awaited on another."""
    check = configure(Check(True, held=True))
    here = asyncio.create_task(get_websocket_manager_async("ann"))
    await eventually(lambda: check.started)
    gates_here = list(check._gates)
    check.held = False

    async def there() -> UnifiedWebSocketManager:
        return await get_websocket_manager_async("ann")

    manager = await asyncio.wait_for(
        asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), loop_thread.loop)), 5
    )
    for gate in gates_here:
        gate.set()
    assert await asyncio.wait_for(here, 5) is manager


# -- the deadlock of the original -----------------------------------------------


async def everybody_finishes() -> None:
    """Two tasks of one loop, a check that suspends, another user and a sync call meanwhile."""
    entered = asyncio.Event()

    async def check() -> bool:
        entered.set()
        await asyncio.sleep(0.02)
        return True

    wsmanager.configure(availability_check=check)
    tasks = [
        asyncio.create_task(get_websocket_manager_async("ann")),
        asyncio.create_task(get_websocket_manager_async("ann")),
        asyncio.create_task(get_websocket_manager_async("bob")),
    ]
    await entered.wait()
    sync = get_websocket_manager("carol")
    from_thread = await asyncio.to_thread(get_websocket_manager, "dave")
    managers = await asyncio.gather(*tasks)
    assert managers[0] is managers[1] is get_websocket_manager("ann")
    assert managers[2] is get_websocket_manager("bob")
    assert len({id(m) for m in (*managers, sync, from_thread)}) == 4


@pytest.mark.timeout(20)
async def test_no_lock_is_held_across_a_suspension() -> None:
    await asyncio.wait_for(everybody_finishes(), 10)


ORIGINAL = """
import asyncio, threading

LOCK = threading.Lock()
MANAGERS = {}

async def check():
    await asyncio.sleep(0.02)
    return True

async def get_websocket_manager_async(user):
    with LOCK:
        if user not in MANAGERS:
            available = await check()
            MANAGERS[user] = object()
        return MANAGERS[user]

async def main():
    await asyncio.gather(*(get_websocket_manager_async(u) for u in ("ann", "ann", "bob")))

asyncio.run(main())
"""


@pytest.mark.timeout(30)
def test_control_the_originals_way_hangs(run_isolated: Callable[..., Any]) -> None:
    """A factory with a thread lock around its await: the same callers, and nobody ever returns."""
    assert run_isolated(ORIGINAL, timeout=3).status is None


@pytest.mark.timeout(30)
def test_many_loops_and_threads_all_finish(fast_switches: None) -> None:
    """Eight threads, each with a loop and twenty tasks, a check that suspends: nobody waits long."""

    async def check() -> bool:
        await asyncio.sleep(0.001)
        return True

    wsmanager.configure(availability_check=check)
    found: list[Any] = []
    barrier = threading.Barrier(8)

    async def main() -> None:
        found.extend(
            await asyncio.gather(*(get_websocket_manager_async(f"u{n % 5}") for n in range(20)))
        )

    def run() -> None:
        barrier.wait()
        asyncio.run(main())

    threads = [threading.Thread(target=run, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert len(found) == 160
    assert len({id(manager) for manager in found}) == 5


# -- limits and lifetime --------------------------------------------------------


class Held:
    """Something that a stranded check holds."""


def strand() -> weakref.ref[Held]:
    """A loop that is closed while a caller waits for its check; what only that check holds."""
    held = Held()

    async def check(held: Held = held) -> bool:
        await asyncio.Event().wait()
        return held is not None

    async def main() -> None:
        task = asyncio.create_task(get_websocket_manager_async("ann"))
        await turns()
        assert not task.done()

    configure(check, availability_timeout=60)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    return weakref.ref(held)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("end", ["the next check", "a reset"])
def test_the_check_of_a_closed_loop_is_forgotten(end: str) -> None:
    stranded = [strand() for _ in range(3)]
    configure(Check())
    if end == "a reset":
        wsmanager.reset_manager_registry()
    else:
        manager = asyncio.run(get_websocket_manager_async("ann"))
        assert manager.service_available is True
    gc.collect()
    assert [ref() for ref in stranded] == [None] * 3


async def test_a_reset_leaves_the_checks_of_open_loops(loop_thread: LoopThread) -> None:
    check = configure(Check(held=True))
    task = asyncio.create_task(get_websocket_manager_async("ann"))
    await eventually(lambda: check.started)
    wsmanager.reset_manager_registry()
    second = asyncio.create_task(get_websocket_manager_async("ann"))
    await turns(10)
    check.release()
    assert await asyncio.wait_for(task, 5) is await asyncio.wait_for(second, 5)
    assert check.started == 1


async def test_the_manager_is_freed_with_its_last_holder() -> None:
    """The awaitable keeps nothing alive once it has answered."""
    wsmanager.configure(idle_ttl=0.0)
    acquire = get_websocket_manager_async("ann")
    alive = weakref.ref(await acquire)
    del acquire
    for n in range(64):
        get_websocket_manager(f"other-{n}")
    gc.collect()
    assert alive() is None
