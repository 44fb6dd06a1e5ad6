"""L3, F7 and F14: many threads, many loops, a blocked loop: order per sender, nothing lost, no wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(("threads", "each", "loops"), [(8, 200, 2), (16, 60, 8), (64, 20, 4)])
def test_the_storm(isolated: Callable[..., Any], threads: int, each: int, loops: int) -> None:
    """Short forms; asyncio's loops and uvloop's, each send on its own loop's thread."""
    isolated("storm.py", threads, each, loops, timeout=100)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("plant", ["LIFO", "LOST_WAKEUP"])
def test_control_a_broken_mailbox_is_caught(
    nursery: Any, run_isolated: Callable[..., Any], plant: str
) -> None:
    """A mailbox that hands out the newest first, or sometimes does not wake its loop."""
    outcome = run_isolated("storm.py", 8, 200, 4, package=nursery.package(plant), timeout=100)
    assert outcome.status == 1, outcome.explain()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_storm_of_64_threads(isolated: Callable[..., Any]) -> None:
    print(isolated("storm.py", 64, 100_000, 4, timeout=7100).out)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_events_into_eight_loops(isolated: Callable[..., Any]) -> None:
    print(isolated("storm.py", 8, 125_000, 8, timeout=3500).out)


def test_a_blocked_loop_keeps_nobody(isolated: Callable[..., Any]) -> None:
    isolated("blocked.py", 8, 2.0, 2, timeout=60)


@pytest.mark.timeout(400)
def test_control_an_emit_that_waits_is_caught(
    nursery: Any, run_isolated: Callable[..., Any]
) -> None:
    outcome = run_isolated(
        "blocked.py", 4, 2.0, 1, package=nursery.package("EMIT_WAITS"), timeout=100
    )
    assert outcome.status == 1, outcome.explain()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_loop_blocked_a_hundred_times(isolated: Callable[..., Any]) -> None:
    print(isolated("blocked.py", 64, 5.0, 100, timeout=1700).out)
