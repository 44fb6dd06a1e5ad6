"""F9: any system call of the core fails or falls short: whole frames and nothing lost, or the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from support.sanitizers import SANITIZED

pytestmark = pytest.mark.skipif(
    SANITIZED,
    reason="a sanitizer's runtime stands before the library that makes the calls fail",
)


@pytest.mark.timeout(200)
def test_every_system_call_fails(run_faulty: Callable[..., Any]) -> None:
    outcome = run_faulty("syscalls.py", 4, timeout=180)
    assert outcome.ok, outcome.explain()
    assert re.search(r"plans \d+ hit \d+ problems 0$", outcome.out, re.M), outcome.out


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("plant", "sign"),
    [("SHORT_WRITE", "cut off|lost|Expecting|codec"), ("LEFT_OPEN", "still open")],
)
def test_control_a_fault_that_is_not_made_good_is_caught(
    nursery: Any, run_faulty: Callable[..., Any], plant: str, sign: str
) -> None:
    """The rest of a short write forgotten; a connection that failed left open."""
    outcome = run_faulty("syscalls.py", 1, package=nursery.package(plant), timeout=300)
    assert outcome.status == 1, outcome.explain()
    assert re.search(sign, outcome.out), outcome.out


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_system_call_fails_at_any_call(run_faulty: Callable[..., Any]) -> None:
    outcome = run_faulty("syscalls.py", 40, timeout=1700)
    assert outcome.ok, outcome.explain()
