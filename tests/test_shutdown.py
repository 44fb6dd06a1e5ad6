"""F12: the interpreter ends while everything is in use: status 0, no hang, no fatal error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SCENARIOS = [
    "connections alive", "daemon threads emit", "loop closed with events queued", "atexit emit",
    "emit from del", "module attribute", "hanging send", "acquire pending", "patched manager",
    "sys.exit in a send", "delivery kept", "thread local manager",
]  # fmt: skip


def check(outcome: Any) -> None:
    assert outcome.status == 0, outcome.explain()
    for word in ("Fatal Python error", "Segmentation", "Traceback", "Exception ignored"):
        assert word not in outcome.err, outcome.explain()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_interpreter_ends_well(run_isolated: Callable[..., Any], scenario: str) -> None:
    for _ in range(2):
        check(run_isolated("shutdown.py", scenario, timeout=20))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_interpreter_ends_well_five_hundred_times(
    run_isolated: Callable[..., Any], scenario: str
) -> None:
    for _ in range(500):
        check(run_isolated("shutdown.py", scenario, timeout=20))


@pytest.mark.parametrize(
    ("script", "timeout"),
    [
        ("import atexit, os; atexit.register(os.abort)", 10),
        ("import threading; threading.Thread(target=threading.Event().wait).start()", 1),
        ("class D:\n  def __del__(self): raise ValueError\nd = D()", 10),
    ],
    ids=["aborts", "hangs", "complains"],
)
def test_control_a_bad_end_is_noticed(
    run_isolated: Callable[..., Any], script: str, timeout: float
) -> None:
    with pytest.raises(AssertionError):
        check(run_isolated(script, timeout=timeout))
