"""Memory and descriptors after many rounds are what they were after few; each with a planted leak."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from support.sanitizers import in_plain_memory

pytestmark = in_plain_memory

CALLS = [
    "get", "acquire", "connect", "emit", "emit unawaited", "emit dict", "emit rich",
    "send_to_user", "send_to_thread", "send_message", "send_error", "broadcast",
    "module broadcast", "refused payload", "refused context", "refused call", "failing socket",
    "suspending socket", "hanging socket", "outbox", "replaced connections", "from a thread",
    "wait_for_connection", "flushed", "cancelled acquire", "never awaited", "lookups", "close",
    "reset", "frame", "resume", "acknowledge", "once", "detail",
]  # fmt: skip


@pytest.mark.timeout(180)
def test_growth_over_endless_distinct_users(isolated: Callable[..., Any]) -> None:
    """L4 in its short form: connect, emit, disconnect with ids that never come back."""
    outcome = isolated("growth.py", 30_000, timeout=150)
    assert re.search(r"growth -?\d+ KiB fds 0", outcome.out), outcome.out


@pytest.mark.timeout(180)
def test_control_a_leaked_connection_is_seen(
    nursery: Any, run_isolated: Callable[..., Any]
) -> None:
    outcome = run_isolated(
        "growth.py", 30_000, package=nursery.package("LEAK_CONNECTION"), timeout=150
    )
    assert outcome.status == 1, outcome.explain()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_growth_over_a_million_users(isolated: Callable[..., Any]) -> None:
    isolated("growth.py", 1_000_000, timeout=1700)


@pytest.mark.timeout(180)
def test_no_public_call_leaks_a_block_or_a_reference(isolated: Callable[..., Any]) -> None:
    """M2: three warm rounds, then three that may add nothing; every public call."""
    outcome = isolated("refs.py", timeout=150)
    done = re.findall(r"^ok (.+)$", outcome.out, re.M)
    assert sorted(done) == sorted(CALLS), "a call of the list was not tried"


@pytest.mark.timeout(180)
def test_control_a_leaked_reference_is_seen(nursery: Any, run_isolated: Callable[..., Any]) -> None:
    outcome = run_isolated("refs.py", "emit", package=nursery.package("REFLEAK"), timeout=150)
    assert outcome.status == 1, outcome.explain()
    assert "LEAK emit" in outcome.out
