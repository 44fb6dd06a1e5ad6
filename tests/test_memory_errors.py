"""F8: every allocation of every entry point fails in turn; what follows works as if nothing was."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip(
    "_testcapi", reason="this build of CPython has no _testcapi to fail memory with"
)

ENTRY_POINTS = [
    "get a known manager", "make a manager", "acquire", "add_connection", "add a record",
    "remove_connection", "emit_event", "emit with names", "emit_critical_event",
    "send_to_user", "send_to_thread", "send_message", "send_error", "broadcast",
    "module broadcast", "queue behind a busy socket", "drop from a full outbox",
    "lookups", "status", "mixed message", "frame",
    "remove a connection with a full outbox", "reset",
]  # fmt: skip


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", ["one", "all"])
def test_every_failed_allocation_is_a_memory_error(isolated: Callable[..., Any], mode: str) -> None:
    """Only the n-th fails, or all from the n-th on; until the call gets through untouched."""
    outcome = isolated("oom.py", mode, timeout=220)
    walked = dict(re.findall(r"^walked (.+): (\d+) failures", outcome.out, re.M))
    assert sorted(walked) == sorted(ENTRY_POINTS), "an entry point was not walked"
    allocating = set(ENTRY_POINTS) - {"get a known manager"}
    idle = [name for name in allocating if int(walked[name]) == 0]
    assert not idle, f"no allocation was reached: the walk proves nothing for {idle}"


@pytest.mark.timeout(240)
def test_control_an_unchecked_allocation_is_caught(
    nursery: Any, run_isolated: Callable[..., Any]
) -> None:
    outcome = run_isolated("oom.py", "one", package=nursery.package("NOMEM_UNCHECKED"), timeout=220)
    assert not outcome.ok, outcome.explain()
    assert outcome.status is not None, "it hung: that is another finding"
