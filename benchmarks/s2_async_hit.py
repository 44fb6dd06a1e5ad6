"""S2: ``await get_websocket_manager_async(ctx)`` on a hit, against awaiting an empty ``async def``."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from wsmanager import get_websocket_manager, get_websocket_manager_async

from . import bars
from .contexts import UserContext
from .plan import Plan
from .rounds import interleave
from .table import Row, compare


async def empty(user_context: object) -> None:
    """Do nothing: the least an ``async def`` wrapper can cost."""


async def wrapper(user_context: object) -> object:
    """Return the manager as an ``async def`` around the sync form does it."""
    return get_websocket_manager(user_context)


async def _awaits(get: Callable[[Any], Any], ctx: object, turns: int) -> float:
    start = time.thread_time()
    for _ in range(turns):
        await get(ctx)
    return (time.thread_time() - start) / turns * 1e9


def finish(coroutine: Coroutine[Any, Any, float]) -> float:
    """Run a coroutine that never suspends; no event loop is needed, nor in the figure."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return float(stop.value)
    coroutine.close()
    raise RuntimeError("a hit suspended")


def run(plan: Plan) -> list[Row]:
    """Measure the three awaits."""
    plan.progress.step("S2: await get_websocket_manager_async")
    ctx = UserContext("user-12345678")
    held = get_websocket_manager(ctx)
    turns = int(plan.loop / 80e-9)

    def timed(get: Callable[[Any], Any]) -> Callable[[], float]:
        return lambda: finish(_awaits(get, ctx, turns))

    results = interleave(
        {
            "ours": timed(get_websocket_manager_async),
            "empty": timed(empty),
            "wrapper": timed(wrapper),
        },
        plan.rounds * 3,
        plan.progress.detail,
    )
    assert held is get_websocket_manager(ctx)
    name = "await, hit"
    return [
        compare(
            "S2",
            name,
            "await of an empty async def",
            results["ours"],
            results["empty"],
            bars.ASYNC_HIT,
            "ns",
        ),
        compare(
            "S2",
            name,
            "async def around the sync form",
            results["ours"],
            results["wrapper"],
            bars.BETTER,
            "ns",
        ),
    ]
