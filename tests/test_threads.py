"""Emitting from any thread to connections of any loop: order per sender, nothing lost, no wait."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import selectors
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from support.loops import LoopThread, loop_factories
from support.sanitizers import SANITIZED
from support.sockets import FailingSocket, HangingSocket, StarletteSocket, SyncSocket
from support.threads import at_once
from support.waiting import eventually, eventually_sync
from support.wire import Line

import wsmanager
from wsmanager import get_manager_registry_status, get_websocket_manager
from wsmanager._wsmanager import Channel


def check_senders(socket: Any, senders: int, each: int) -> None:
    """Every event of every sender once, in the order in which that sender emitted it."""
    seen: dict[int, list[int]] = defaultdict(list)
    for event in socket.events:
        seen[event["payload"]["sender"]].append(event["payload"]["n"])
    assert sorted(seen) == list(range(senders))
    for sender, numbers in seen.items():
        assert numbers == list(range(each)), f"sender {sender}: lost, doubled or out of order"


class LoopMarking(StarletteSocket):
    """Remembers which loop and thread each send ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.ran_in: set[tuple[int, int]] = set()

    async def send_text(self, data: str) -> None:
        self.ran_in.add((id(asyncio.get_running_loop()), threading.get_ident()))
        self.take(data)


# -- L3: the storm --------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True], ids=["fire and forget", "receipt read"])
def test_order_per_sender_into_one_loop(
    any_loop_thread: LoopThread, fast_switches: None, awaited: bool
) -> None:
    manager = get_websocket_manager("ann")
    socket = LoopMarking()
    manager.add_connection(socket, loop=any_loop_thread.loop)
    senders, each = 8, 200
    wsmanager.configure(
        outbox_max_events=senders * each, outbox_max_bytes=1_000_000_000, outbox_max_age=600
    )

    def sender(number: int) -> None:
        for n in range(each):
            delivery = manager.emit_event("x", {"sender": number, "n": n})
            if awaited:
                receipt = delivery.receipt  # a snapshot: the next one may tell of more
                assert receipt.queued + receipt.sent == 1

    at_once([lambda number=number: sender(number) for number in range(senders)])
    eventually_sync(lambda: len(socket.texts) == senders * each, 20)
    check_senders(socket, senders, each)
    assert socket.ran_in == {(id(any_loop_thread.loop), any_loop_thread.thread.ident)}


def test_several_loops_in_several_threads(fast_switches: None) -> None:
    """F14: a user with sockets in four loops, asyncio and uvloop, and sixteen senders."""
    factories = (loop_factories() * 4)[:4]
    loops = [LoopThread(factory) for factory in factories]
    senders, each = 16, 60
    wsmanager.configure(
        outbox_max_events=senders * each, outbox_max_bytes=1_000_000_000, outbox_max_age=600
    )
    manager = get_websocket_manager("ann")
    sockets = []
    try:
        for thread in loops:
            thread.__enter__()
            socket = LoopMarking()
            sockets.append(socket)
            thread.call(manager.add_connection, socket)

        def sender(number: int) -> None:
            for n in range(each):
                manager.emit_event("x", {"sender": number, "n": n})

        at_once([lambda number=number: sender(number) for number in range(senders)])
        for socket, thread in zip(sockets, loops, strict=True):
            eventually_sync(lambda socket=socket: len(socket.texts) == senders * each, 20)
            check_senders(socket, senders, each)
            assert socket.ran_in == {(id(thread.loop), thread.thread.ident)}
    finally:
        for thread in loops:
            thread.close()


async def test_senders_on_the_loop_and_off_it(fast_switches: None) -> None:
    """Some emit inside the owning loop, some outside: each one's own order holds."""
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    each = 150
    wsmanager.configure(outbox_max_events=10 * each)

    def off(number: int) -> None:
        for n in range(each):
            manager.emit_event("x", {"sender": number, "n": n})

    async def on(number: int) -> None:
        for n in range(each):
            manager.emit_event("x", {"sender": number, "n": n})
            if n % 10 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(on(0), on(1), *(asyncio.to_thread(off, number) for number in range(2, 6)))
    await eventually(lambda: len(socket.texts) == 6 * each, 20)
    check_senders(socket, 6, each)


