"""The stubs tell the truth about the core, and a checker agrees with the examples."""

from __future__ import annotations

import importlib.util
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wsmanager
from wsmanager import _wsmanager as core

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = PROJECT / "examples"
TYPED = Path(__file__).with_name("typed")

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


def pyright(*files: str, cwd: Path) -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed; `make types` runs it in CI")
    run("pyright", "--pythonpath", sys.executable, *files, cwd=cwd)


@pytest.fixture
def typed(tmp_path: Path) -> Path:
    """A folder with what is written for the checkers to read; away from pyproject.toml."""
    return shutil.copytree(TYPED, tmp_path / "typed")


@pytest.mark.timeout(300)
def test_ordinary_use_is_well_typed(typed: Path) -> None:
    run("mypy", "--strict", "use.py", cwd=typed)
    pyright("use.py", cwd=typed)


@pytest.mark.timeout(300)
def test_mistakes_are_type_errors(typed: Path) -> None:
    """The wrong await of the outage among them: each line ignores an error, which has to be there."""
    run("mypy", "--strict", "misuse.py", cwd=typed)
    pyright("misuse.py", cwd=typed)


@pytest.mark.timeout(300)
def test_control_an_ignore_without_its_error_is_seen(typed: Path) -> None:
    line = "import wsmanager  # type: ignore[attr-defined]\n"
    for name in ("use.py", "misuse.py"):
        path = typed / name
        path.write_text(
            f"# pyright: reportUnnecessaryTypeIgnoreComment=true\n{line}{path.read_text()}"
        )
        with pytest.raises(AssertionError, match="unused-ignore"):
            run("mypy", "--strict", name, cwd=typed)
        with pytest.raises(AssertionError, match="reportUnnecessaryTypeIgnoreComment"):
            pyright(name, cwd=typed)


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
