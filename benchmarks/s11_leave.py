"""S11: 100,000 users leaving at once.

Each has one connection. They leave as fast as the loop takes it, 64 in a
turn, as a server's loop takes the ends of many connections. The longest pause
is the longest any turn kept the loop from turning, in CPU time, so that a
neighbour on the processor is no pause of ours; the sweep of the idle users
after ``idle_ttl`` has a row of its own. Linear means: a user costs the same
among 25,000 and among 100,000.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from wsmanager import (
    configure,
    get_manager_registry_status,
    get_websocket_manager,
    reset_manager_registry,
)

from . import bars
from .contexts import FakeSocket, UserContext
from .plan import Plan
from .table import Row, alone, compare

_SIZES = (25_000, 50_000, 100_000)
_PER_TURN = 64
_IDLE_TTL = 0.2


async def _leave(count: int) -> tuple[float, float, float, int]:
    """Return CPU µs per user leaving, the longest turn, the longest turn of the sweep (ms), and users left over."""
    contexts = [UserContext(f"user-{i:08d}") for i in range(count)]
    sockets: list[Any] = [FakeSocket() for _ in range(count)]
    for context, socket in zip(contexts, sockets, strict=True):
        get_websocket_manager(context).add_connection(socket)
    await asyncio.sleep(0.05)
    gc.collect()
    start = time.thread_time()
    longest = 0.0
    for at in range(0, count, _PER_TURN):
        began = time.thread_time()
        for i in range(at, min(at + _PER_TURN, count)):
            get_websocket_manager(contexts[i]).remove_connection(sockets[i])
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
    spent = time.thread_time() - start
    await asyncio.sleep(_IDLE_TTL * 2)
    swept = await _sweep(count)
    left = int(get_manager_registry_status()["total_registered_managers"])
    reset_manager_registry()
    return spent / count * 1e6, longest * 1e3, swept * 1e3, left


async def _sweep(count: int) -> float:
    """Keep asking for managers until the idle ones are collected; the longest turn in seconds."""
    longest = 0.0
    for i in range(count):
        began = time.thread_time()
        get_websocket_manager(f"fresh-{i % 1000}")
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
        if i % 1000 == 999 and get_manager_registry_status()["total_registered_managers"] <= 1000:
            break
    return longest


def run(plan: Plan) -> list[Row]:
    """Measure the three sizes."""
    configure(max_users=1_000_000, max_idle_users=1_000_000, idle_ttl=_IDLE_TTL)
    gc.disable()  # its pauses grow with the whole program's heap and are not ours
    costs: dict[int, list[float]] = {size: [] for size in _SIZES}
    pauses: list[float] = []
    sweeps: list[float] = []
    left = 0
    for turn in range(3 if plan.quick else 5):
        for size in _SIZES:
            plan.progress.step(f"S11: {size:,} users leave, round {turn + 1}")
            cost, pause, sweep, left = asyncio.run(_leave(size))
            costs[size].append(cost)
            if size == _SIZES[-1]:
                pauses.append(pause)
                sweeps.append(sweep)
    gc.enable()
    small, _, large = _SIZES
    name = f"{large:,} users leave"
    return [
        compare(
            "S11",
            f"{name}: CPU per user",
            f"{small:,} users leave",
            costs[large],
            costs[small],
            bars.LEAVING_LINEAR,
            "µs",
        ),
        alone(
            "S11",
            f"{name}: longest pause",
            pauses,
            bars.LEAVING_PAUSE,
            "ms",
            note=_all(pauses),
        ),
        alone(
            "S11",
            f"{name}: longest pause of the sweep",
            sweeps,
            bars.LEAVING_PAUSE,
            "ms",
            note=f"{_all(sweeps)}; {left} users left over",
        ),
    ]


def _all(values: list[float]) -> str:
    return "rounds: " + ", ".join(f"{value:.2f}" for value in sorted(values))