def test_one_wakeup_for_a_burst(loop_thread: LoopThread) -> None:
    """A thousand events while the loop is busy elsewhere: it is woken a few times, not a thousand."""
    manager = get_websocket_manager("ann")
    socket = SyncSocket()
    manager.add_connection(socket, loop=loop_thread.loop)
    wsmanager.configure(outbox_max_events=2000)
    woken = 0
    original = loop_thread.loop.call_soon_threadsafe

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal woken
        woken += 1
        return original(*args, **kwargs)

    loop_thread.loop.call_soon_threadsafe = counting  # type: ignore[method-assign]
    busy = threading.Event()
    original(busy.wait, 10)
    for n in range(1000):
        manager.emit_event("x", {"n": n})
    busy.set()
    eventually_sync(lambda: len(socket.texts) == 1000)
    assert woken <= 3
    assert [event["payload"]["n"] for event in socket.events] == list(range(1000))


class WakeCounting(selectors.DefaultSelector):
    """Counts how often it let its loop go on."""

    wakes = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout)
        self.wakes += bool(ready)
        return ready


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL the loop runs beside the burst, and may be woken twice for it",
)
@pytest.mark.skipif(
    SANITIZED, reason="under a sanitizer a burst takes longer than a thread's turn with the GIL"
)
def test_bursts_wake_an_idle_loop_once_each() -> None:
    """The loop does not run into a burst that has begun; the next is seen to be one."""
    selector = WakeCounting()
    with LoopThread(lambda: asyncio.SelectorEventLoop(selector)) as loop_thread:
        manager = get_websocket_manager("ann")
        socket = SyncSocket()
        manager.add_connection(socket, loop=loop_thread.loop)

        def burst(number: int) -> tuple[float, int]:
            before, begin = selector.wakes, time.perf_counter()
            for n in range(64):
                manager.emit_event("x", {"n": number * 64 + n})
            took = time.perf_counter() - begin
            eventually_sync(lambda: len(socket.texts) == (number + 1) * 64)
            return took, selector.wakes - before

        burst(0)  # shows that they come in bursts
        bursts = [burst(number) for number in range(1, 101)]
    # In one that takes long, for want of a processor, the loop gets its turn.
    wakes = [woken for took, woken in bursts if took < sys.getswitchinterval() / 2]
    assert len(wakes) >= 10
    assert statistics.median(wakes) == 1, wakes
    assert [event["payload"]["n"] for event in socket.events] == list(range(101 * 64))


@pytest.mark.parametrize("factory", loop_factories(), ids=lambda f: f.__module__.split(".")[0])
@pytest.mark.parametrize("debug", [False, True])
def test_bursts_arrive_whatever_wakes_the_loop(factory: Callable[[], Any], debug: bool) -> None:
    """By a byte of ours or by call_soon_threadsafe: another loop, debug mode, a class of one's own."""
    with LoopThread(factory) as loop_thread:
        loop_thread.loop.set_debug(debug)
        manager = get_websocket_manager("ann")
        socket = SyncSocket()
        manager.add_connection(socket, loop=loop_thread.loop)
        for number in range(1, 6):
            for n in range(64):
                manager.emit_event("x", {"n": n})
            eventually_sync(lambda number=number: len(socket.texts) == number * 64)
    assert [event["payload"]["n"] for event in socket.events] == list(range(64)) * 5


