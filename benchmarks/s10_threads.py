"""S10: two threads on a free-threaded build, each with users of its own.

Wall time, since that is what scaling is about: the events or hits of two
threads per second against those of one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from wsmanager import get_websocket_manager

from . import bars
from .contexts import UserContext
from .plan import Plan
from .rounds import interleave
from .table import Row, absent, compare

_CASES = {"hit": "hits, different users", "emit": "emits to offline users"}


def has_gil() -> bool:
    """Tell whether this interpreter runs one thread at a time."""
    enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return enabled()


def _hits(user: int, turns: int) -> None:
    ctx = UserContext(f"user-{user}")
    held = get_websocket_manager(ctx)
    for _ in range(turns):
        get_websocket_manager(ctx)
    assert held is get_websocket_manager(ctx)


def _emits(user: int, turns: int) -> None:
    manager: Any = get_websocket_manager(UserContext(f"user-{user}"))
    for _ in range(turns):
        manager.emit_event("agent_thinking", {"step_number": 3})


def _seconds(work: Callable[[int, int], None], threads: int, turns: int) -> float:
    """Return wall seconds per turn, counted over all threads."""
    barrier = threading.Barrier(threads + 1)

    def body(user: int) -> None:
        barrier.wait()
        work(user, turns)

    workers = [threading.Thread(target=body, args=(user,)) for user in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - start) / (turns * threads) * 1e9


def run(plan: Plan) -> list[Row]:
    """Compare two threads with one."""
    plan.progress.step("S10: two threads")
    if has_gil():
        why = "needs a free-threaded interpreter"
        return [
            absent("S10", f"2 threads: {name}", "one thread", bars.TWO_THREADS, why)
            for name in _CASES.values()
        ]
    rows = []
    for key, work, whole in (("hit", _hits, 400_000), ("emit", _emits, 40_000)):
        turns = whole // 4 if plan.quick else whole

        def timed(threads: int, work: Any = work, turns: int = turns) -> Callable[[], float]:
            return lambda: _seconds(work, threads, turns)

        results = interleave({"two": timed(2), "one": timed(1)}, plan.rounds, plan.progress.detail)
        note = f"best of two {min(results['two']):.1f} ns, best of one {min(results['one']):.1f} ns"
        rows.append(
            compare(
                "S10",
                f"2 threads: {_CASES[key]}",
                "one thread",
                results["two"],
                results["one"],
                bars.TWO_THREADS,
                "ns",
                note=note,
            )
        )
    return rows
