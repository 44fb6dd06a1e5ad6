"""Timed loops: nanoseconds of CPU per turn of a statement, as ``timeit`` runs it.

The statement's names are locals of the loop, the collector is off while it
runs, and nothing is subtracted: the loop's own few nanoseconds are in every
figure. The clock is the thread's CPU time, so that a neighbour on the same
processor does not count.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from typing import Any


def loop(statement: str, seconds: float, **names: Any) -> Callable[[], float]:
    """Return a measurement of *statement*: nanoseconds per turn, about *seconds* long."""
    setup = "; ".join(f"{name} = _{name}" for name in names) or "pass"
    space = {f"_{name}": value for name, value in names.items()}
    timer = timeit.Timer(statement, setup, timer=time.thread_time, globals=space)
    turns = _calibrate(timer.timeit, seconds)

    def measure() -> float:
        return timer.timeit(turns) / turns * 1e9

    return measure


def _calibrate(run: Callable[[int], float], seconds: float) -> int:
    turns = 100
    while (taken := run(turns)) < seconds / 4:
        turns *= 4
    return max(100, int(turns * seconds / taken))