def test_a_loop_that_wakes_in_its_own_way_is_woken_that_way() -> None:
    """Each event in a burst and alone comes by what its class overrides."""
    asked = 0

    class Own(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            return super().call_soon_threadsafe(*args, **kwargs)

    with LoopThread(Own) as loop_thread:
        manager = get_websocket_manager("ann")
        socket = SyncSocket()
        manager.add_connection(socket, loop=loop_thread.loop)
        asked = 0
        for number in range(1, 6):
            for n in range(64):
                manager.emit_event("x", {"n": n})
            eventually_sync(lambda number=number: len(socket.texts) == number * 64)
        assert asked > 0


def test_an_emit_never_waits_for_a_blocked_loop(loop_thread: LoopThread) -> None:
    """F7 in its short form: one loop blocked, the emitter and the other loop go on."""
    manager = get_websocket_manager("ann")
    blocked, free = SyncSocket(), SyncSocket()
    manager.add_connection(blocked, loop=loop_thread.loop)
    with LoopThread() as other:
        manager.add_connection(free, loop=other.loop)
        loop_thread.loop.call_soon_threadsafe(time.sleep, 1.0)
        begin = time.perf_counter()
        for n in range(100):
            manager.emit_event("x", {"n": n})
        assert time.perf_counter() - begin < 0.8
        eventually_sync(lambda: len(free.texts) == 100, 0.8)
        assert blocked.texts == []
        eventually_sync(lambda: len(blocked.texts) == 100)
    assert [event["payload"]["n"] for event in blocked.events] == list(range(100))


# -- loops that end -------------------------------------------------------------


@pytest.mark.parametrize("factory", loop_factories(), ids=lambda f: f.__module__.split(".")[0])
def test_a_closed_loop_is_survived(factory: Callable[[], Any]) -> None:
    """Its connections are evicted; the emitter never sees "Event loop is closed"."""
    manager = get_websocket_manager("ann")
    dead = StarletteSocket()
    thread = LoopThread(factory)
    with thread:
        thread.call(manager.add_connection, dead)
    assert thread.loop.is_closed()
    with LoopThread() as living:
        alive = StarletteSocket()
        manager.add_connection(alive, loop=living.loop)
        receipt = manager.emit_event("x", {}).receipt
        eventually_sync(lambda: alive.types == ["x"])
        manager.emit_event("y", {})
        eventually_sync(lambda: alive.types == ["x", "y"])
        assert dead.texts == []
        assert receipt.queued + receipt.sent >= 1
        assert len(manager) == 1
    assert get_manager_registry_status()["total_connections"] <= 1


def test_a_loop_closed_with_events_on_their_way() -> None:
    """Stopped between the emit and the turn that would have sent: no crash, no hang, no error."""
    manager = get_websocket_manager("ann")
    loop = asyncio.new_event_loop()
    socket = SyncSocket()
    manager.add_connection(socket, loop=loop)
    deliveries = [manager.emit_event("x", {"n": n}) for n in range(10)]
    loop.close()
    deadline = time.monotonic() + 5
    while len(manager) and time.monotonic() < deadline:
        manager.emit_event("y", {})
        time.sleep(0.05)
    assert socket.texts == []
    assert len(manager) == 0
    del deliveries
    gc.collect()


@pytest.mark.parametrize("how", ["busy", "blocked"])
def test_a_loop_closed_while_its_connection_was_at_work(how: str) -> None:
    """The next emit from elsewhere says so, and does not fill an outbox that nobody empties."""
    manager = get_websocket_manager("ann")
    loop = asyncio.new_event_loop()

    async def busy() -> None:
        manager.add_connection(HangingSocket())
        manager.emit_event("x", {})
        await asyncio.sleep(0)

    lines: list[Line] = []

    async def blocked() -> None:
        line = await Line.open(4096)
        lines.append(line)
        manager.add_connection(line, channel=Channel(line.transport))
        manager.emit_event("x", {"pad": "x" * 500_000})
        manager.emit_event("x", {})
        await asyncio.sleep(0)

    loop.run_until_complete(busy() if how == "busy" else blocked())
    loop.close()
    assert len(manager) == 1
    deadline = time.monotonic() + 5
    while len(manager) and time.monotonic() < deadline:
        delivery = manager.emit_event("y", {})
        time.sleep(0.002)
    assert len(manager) == 0
    assert delivery.receipt.queued == 0
    assert not manager.is_connection_active()
    for line in lines:  # its transport cannot be closed without its loop
        transport: Any = line.transport
        transport._sock.close()
        transport._sock = None
        line.peer.close()
    del delivery
    gc.collect()


def test_a_loop_that_runs_only_later() -> None:
    """Events for a loop that has not started yet wait for it."""
    manager = get_websocket_manager("ann")
    loop = asyncio.new_event_loop()
    socket = SyncSocket()
    manager.add_connection(socket, loop=loop)
    for n in range(5):
        manager.emit_event("x", {"n": n})
    assert socket.texts == []
    loop.run_until_complete(asyncio.sleep(0.01))
    assert [event["payload"]["n"] for event in socket.events] == list(range(5))
    loop.close()


def test_asyncio_run_after_asyncio_run() -> None:
    """Test suites and scripts make one loop after another; nothing of the old one interferes."""
    manager = get_websocket_manager("ann")
    for n in range(20):
        socket = StarletteSocket()

        async def main(socket: StarletteSocket = socket, n: int = n) -> None:
            manager.add_connection(socket)
            assert await manager.emit_event("x", {"n": n})

        asyncio.run(main())
        assert [event["payload"]["n"] for event in socket.events] == [n]
    manager.emit_event("x", {})
    assert len(manager) == 0


def test_loops_are_freed(loop_thread: LoopThread) -> None:
    """A closed loop is not kept for ever by the registry that once had a connection of it."""
    import weakref

    manager = get_websocket_manager("ann")
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    connection_id = manager.add_connection(SyncSocket(), loop=loop)
    manager.emit_event("x", {})
    loop.run_until_complete(asyncio.sleep(0.01))
    manager.remove_connection(connection_id)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    alive = weakref.ref(loop)
    del loop
    for _ in range(3):
        get_websocket_manager("bob").add_connection(SyncSocket(), loop=loop_thread.loop)
        gc.collect()
    assert alive() is None


# -- places without a loop ------------------------------------------------------


def test_emitting_from_del(loop_thread: LoopThread) -> None:
    manager = get_websocket_manager("ann")
    socket = SyncSocket()
    manager.add_connection(socket, loop=loop_thread.loop)

    class Dying:
        def __del__(self) -> None:
            manager.emit_event("dying", {})

    cycle = [Dying()]
    cycle.append(cycle)  # type: ignore[arg-type]
    del cycle
    gc.collect()
    Dying()
    eventually_sync(lambda: socket.types == ["dying", "dying"])


def test_emitting_from_a_signal_handler(loop_thread: LoopThread) -> None:
    import signal

    manager = get_websocket_manager("ann")
    socket = SyncSocket()
    manager.add_connection(socket, loop=loop_thread.loop)
    previous = signal.signal(signal.SIGUSR1, lambda *_: manager.emit_event("signal", {}))
    try:
        for _ in range(20):
            signal.raise_signal(signal.SIGUSR1)
            manager.emit_event("main", {})
    finally:
        signal.signal(signal.SIGUSR1, previous)
    eventually_sync(lambda: len(socket.texts) == 40)
    assert socket.types.count("signal") == 20


async def test_emitting_from_a_pool_thread_inside_a_tool() -> None:
    """The shape of agent code: a coroutine, a pool thread, and the emit in there."""
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)

    def tool() -> bool:
        manager.emit_event("tool_executing", {"tool_name": "search"})
        return bool(manager.emit_event("tool_completed", {"tool_name": "search"}))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool, tool)
    await eventually(lambda: socket.types == ["tool_executing", "tool_completed"])


