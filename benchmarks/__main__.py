"""``python -m benchmarks``: all questions in one table."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

from . import build, isolate, machine, plots
from .plan import Plan
from .progress import Progress
from .table import Row, absent, render, write_json

# Question: module, and whether it runs in an interpreter of its own.
_QUESTIONS = {
    "S1": ("s1_hit", True),
    "S2": ("s2_async_hit", True),
    "S3": ("s3_paced", False),
    "S4": ("s4_burst", False),
    "S5": ("s5_generic", True),
    "S6": ("s6_thread", True),
    "S7": ("s7_wire", False),
    "S8": ("s8_growth", True),
    "S9": ("s9_memory", True),
    "S10": ("s10_threads", True),
    "S11": ("s11_leave", True),
}


def _questions(text: str) -> list[str]:
    wanted = [name.strip().upper() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in _QUESTIONS]
    if unknown or not wanted:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(_QUESTIONS)}"
        )
    return wanted


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", type=_questions, metavar="S3[,S4]", default=list(_QUESTIONS), help="only these"
    )
    parser.add_argument("--quick", action="store_true", help="a short look, under two minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw PNG and SVG plots there (matplotlib)"
    )
    return parser.parse_args(arguments)


def _ask(question: str, plan: Plan) -> list[Row]:
    """Return a question's rows; one row with the reason if it could not be asked."""
    module, isolated = _QUESTIONS[question]
    try:
        if isolated:
            return isolate.run(module, plan)
        rows: list[Row] = importlib.import_module(f"benchmarks.{module}").run(plan)
    except (isolate.ChildFailed, build.NoCompiler, ImportError) as error:
        return [absent(question, module, "", None, str(error))]
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Ask the questions, print the table, write what was asked for; 0 whatever the figures are."""
    options = _arguments(arguments)
    if options.plots and importlib.util.find_spec("matplotlib") is None:
        print("--plots needs matplotlib: pip install 'wsmanager[bench]'", file=sys.stderr)
        return 2
    plan = Plan(quick=options.quick, progress=Progress())
    rows: list[Row] = []
    for question in options.only:
        rows += _ask(question, plan)
        if options.json:  # after each question, so that an interrupted run leaves what it has
            write_json(rows, options.json)
    plan.progress.done()
    print("\n".join(machine.describe()))
    print(
        "CPU time, medians of paired rounds; in (…) the peer's version; x means so many times better\n"
    )
    print(render(rows))
    judged = [row for row in rows if row.holds is not None]
    print(f"\n{sum(row.holds is True for row in judged)} of {len(judged)} bars hold")
    if options.plots:
        for file in plots.draw(rows, options.plots):
            print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
