"""S1 and S2: no byte to a descriptor that has become another's, none under TLS or into a buffer."""

from __future__ import annotations

import importlib.util
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.servers import self_signed

LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]


def counts(outcome: Any) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"(reused|foreign) (\d+)", outcome.out)}


@pytest.mark.parametrize("loop", LOOPS)
def test_no_byte_goes_to_a_recycled_descriptor(run_isolated: Callable[..., Any], loop: str) -> None:
    outcome = run_isolated("descriptors.py", 500, loop, timeout=100)
    assert outcome.ok, outcome.explain()
    assert counts(outcome) == {"reused": 500, "foreign": 0}


@pytest.mark.timeout(400)
def test_the_kernel_agrees_whose_socket_it_is(
    nursery: Any, run_isolated: Callable[..., Any]
) -> None:
    """A build that compares SO_COOKIE before each write, and ends itself where it differs."""
    outcome = run_isolated(
        "descriptors.py", 300, "asyncio", package=nursery.package("COOKIE"), timeout=100
    )
    assert outcome.ok, outcome.explain()


@pytest.mark.timeout(400)
def test_control_a_kept_number_leaks(nursery: Any, run_isolated: Callable[..., Any]) -> None:
    """A core that keeps the number and asks nobody: B's peer reads what was A's."""
    outcome = run_isolated(
        "descriptors.py", 50, "asyncio", package=nursery.package("KEEP_FD"), timeout=100
    )
    assert outcome.status == 1, outcome.explain()
    assert counts(outcome)["foreign"] > 10


@pytest.mark.timeout(400)
def test_control_the_tripwire_trips(nursery: Any, run_isolated: Callable[..., Any]) -> None:
    outcome = run_isolated(
        "descriptors.py", 50, "asyncio", package=nursery.package("KEEP_FD+COOKIE"), timeout=100
    )
    assert "a write to another connection's socket" in outcome.err, outcome.explain()
    # CPython may fall over itself while it says where the other threads are.
    assert outcome.status in (-signal.SIGABRT, -signal.SIGSEGV), outcome.explain()


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL a loop is woken by its own method only",
)
def test_no_byte_wakes_another_socket(run_isolated: Callable[..., Any]) -> None:
    """The loop is closed while it is woken, and the number of its waker is another's by then."""
    outcome = run_isolated("waker.py", timeout=60)
    assert outcome.ok, outcome.explain()
    assert "foreign 0 left 0" in outcome.out


@pytest.mark.timeout(400)
@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL a loop is woken by its own method only",
)
def test_control_a_stale_waker_is_caught(nursery: Any, run_isolated: Callable[..., Any]) -> None:
    """A core that asks for the number before it calls the loop."""
    outcome = run_isolated("waker.py", package=nursery.package("STALE_WAKER"), timeout=60)
    assert outcome.status == 1, outcome.explain()
    assert "foreign 1" in outcome.out


@pytest.mark.parametrize("loop", LOOPS)
def test_control_a_late_end_is_seen(run_isolated: Callable[..., Any], loop: str) -> None:
    outcome = run_isolated("descriptors.py", 5, loop, "late", timeout=100)
    assert outcome.status == 1, outcome.explain()
    assert float(re.findall(r"end after ([\d.]+) ms", outcome.out)[0]) > 100
    assert int(re.findall(r"clock (\d+) later", outcome.out)[0]) > 1


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_million_reuses(isolated: Callable[..., Any], loop: str) -> None:
    outcome = isolated("descriptors.py", 1_000_000, loop, timeout=7100)
    print(outcome.out)
    assert counts(outcome) == {"reused": 1_000_000, "foreign": 0}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder)
    return folder


def test_the_core_writes_nothing_under_tls(
    run_faulty: Callable[..., Any], certificate: Path
) -> None:
    outcome = run_faulty("library_only.py", 1000, "tls", certificate, timeout=60)
    assert outcome.ok, outcome.explain()
    assert "system calls of the core 0" in outcome.out


def test_the_core_writes_nothing_into_a_buffer(run_faulty: Callable[..., Any]) -> None:
    outcome = run_faulty("library_only.py", 1000, "buffered", timeout=60)
    assert outcome.ok, outcome.explain()
    assert "system calls of the core 0" in outcome.out


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("plant", "case"), [("TLS_DIRECT", "tls"), ("BUFFERED_DIRECT", "buffered")]
)
def test_control_a_direct_write_there_is_caught(
    nursery: Any, run_faulty: Callable[..., Any], certificate: Path, plant: str, case: str
) -> None:
    outcome = run_faulty(
        "library_only.py", 200, case, certificate, package=nursery.package(plant), timeout=100
    )
    assert outcome.status == 1, outcome.explain()


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", ["tls", "buffered"])
def test_a_hundred_thousand_sends_by_the_library(
    run_faulty: Callable[..., Any], certificate: Path, case: str
) -> None:
    outcome = run_faulty("library_only.py", 100_000, case, certificate, timeout=1700)
    print(outcome.out)
    assert outcome.ok, outcome.explain()