async def test_emitting_from_another_loops_coroutine(loop_thread: LoopThread) -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)

    async def there() -> bool:
        return bool(await manager.emit_event("x", {}))

    future = asyncio.run_coroutine_threadsafe(there(), loop_thread.loop)
    assert await asyncio.wrap_future(future) is True
    await eventually(lambda: socket.types == ["x"])


# -- churn ----------------------------------------------------------------------


def test_connections_come_and_go_under_fire(fast_switches: None) -> None:
    """A socket gets a contiguous run of each sender's events while it is there, and none after."""
    manager = get_websocket_manager("ann")
    stop = threading.Event()
    # None is slow here, however late the loop's thread gets its turn.
    wsmanager.configure(
        outbox_max_events=1_000_000, outbox_max_bytes=1_000_000_000, outbox_max_age=600
    )
    with LoopThread() as thread:
        problems: list[str] = []

        def sender(number: int) -> None:
            n = 0
            while not stop.is_set():
                manager.emit_event("x", {"sender": number, "n": n})
                n += 1
                if n % 20 == 0:
                    time.sleep(0.001)

        def churn() -> None:
            for _ in range(60):
                socket = SyncSocket()
                connection_id = thread.call(manager.add_connection, socket)
                time.sleep(0.003)
                assert thread.call(manager.remove_connection, connection_id)
                thread.call(lambda: None)
                count = len(socket.texts)
                seen: dict[int, list[int]] = defaultdict(list)
                for event in socket.events:
                    seen[event["payload"]["sender"]].append(event["payload"]["n"])
                for numbers in seen.values():
                    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
                        problems.append(f"not contiguous: {numbers[:20]}")
                thread.call(lambda: None)
                if len(socket.texts) != count:
                    problems.append("an event after the removal")

        at_once([lambda k=k: sender(k) for k in range(4)] + [churn], stop)
        assert problems == []
        assert len(manager) == 0


