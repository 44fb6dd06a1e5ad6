"""Scripts in a process of their own: what may crash, hang, fork or shut down an interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.sanitizers import SANITIZED

ISOLATED = Path(__file__).resolve().parents[1] / "isolated"
START = Path(__file__).resolve().parent / "start.py"
#: Bytes of address space: many times what any script needs, far below what a machine has.
MEMORY = 8 << 30


@dataclass(frozen=True)
class Outcome:
    """How a child ended: exit status (negative: signal; None: had to be killed) and what it said."""

    status: int | None
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.status == 0

    def explain(self) -> str:
        how = "was killed: it hung" if self.status is None else f"ended with {self.status}"
        return f"the child {how}\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"


def run_child(
    script: str,
    *args: object,
    cwd: Path,
    timeout: float = 60.0,
    package: Path | None = None,
    python: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    memory: int = MEMORY,
) -> Outcome:
    """Run a file of tests/isolated (a name ending in .py) or a piece of source text.

    *package* is a folder to import ``wsmanager`` from in place of the installed
    one: a build with a planted bug. The child dies with this process, and may
    take *memory* bytes of address space (under a sanitizer, which reserves
    terabytes for itself, as many as it likes).
    """
    if SANITIZED:
        memory = 0
    command = [sys.executable, "-I", "-S", str(START), str(os.getpid()), str(memory)]
    command += [sys.executable, "-X", "faulthandler", *python]
    command += [str(ISOLATED / script)] if script.endswith(".py") else ["-c", script]
    command += [str(arg) for arg in args]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    if package is not None:
        paths = [str(package), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return Outcome(None, out, err)
        return Outcome(process.returncode, out, err)
