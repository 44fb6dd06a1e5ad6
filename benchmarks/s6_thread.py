"""S6: emit from another thread, in bursts of 64.

One thread runs the event loop, another emits a burst, waits for it to arrive,
and emits the next. The CPU time counted is that of the emitting thread within
the calls, plus all of the loop's thread from the wake-up to the last event;
the waiting between two bursts is not in it. A wake-up is a return of the
loop's selector with something to do.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from wsmanager import get_websocket_manager

from . import bars
from .plan import Plan
from .rounds import interleave
from .s5_generic import envelope, fastest_encoder
from .table import Row, alone, compare

BURST = 64
_DATA = {"agent_name": "triage", "step_number": 3}


class _CountingSelector(selectors.DefaultSelector):
    """A selector that counts how often it woke the loop."""

    wakes = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout)
        if ready:
            self.wakes += 1
        return ready


class _LoopThread:
    """An event loop in a thread of its own, and a sink for the events."""

    def __init__(self) -> None:
        self.selector = _CountingSelector()
        self.loop = asyncio.SelectorEventLoop(self.selector)
        self.received: list[object] = []
        self.take = self.received.append  # the cheapest sink there is
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        self._clock = time.pthread_getcpuclockid(self._thread.ident or 0)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(started.set)
        self.loop.run_forever()

    async def take_later(self, text: object) -> None:
        """Be the sink as a coroutine."""
        self.take(text)

    def bursts(self, emit: Callable[[int], object], count: int) -> tuple[float, float]:
        """Return microseconds of CPU per event, and wake-ups per burst."""
        spent = 0
        wakes = self.selector.wakes
        for _ in range(count):
            self.received.clear()
            there = time.clock_gettime_ns(self._clock)
            here = time.thread_time_ns()
            for i in range(BURST):
                emit(i)
            spent += time.thread_time_ns() - here
            self._wait()
            spent += time.clock_gettime_ns(self._clock) - there
        return spent / count / BURST / 1e3, (self.selector.wakes - wakes) / count

    def _wait(self) -> None:
        """Wait for the burst to arrive and the loop to sleep again."""
        patience = 10_000
        while len(self.received) < BURST:
            time.sleep(0.001)
            patience -= 1
            if patience == 0:
                raise RuntimeError(f"{len(self.received)} of {BURST} events arrived")
        time.sleep(0.0005)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function in the loop's thread and return its result."""

        async def inside() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(10)

    def close(self) -> None:
        """End the thread and the loop, when what was begun there has ended."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _on_loop(emit: Callable[[int], object], count: int) -> float:
    """Return microseconds of CPU per event emitted where it is sent: no hand-over."""
    start = time.thread_time_ns()
    for i in range(count * BURST):
        emit(i)
    return (time.thread_time_ns() - start) / count / BURST / 1e3


def run(plan: Plan) -> list[Row]:
    """Measure ours against the ways asyncio offers."""
    plan.progress.step("S6: emit from another thread")
    _, encode = fastest_encoder()
    thread = _LoopThread()
    manager = get_websocket_manager("u1")
    sink = SimpleNamespace(send_text=thread.take)
    thread.call(lambda: manager.add_connection(sink))

    def ours(i: int) -> object:
        return manager.emit_event("agent_thinking", _DATA)

    def call_soon(i: int) -> object:
        return thread.loop.call_soon_threadsafe(thread.take, encode(envelope(i, _DATA)))

    def coroutine(i: int) -> object:
        return asyncio.run_coroutine_threadsafe(
            thread.take_later(encode(envelope(i, _DATA))), thread.loop
        )

    wakes: dict[str, list[float]] = {"ours": [], "call_soon": [], "coroutine": []}

    def timed(name: str, emit: Callable[[int], object], count: int) -> Callable[[], float]:
        def measure() -> float:
            cost, woken = thread.bursts(emit, count)
            wakes[name].append(woken)
            return cost

        return measure

    count = 20 if plan.quick else 100
    results = interleave(
        {
            "ours": timed("ours", ours, count * 4),
            "call_soon": timed("call_soon", call_soon, count),
            "coroutine": timed("coroutine", coroutine, count),
            "on loop": lambda: float(thread.call(lambda: _on_loop(ours, count))),
        },
        plan.rounds,
        plan.progress.detail,
    )
    thread.call(manager.close_all_connections)
    thread.close()
    name = f"from another thread, bursts of {BURST}: CPU per event"
    mine = results["ours"]
    return [
        compare(
            "S6", name, "call_soon_threadsafe", mine, results["call_soon"], bars.FROM_THREAD, "µs"
        ),
        compare(
            "S6", name, "run_coroutine_threadsafe", mine, results["coroutine"], bars.BETTER, "µs"
        ),
        compare(
            "S6",
            name,
            "the same emit on the loop's thread",
            mine,
            results["on loop"],
            bars.SHARE,
            "µs",
        ),
        alone("S6", "from another thread: wake-ups", wakes["ours"], bars.WAKE_UPS, "per burst"),
    ]
