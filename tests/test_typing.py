"""The stubs tell the truth about the core, and a checker agrees with the examples."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wsmanager
from wsmanager import _wsmanager as core

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = PROJECT / "examples"

pytest.importorskip("mypy", reason="mypy is not installed; `make types` runs it in CI")


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.timeout(300)
def test_the_stub_tells_the_truth(tmp_path: Path) -> None:
    """stubtest: every name, signature and kind of the core, against the installed module."""
    allowed = PROJECT / "ci" / "stubtest.txt"
    options = ["--allowlist", str(allowed)] if allowed.exists() else []
    run("mypy.stubtest", "wsmanager._wsmanager", *options, cwd=tmp_path)


USE = """
from __future__ import annotations

import asyncio

from typing_extensions import assert_type

from wsmanager import (
    Receipt,
    UnifiedWebSocketManager,
    WebSocketConnection,
    broadcast,
    configure,
    get_websocket_manager,
    get_websocket_manager_async,
)
from wsmanager.bridge import AgentWebSocketBridge


async def main(websocket: object) -> None:
    manager = get_websocket_manager({"user_id": "ann"})
    assert_type(manager, UnifiedWebSocketManager)
    assert_type(await get_websocket_manager_async("ann"), UnifiedWebSocketManager)
    connection_id = manager.add_connection(websocket)
    await manager.add_connection(WebSocketConnection(user_id="ann", websocket=websocket))
    assert_type(await manager.emit_event("agent_started", {"n": 1}), Receipt)
    assert_type(await manager.remove_connection(connection_id), bool)
    assert_type(await manager.emit_event("x", {}).flushed(1.0), bool)
    task = asyncio.create_task(get_websocket_manager_async("ann"))
    assert_type(await task, UnifiedWebSocketManager)
    assert_type(broadcast({"type": "x"}), int)
    bridge = AgentWebSocketBridge(manager)
    if not bridge.notify_agent_started("run", "agent"):
        configure(envelope="mixed", outbox_max_events=10)
"""

MISUSE = """
from wsmanager import configure, get_websocket_manager, get_websocket_manager_async


async def main() -> None:
    await get_websocket_manager("ann")
    get_websocket_manager_async("ann").emit_event("x", {})
    configure(envelope="no-such")
    get_websocket_manager("ann", unknown=1)
"""


@pytest.mark.timeout(300)
def test_ordinary_use_is_well_typed(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    run("mypy", "--strict", "use.py", cwd=tmp_path)


@pytest.mark.timeout(300)
def test_control_the_outage_is_a_type_error(tmp_path: Path) -> None:
    """A wrong await is an error in the editor already; so are the other three mistakes."""
    (tmp_path / "misuse.py").write_text(MISUSE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "misuse.py"],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = set(re.findall(r"^misuse\.py:(\d+): error", done.stdout, re.M))
    assert {"6", "7", "8", "9"} <= lines, done.stdout


@pytest.mark.timeout(300)
def test_the_examples_are_well_typed(tmp_path: Path) -> None:
    for example in EXAMPLES.glob("*.py"):
        (tmp_path / example.name).write_text(example.read_text())
    run("mypy", "--strict", ".", cwd=tmp_path)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(wsmanager.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    "function",
    ["get_websocket_manager", "get_websocket_manager_async", "broadcast", "frame", "classify"],
)
def test_functions_of_the_core_have_signatures(function: str) -> None:
    """help() and an editor show the arguments; a builtin without a signature shows dots."""
    signature = inspect.signature(getattr(core, function))
    assert "args" not in signature.parameters
