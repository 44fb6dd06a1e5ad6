"""The scripts of tests/isolated cannot outlive this run, nor take the machine's memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.children import START
from support.sanitizers import SANITIZED
from support.waiting import eventually_sync

TESTS = Path(__file__).parent
PARENT = """
import subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.children import run_child
run_child("import os, time; print(os.getpid(), file=open('pid', 'w')); time.sleep(300)",
          cwd=Path("."), timeout=300)
"""
#: The same child, started as subprocess starts one.
CARELESS = """
import subprocess, sys
subprocess.run([sys.executable, "-c",
                "import os, time; print(os.getpid(), file=open('pid', 'w')); time.sleep(300)"])
"""


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def orphan(folder: Path, source: str) -> int:
    """Start a parent that starts a child, kill the parent; the child's process id."""
    with subprocess.Popen([sys.executable, "-c", source], cwd=folder) as parent:
        pid = folder / "pid"
        eventually_sync(lambda: pid.exists() and pid.read_text().strip(), 30)
        parent.kill()
    return int(pid.read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's own")
def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    child = orphan(tmp_path, PARENT.format(tests=str(TESTS)))
    eventually_sync(lambda: not runs(child), 10, "the child is gone")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's own")
def test_control_a_plain_child_outlives_its_parent(tmp_path: Path) -> None:
    child = orphan(tmp_path, CARELESS)
    try:
        assert runs(child)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer reserves terabytes for itself")
def test_a_childs_memory_is_limited(run_isolated: Callable[..., Any]) -> None:
    script = "import sys\ntry:\n    bytearray(2 << 30)\nexcept MemoryError:\n    sys.exit(7)\n"
    assert run_isolated(script, memory=1 << 30).status == 7
    assert run_isolated(script, memory=8 << 30).status == 0


def test_the_start_leaves_no_trace(run_isolated: Callable[..., Any]) -> None:
    """The script has its own name and arguments, as if it had been started by itself."""
    outcome = run_isolated("import sys; print(sys.argv, sys.flags.isolated)", "a", "b")
    assert outcome.out.strip() == "['-c', 'a', 'b'] 0"
    assert START.is_file()
