"""S10: two threads on a free-threaded build, each with users of its own.

Wall time, since that is what scaling is about: the events or hits of two
threads per second against those of one. Each thread serves several users in
turn, among a thousand others, as in a service: with two users in all, a
table of eight places has both at one place now and then, by the day's hashes.
This thread has made all their managers: references are cheaper for the
thread that made the object, and whether that is the same address again for
the thread of a later lap is luck.
The last two rows are for information: what this machine gives two threads
that share nothing, and what two cost each other that do want the same.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wsmanager import get_websocket_manager

from . import bars
from .contexts import UserContext
from .plan import Plan
from .rounds import interleave
from .table import Row, absent, compare

_OTHERS = 1000
_USERS = 16  # of each thread


def obstacle() -> str | None:
    """Tell why two threads cannot run at once here, or None if they can."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "needs a free-threaded interpreter"
    enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    if enabled():
        return (
            "the GIL is on in this free-threaded interpreter, as an extension asked for it; "
            "PYTHON_GIL=0 keeps it off"
        )
    return None


Work = Callable[[list[UserContext], int], None]


def _hits(users: list[UserContext], turns: int) -> None:
    for _ in range(turns // len(users)):
        for user in users:
            get_websocket_manager(user)


def _emits(users: list[UserContext], turns: int) -> None:
    managers: list[Any] = [get_websocket_manager(user) for user in users]
    for _ in range(turns // len(users)):
        for manager in managers:
            manager.emit_event("agent_thinking", {"step_number": 3})


def _nothing(users: list[UserContext], turns: int) -> None:
    total = 0
    for n in range(turns):
        total += n & 3


@dataclass(frozen=True)
class _Case:
    name: str
    work: Work
    turns: int
    bar: bars.Bar
    apart: bool = True  # each thread has users of its own


_CASES = (
    _Case("hits, different users", _hits, 1_600_000, bars.TWO_THREADS),
    _Case("emits to offline users", _emits, 80_000, bars.TWO_THREADS),
    _Case("a loop that shares nothing", _nothing, 3_200_000, bars.BETTER),
    _Case("emits to the same users", _emits, 80_000, bars.BETTER, apart=False),
)


def _users(thread: int) -> list[UserContext]:
    return [UserContext(f"user-{thread}-{n}") for n in range(_USERS)]


def _stay(thread: int) -> None:
    """Keep this thread to a processor of its own: the kernel begins with both on one."""
    if sys.platform == "linux":
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[thread % len(processors)]})


def _lap(case: _Case, threads: int, turns: int, spent: list[float]) -> float:
    """Return wall nanoseconds per turn, counted over all threads; *spent* gets those of CPU."""
    barrier = threading.Barrier(threads)
    times: list[tuple[float, float, float]] = []

    def body(thread: int) -> None:
        _stay(thread)
        users = _users(thread if case.apart else 0)
        barrier.wait()
        start, cpu = time.perf_counter(), time.thread_time()
        case.work(users, turns)
        times.append((start, time.perf_counter(), time.thread_time() - cpu))

    workers = [threading.Thread(target=body, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    starts, ends, cpus = zip(*times, strict=True)
    spent.append(sum(cpus) / (turns * threads) * 1e9)
    return float(max(ends) - min(starts)) / (turns * threads) * 1e9


def _row(case: _Case, plan: Plan) -> Row:
    turns = case.turns // 4 if plan.quick else case.turns
    spent: dict[int, list[float]] = {1: [], 2: []}
    results = interleave(
        {
            "two": lambda: _lap(case, 2, turns, spent[2]),
            "one": lambda: _lap(case, 1, turns, spent[1]),
        },
        plan.rounds,
        plan.progress.detail,
    )
    # More CPU a turn: they fight over something. As much, but no faster:
    # the processors were not free.
    note = f"CPU a turn: {bars.middle(spent[2]):.1f} ns by two, {bars.middle(spent[1]):.1f} by one"
    name = f"2 threads: {case.name}"
    return compare(
        "S10", name, "one thread", results["two"], results["one"], case.bar, "ns", note=note
    )


def run(plan: Plan) -> list[Row]:
    """Compare two threads with one."""
    plan.progress.step("S10: two threads")
    why = obstacle()
    if why is not None:
        return [
            absent("S10", f"2 threads: {case.name}", "one thread", case.bar, why) for case in _CASES
        ]
    others = [UserContext(f"other-{n}") for n in range(_OTHERS)]
    users = [*_users(0), *others, *_users(1)]
    held = [get_websocket_manager(user) for user in users]
    rows = [_row(case, plan) for case in _CASES]
    assert held == [get_websocket_manager(user) for user in users]
    return rows
