"""L2 and I2: a day of events in which each is checked, and ten million deliveries under threads."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from support.children import Outcome
from support.plants import Nursery
from support.sanitizers import in_plain_memory

Isolated = Callable[..., Outcome]
DAY = 86_400_000  # 24 hours at 1,000 events a second


@pytest.mark.timeout(180)
def test_an_hour_in_a_minute(isolated: Isolated) -> None:
    """The short form: nothing lost, doubled or out of order, and memory settled."""
    outcome = isolated("day.py", 200_000, 200, timeout=170)
    assert "events 200000 users 200 delivered 200000 wrong 0" in outcome.out


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_a_day_of_events(isolated: Isolated) -> None:
    outcome = isolated("day.py", DAY, 1000, timeout=14_000)
    assert f"delivered {DAY} wrong 0" in outcome.out


@pytest.mark.timeout(180)
@pytest.mark.parametrize("bug", ["drop", "double", pytest.param("leak", marks=in_plain_memory)])
def test_control_a_bad_day_is_seen(bug: str, run_isolated: Isolated) -> None:
    outcome = run_isolated("day.py", 200_000, 200, bug, timeout=170)
    assert outcome.status == 1, outcome.explain()
    assert ("wrong 0" in outcome.out) == (bug == "leak"), outcome.explain()


@pytest.mark.timeout(180)
def test_control_a_core_that_reorders_is_seen(nursery: Nursery, run_isolated: Isolated) -> None:
    outcome = run_isolated("day.py", 20_000, 200, package=nursery.package("LIFO"), timeout=170)
    assert outcome.status == 1, outcome.explain()
    assert "wrong 0" not in outcome.out


@pytest.mark.timeout(180)
def test_nothing_foreign_among_many_deliveries(isolated: Isolated) -> None:
    outcome = isolated("foreign.py", 100_000, timeout=170)
    found = re.search(r"deliveries (\d+) foreign 0", outcome.out)
    assert found is not None
    assert int(found[1]) >= 100_000


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_nothing_foreign_among_ten_million_deliveries(isolated: Isolated) -> None:
    assert "foreign 0;" in isolated("foreign.py", 10_000_000, timeout=7000).out


@pytest.mark.timeout(180)
def test_control_one_foreign_event_in_ten_thousand_is_seen(run_isolated: Isolated) -> None:
    outcome = run_isolated("foreign.py", 500_000, "cross", timeout=170)
    assert outcome.status == 1, outcome.explain()
