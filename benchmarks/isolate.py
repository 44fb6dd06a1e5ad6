"""Runs a question in a fresh interpreter, so that no question inherits another's heap or settings.

``python -m benchmarks.isolate MODULE full|quick`` is the child: it runs
``benchmarks.MODULE`` and writes its rows as JSON on standard output.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import asdict

from . import ROOT
from .plan import Plan
from .progress import Progress
from .table import Row, from_json


class ChildFailed(RuntimeError):
    """The question could not be asked in its interpreter; the message says why."""


def run(module: str, plan: Plan) -> list[Row]:
    """Run a question in a child and return its rows; its progress goes to our standard error."""
    command = [sys.executable, "-m", __name__, module, "quick" if plan.quick else "full"]
    child = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, check=False)
    if child.returncode != 0:
        raise ChildFailed(f"its interpreter ended with status {child.returncode}, see above")
    answer = json.loads(child.stdout)
    if "missing" in answer:
        raise ChildFailed(answer["missing"])
    return from_json(answer["rows"])


def main() -> None:
    """Be the child."""
    _, module, pace = sys.argv
    try:
        question = importlib.import_module(f"benchmarks.{module}")
    except ImportError as error:
        json.dump({"missing": str(error)}, sys.stdout)
        return
    plan = Plan(quick=pace == "quick", progress=Progress())
    rows = question.run(plan)
    plan.progress.done()
    json.dump({"rows": [asdict(row) for row in rows]}, sys.stdout)


if __name__ == "__main__":
    main()
