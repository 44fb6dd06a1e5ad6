"""S8: the same cost at 10 and at 1,000,000 users.

A hit, a create, a connect and a disconnect at each size, and the same on a
bare dict of that size: a look-up, an insertion, an insertion, a deletion. Both
get dearer as the caches run out; the ratio is our growth from 10 users on over
the dict's. Users are taken in random order. The collector is off, as in
``timeit``.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wsmanager import configure, get_websocket_manager, reset_manager_registry

from . import bars
from .contexts import FakeSocket, UserContext
from .plan import Plan
from .table import Row, alone, compare

_SAMPLE = 20_000
_OPERATIONS = ("hit", "create", "connect", "disconnect")


def sizes(plan: Plan) -> tuple[int, ...]:
    """Return the numbers of users."""
    return (10, 1_000, 100_000) if plan.quick else (10, 1_000, 100_000, 1_000_000)


def _clock_cost() -> float:
    """Return what two readings of the clock cost: among 10 users it would be most of the figure."""
    costs = []
    for _ in range(1000):
        start = time.thread_time_ns()
        costs.append(time.thread_time_ns() - start)
    return bars.middle(costs)


_CLOCK_COST = _clock_cost()


class _Clock:
    """Nanoseconds of CPU per item, noted by the name of the operation."""

    def __init__(self) -> None:
        self.cost: dict[str, float] = {}
        self._start = time.thread_time_ns()

    def lap(self, name: str, items: Sequence[object]) -> None:
        """Note what was spent since the last :meth:`start`, without the clock's own part."""
        spent = time.thread_time_ns() - self._start - _CLOCK_COST
        self.cost[name] = max(spent, 1) / len(items)

    def start(self) -> None:
        """Begin an operation."""
        self._start = time.thread_time_ns()


class _Users:
    """A population: contexts and sockets, made beforehand, in random order."""

    def __init__(self, count: int) -> None:
        self.contexts = [UserContext(f"user-{i:08d}") for i in range(count)]
        self.sockets = [FakeSocket() for _ in range(count)]
        random.Random(7).shuffle(self.contexts)
        self.sample = self.contexts * max(1, _SAMPLE // count)
        self.sample = self.sample[:_SAMPLE]
        random.Random(8).shuffle(self.sample)

    def ours(self) -> dict[str, float]:
        """Take an empty registry through the four operations."""
        get, clock = get_websocket_manager, _Clock()
        managers: list[Any] = []
        keep = managers.append
        clock.start()
        for context in self.contexts:
            keep(get(context))
        clock.lap("create", self.contexts)
        clock.start()
        for context in self.sample:
            get(context)
        clock.lap("hit", self.sample)
        pairs = list(zip(managers, self.sockets, strict=True))
        clock.start()
        for manager, socket in pairs:
            manager.add_connection(socket)
        clock.lap("connect", pairs)
        clock.start()
        for manager, socket in pairs:
            manager.remove_connection(socket)
        clock.lap("disconnect", pairs)
        reset_manager_registry()
        return clock.cost

    def bare(self) -> dict[str, float]:
        """Take empty dicts through the like of it."""
        clock = _Clock()
        table: dict[str, object] = {}
        links: dict[str, object] = {}
        clock.start()
        for context in self.contexts:
            table[context.user_id] = object()
        clock.lap("create", self.contexts)
        clock.start()
        for context in self.sample:
            table[context.user_id]
        clock.lap("hit", self.sample)
        pairs = list(zip(self.contexts, self.sockets, strict=True))
        clock.start()
        for context, socket in pairs:
            links[context.user_id] = socket
        clock.lap("connect", pairs)
        clock.start()
        for context, _ in pairs:
            links.pop(context.user_id)
        clock.lap("disconnect", pairs)
        return clock.cost


def _repeated(work: Callable[[], dict[str, float]], times: int) -> dict[str, float]:
    """Return the mean of each operation over *times* populations."""
    laps = [work() for _ in range(times)]
    return {name: sum(lap[name] for lap in laps) / times for name in _OPERATIONS}


async def _costs(plan: Plan) -> dict[int, dict[str, dict[str, list[float]]]]:
    """Return nanoseconds by size, side ("ours", "bare") and operation."""
    costs: dict[int, dict[str, dict[str, list[float]]]] = {}
    for size in sizes(plan):
        plan.progress.step(f"S8: {size:,} users")
        users = _Users(size)
        times = max(1, 20_000 // size)
        sides = costs[size] = {
            side: {name: [] for name in _OPERATIONS} for side in ("ours", "bare")
        }
        for turn in range(_rounds(plan, size)):
            plan.progress.detail(f"round {turn + 1}")
            for side, work in (("ours", users.ours), ("bare", users.bare)):
                _note(sides[side], _repeated(work, times).items())
            await asyncio.sleep(0)
    return costs


def _rounds(plan: Plan, size: int) -> int:
    return 3 if size >= 1_000_000 else plan.rounds


def _note(series: dict[str, list[float]], figures: Iterable[tuple[str, float]]) -> None:
    for name, figure in figures:
        series[name].append(figure)


def run(plan: Plan) -> list[Row]:
    """Measure the four operations at each size."""
    configure(max_users=4_000_000, max_idle_users=4_000_000)
    gc.disable()
    try:
        costs = asyncio.run(_costs(plan))
    finally:
        gc.enable()
    first, *others = costs
    rows = []
    for name in _OPERATIONS:
        base = {side: bars.middle(costs[first][side][name]) for side in ("ours", "bare")}
        rows.append(
            alone("S8", f"{name} at {first} users", costs[first]["ours"][name], bars.SHARE, "ns")
        )
        for size in others:
            ours, bare = costs[size]["ours"][name], costs[size]["bare"][name]
            growth = [
                (a / base["ours"]) / (b / base["bare"]) for a, b in zip(ours, bare, strict=True)
            ]
            note = f"ours grew {bars.middle(ours) / base['ours']:.2f} x, the dict {bars.middle(bare) / base['bare']:.2f} x"
            rows.append(
                compare(
                    "S8",
                    f"{name} at {size:,} users",
                    "growth of a bare dict",
                    ours,
                    bare,
                    bars.GROWTH,
                    "ns",
                    ratios=growth,
                    note=note,
                )
            )
    return rows
