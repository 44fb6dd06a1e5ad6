"""The plots of the README: one PNG and one SVG a question, machine and versions on each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import machine
from .table import Row


class NoMatplotlib(RuntimeError):
    """matplotlib is not installed."""


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw what the rows have; return the files written.

    Raises :class:`NoMatplotlib` where the ``bench`` extra is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise NoMatplotlib("--plots needs matplotlib: pip install 'wsmanager[bench]'") from error
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, title, cases in _CHARTS:
        found = [(case, _bars(rows, *case)) for case in cases]
        found = [(case, bars) for case, bars in found if len(bars) > 1]
        if found:
            written += _chart(folder, name, title, found)
    return written


# A chart is some series; a series is a question and how its rows' names begin.
_CHARTS = (
    (
        "fanout-paced",
        "Fan-out, one event per loop turn",
        (("S3", "paced, 100 x 200 B"),),
    ),
    (
        "fanout-paced-2k",
        "Fan-out, one event per loop turn",
        (("S3", "paced, 100 x 2048 B"),),
    ),
    (
        "fanout-burst",
        "Fan-out, 32 events in one loop turn",
        (("S4", "burst of 32, 100 x 200 B"),),
    ),
    (
        "fanout-burst-2k",
        "Fan-out, 32 events in one loop turn",
        (("S4", "burst of 32, 100 x 2048 B"),),
    ),
    (
        "hit",
        "Getting a user's manager",
        (("S1", "hit, object context"), ("S2", "await, hit")),
    ),
    (
        "thread",
        "Emit from another thread",
        (("S6", "from another thread, bursts of 64: CPU per event"),),
    ),
    (
        "wire",
        "One event from dict to wire",
        (("S7", "dict to wire, 200 B"), ("S7", "dict to wire, 2048 B")),
    ),
    (
        "memory",
        "Resident memory per idle connection, whole server",
        (("S9", "whole server, per idle connection"),),
    ),
)


def _bars(rows: Sequence[Row], question: str, prefix: str) -> dict[str, tuple[float, str]]:
    """Return figure and unit by contender, the cheapest first; ours is called wsmanager."""
    figures: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row.id != question or not row.name.startswith(prefix) or "loop's turn" in row.name:
            continue
        if row.ours is None or row.peer is None:
            continue
        way = row.name.removeprefix(prefix).lstrip(", ")
        figures.setdefault(f"wsmanager, {way}" if way else "wsmanager", (row.ours, row.units))
        figures.setdefault(row.against, (row.peer, row.units))
    return dict(sorted(figures.items(), key=lambda item: item[1][0]))


def _chart(
    folder: Path, name: str, title: str, found: Sequence[tuple[Any, dict[str, tuple[float, str]]]]
) -> list[Path]:
    from matplotlib.figure import Figure

    heights = [0.5 + len(bars) * 0.24 for _, bars in found]
    figure = Figure(figsize=(7.2, sum(heights) + 1.1), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    rows = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)
    for axes, ((_, prefix), bars) in zip(rows[:, 0], found, strict=True):
        _draw_bars(axes, prefix, bars)
    note = "\n".join(_wrapped(machine.describe(), 118))
    figure.supxlabel(note, x=0.01, ha="left", fontsize=6, color="0.45")
    files = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _draw_bars(axes: Any, prefix: str, bars: dict[str, tuple[float, str]]) -> None:
    # From zero and linear: on any other scale the length of a bar says nothing.
    labels = list(bars)
    values = [value for value, _ in bars.values()]
    unit = next(iter(bars.values()))[1]
    ours = [label.startswith("wsmanager") for label in labels]
    drawn = axes.barh(
        labels, values, height=0.62, color=["#2757d6" if own else "#b8bfca" for own in ours]
    )
    axes.bar_label(drawn, labels=[f"{value:,.3g}" for value in values], padding=4, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.02)
    cost = unit if unit == "B" else f"{unit} of CPU"
    axes.set_title(f"{prefix} ({cost}, less is better)", loc="left", fontsize=8.5, color="0.3")
    axes.tick_params(labelsize=8, length=0)
    for label, own in zip(axes.get_yticklabels(), ours, strict=True):
        label.set_fontweight("bold" if own else "normal")
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    return [piece for line in lines for piece in textwrap.wrap(line, width)]
