"""M1: what a limit allows is kept, and no more, when ten times of it are offered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.sanitizers import in_plain_memory

import wsmanager
from wsmanager import get_websocket_manager

CASES = ["outbox", "mailbox", "journal", "budget"]


@in_plain_memory
@pytest.mark.parametrize("case", CASES)
def test_memory_stays_below_the_limit(isolated: Callable[..., Any], case: str) -> None:
    """What waits for a frozen tab, for a loop that does not turn, for a user who is away, for all."""
    isolated("limits.py", case, 8, timeout=100)


@in_plain_memory
@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", CASES)
def test_control_a_limit_that_is_not_kept_is_caught(
    nursery: Any, run_isolated: Callable[..., Any], case: str
) -> None:
    outcome = run_isolated("limits.py", case, 8, package=nursery.package("NO_LIMIT"), timeout=100)
    assert outcome.status == 1, outcome.explain()


@in_plain_memory
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_memory_stays_below_a_large_limit(isolated: Callable[..., Any], case: str) -> None:
    print(isolated("limits.py", case, 64, timeout=1700).out)


class Sink:
    def send(self, text: str) -> None:
        pass


async def test_ten_times_the_connections_of_a_user() -> None:
    wsmanager.configure(max_connections_per_user=20)
    manager = get_websocket_manager("ann")
    refused = 0
    for _ in range(200):
        try:
            manager.add_connection(Sink())
        except wsmanager.ConnectionLimitError:
            refused += 1
    assert (len(manager), refused) == (20, 180)


def test_ten_times_the_users() -> None:
    wsmanager.configure(max_users=50)
    held = []
    refused = 0
    for n in range(500):
        try:
            held.append(get_websocket_manager(f"user-{n}"))
        except wsmanager.UserLimitError:
            refused += 1
    assert (len(held), refused) == (50, 450)


async def test_ten_times_the_size_of_an_event() -> None:
    wsmanager.configure(max_event_bytes=10_000)
    manager = get_websocket_manager("ann")
    with pytest.raises(wsmanager.EventTooLarge):
        manager.emit_event("x", {"pad": "x" * 100_000})
