"""Coverage of the C core as a reStructuredText table, a line a file and a total.

    python ci/coverage_table.py SUMMARY.json [TARGET.rst]

SUMMARY.json is what ``gcovr --json-summary`` writes. The table is printed and,
with a target, written there as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COLUMNS = ("file", "lines", "of", "%", "branches", "of", "%", "functions", "of", "%")
KINDS = ("line", "branch", "function")


def row(name: str, figures: dict[str, Any]) -> list[str]:
    cells = [name]
    for kind in KINDS:
        covered, total = figures[f"{kind}_covered"], figures[f"{kind}_total"]
        percent = f"{100 * covered / total:.1f}" if total else "-"
        cells += [str(covered), str(total), percent]
    return cells


def table(rows: list[list[str]]) -> str:
    """A simple table; the last row is set apart."""
    widths = [max(len(cells[n]) for cells in [list(COLUMNS), *rows]) for n in range(len(COLUMNS))]
    rule = " ".join("=" * width for width in widths)

    def line(cells: list[str]) -> str:
        first, *rest = (
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return " ".join([first, *rest]).rstrip()

    return "\n".join([rule, line(list(COLUMNS)), rule, *map(line, rows), rule])


def main(summary: str, target: str | None = None) -> None:
    found = json.loads(Path(summary).read_text())
    files = sorted(found["files"], key=lambda file: file["filename"])
    if not files:
        raise SystemExit(f"{summary} covers no file: was the core built with its counters?")
    rows = [row(Path(file["filename"]).name, file) for file in files]
    text = table([*rows, row("total", found)])
    print(text)
    if target is not None:
        Path(target).write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
