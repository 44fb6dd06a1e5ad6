"""A row is one comparison; the table prints them and writes them as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .bars import Bar, middle
from .rounds import quartiles


@dataclass(frozen=True)
class Row:
    """One comparison. Figures are medians; *spread* is the quartiles of the ratio."""

    id: str
    name: str
    against: str
    ours: float | None
    peer: float | None
    ratio: float | None
    bar: str
    holds: bool | None
    units: str
    spread: tuple[float, float] | None = None
    version: str = ""
    missing: str | None = None
    note: str = ""
    rounds: int = 0


def compare(
    question: str,
    name: str,
    against: str,
    ours: Sequence[float],
    peer: Sequence[float],
    bar: Bar,
    units: str,
    *,
    ratios: Sequence[float] | None = None,
    version: str = "",
    note: str = "",
) -> Row:
    """Return the row of two series of paired rounds, each at least one long.

    The series may differ in length (a slow peer gets fewer rounds); the ratio
    is that of the rounds both have. *ratios* replaces them where the bar speaks
    of something else than the two figures.
    """
    shared = min(len(ours), len(peer))
    each = list(ratios) if ratios is not None else bar.ratios(ours[:shared], peer[:shared])
    first, ratio, third = quartiles(each)
    mine = middle(ours)
    holds = bar.holds(mine, ratio)
    spread = (first, third)
    return Row(
        question,
        name,
        against,
        mine,
        middle(peer),
        ratio,
        str(bar),
        holds,
        units,
        spread,
        version,
        None,
        note,
        shared,
    )


def alone(
    question: str, name: str, ours: Sequence[float], bar: Bar, units: str, *, note: str = ""
) -> Row:
    """Return the row of a figure of ours that has no peer."""
    mine = middle(ours)
    holds = bar.holds(mine, None)
    return Row(
        question, name, "", mine, None, None, str(bar), holds, units, note=note, rounds=len(ours)
    )


def absent(
    question: str,
    name: str,
    against: str,
    bar: Bar | None,
    why: str,
    *,
    version: str = "",
    ours: Sequence[float] = (),
    peer: Sequence[float] = (),
    units: str = "",
) -> Row:
    """Return the row of a comparison one side of which could not be measured, with the reason."""
    text = "" if bar is None else str(bar)
    mine = middle(ours) if ours else None
    theirs = middle(peer) if peer else None
    return Row(
        question, name, against, mine, theirs, None, text, None, units, version=version, missing=why
    )


_HEADS = (
    "id",
    "what",
    "against",
    "ours",
    "peer",
    "unit",
    "ratio",
    "quartiles",
    "bar",
    "holds",
    "note",
)
_RIGHT = {3, 4, 6}


def render(rows: Sequence[Row]) -> str:
    """Return the table as text, the reasons of what is missing below it."""
    reasons = list(dict.fromkeys(row.missing for row in rows if row.missing is not None))
    lines = [list(_HEADS), *(_cells(row, reasons) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADS))]
    lines.insert(1, ["-" * width for width in widths])
    text = [_line(line, widths) for line in lines]
    text += [f"[{number}] missing: {why}" for number, why in enumerate(reasons, 1)]
    return "\n".join(text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(widths[i]) if i in _RIGHT else cell.ljust(widths[i])
        for i, cell in enumerate(cells)
    )
    return "  ".join(padded).rstrip()


def _cells(row: Row, reasons: Sequence[str]) -> list[str]:
    against = f"{row.against} ({row.version})" if row.version else row.against
    ours, peer, ratio = _short(row.ours), _short(row.peer), _short(row.ratio)
    spread = "" if row.spread is None else f"{_short(row.spread[0])}-{_short(row.spread[1])}"
    holds = {True: "yes", False: "NO", None: ""}[row.holds]
    if row.missing is not None:
        spread = f"missing [{reasons.index(row.missing) + 1}]"
    return [
        row.id,
        row.name,
        against,
        ours,
        peer,
        row.units,
        ratio,
        spread,
        row.bar,
        holds,
        row.note,
    ]


def _short(value: float | None) -> str:
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 3)}f}"


def write_json(rows: Sequence[Row], file: Path) -> None:
    """Write the rows as a JSON list of objects."""
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")


def from_json(items: Iterable[dict[str, Any]]) -> list[Row]:
    """Return the rows another process wrote."""
    return [Row(**{**item, "spread": item["spread"] and tuple(item["spread"])}) for item in items]