def test_failures_in_another_loop_are_dealt_with_there(loop_thread: LoopThread) -> None:
    manager = get_websocket_manager("ann")
    gone, hanging, good = FailingSocket(ConnectionResetError()), HangingSocket(), SyncSocket()
    for socket in (gone, hanging, good):
        manager.add_connection(socket, loop=loop_thread.loop)
    for _ in range(3):
        manager.emit_event("x", {})
    eventually_sync(lambda: len(good.texts) == 3)
    eventually_sync(lambda: len(manager) == 2)
    assert gone.attempts == 1
    loop_thread.call(hanging.release)
    eventually_sync(lambda: len(hanging.texts) == 3)


def test_reset_while_everybody_emits(loop_thread: LoopThread, fast_switches: None) -> None:
    stop = threading.Event()
    wsmanager.configure(max_connections_per_user=1_000_000)

    def sender() -> None:
        while not stop.is_set():
            manager = get_websocket_manager("ann")
            manager.add_connection(SyncSocket(), loop=loop_thread.loop)
            manager.emit_event("x", {})

    def resetter() -> None:
        for _ in range(50):
            wsmanager.reset_manager_registry()
            time.sleep(0.001)

    at_once([sender] * 4 + [resetter], stop)
    wsmanager.reset_manager_registry()
    assert get_manager_registry_status()["total_connections"] == 0


def test_users_of_many_threads_are_let_go(fast_switches: None) -> None:
    """Endless distinct users, each made and left in one of many threads: the registry stays small."""
    wsmanager.configure(max_idle_users=50)
    each = 500
    twins: list[str] = []

    def passers_by(number: int) -> None:
        for n in range(each):
            name = f"passer-{number}-{n}"
            held = get_websocket_manager(name)
            shared = get_websocket_manager(f"shared-{n % 60}")
            if get_websocket_manager(name) is not held:
                twins.append(name)
            if get_websocket_manager(f"shared-{n % 60}") is not shared:
                twins.append(f"shared-{n % 60}")

    at_once([lambda number=number: passers_by(number) for number in range(6)])
    for n in range(200):  # whoever comes lets two or more go
        get_websocket_manager(f"last-{n}")
    assert twins == []
    assert get_manager_registry_status()["total_registered_managers"] < 200


def test_the_gil_is_not_turned_on_by_the_import() -> None:
    """On a free-threaded build the import must not switch the GIL back on, once that is claimed."""
    if not hasattr(sys, "_is_gil_enabled"):
        pytest.skip("only free-threaded builds (3.13t on) can tell")
    import sysconfig

    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this interpreter was built with the GIL")
    assert sys._is_gil_enabled() is False


def test_threads_that_begin_to_wait_for_one_event_at_once(fast_switches: None) -> None:
    """Each has a future of its own loop, and every one is woken."""
    manager = get_websocket_manager("ann")
    rounds, threads = 200, 2
    box: list[Any] = [None]
    arrived = [0] * threads
    answers: list[bool] = []

    def meet(number: int, stage: int) -> None:
        """At a barrier a thread sleeps, and the others are gone when it wakes: so they spin."""
        arrived[number] = stage
        deadline = time.monotonic() + 60
        while min(arrived) < stage:
            assert time.monotonic() < deadline, "another thread never came"

    async def wait(number: int) -> None:
        for n in range(rounds):
            if number == 0:
                box[0] = manager.emit_event("x", {"n": n}, ack=True)
            meet(number, 3 * n + 1)
            waiting = box[0].acked(30)
            meet(number, 3 * n + 2)
            if number == 0:
                assert manager.acknowledge(box[0].id)
            answers.append(await waiting)
            meet(number, 3 * n + 3)

    at_once([lambda number=number: asyncio.run(wait(number)) for number in range(threads)])
    assert answers == [True] * rounds * threads
