"""S10: two threads on a free-threaded build, each with users of its own.

Wall time, since that is what scaling is about: the events or hits of two
threads per second against those of one.
"""

from __future__ import annotations

import sys
import sysconfig
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


def _lap(work: Callable[[int, int], None], threads: int, turns: int, spent: list[float]) -> float:
    """Return wall nanoseconds per turn, counted over all threads; *spent* gets those of CPU."""
    barrier = threading.Barrier(threads + 1)

    def body(user: int) -> None:
        barrier.wait()
        work(user, turns)

    workers = [threading.Thread(target=body, args=(user,)) for user in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.join()
    spent.append((time.process_time() - cpu) / (turns * threads) * 1e9)
    return (time.perf_counter() - start) / (turns * threads) * 1e9


def run(plan: Plan) -> list[Row]:
    """Compare two threads with one."""
    plan.progress.step("S10: two threads")
    why = obstacle()
    if why is not None:
        return [
            absent("S10", f"2 threads: {name}", "one thread", bars.TWO_THREADS, why)
            for name in _CASES.values()
        ]
    rows = []
    for key, work, whole in (("hit", _hits, 400_000), ("emit", _emits, 40_000)):
        turns = whole // 4 if plan.quick else whole

        spent: dict[int, list[float]] = {1: [], 2: []}

        def timed(
            threads: int, work: Any = work, turns: int = turns, spent: Any = spent
        ) -> Callable[[], float]:
            return lambda: _lap(work, threads, turns, spent[threads])

        results = interleave({"two": timed(2), "one": timed(1)}, plan.rounds, plan.progress.detail)
        # More CPU a turn: they fight over something. As much, but no faster:
        # the processors were not free.
        note = (
            f"CPU a turn: {bars.middle(spent[2]):.1f} ns by two, {bars.middle(spent[1]):.1f} by one"
        )
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
