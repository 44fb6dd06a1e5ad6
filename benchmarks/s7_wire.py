"""S7: one user, one connection: an event from dict to wire, encoding included.

``manager.emit_event(type, data)`` against ``await websocket.send_json(event)``
of Starlette, both on the same server, one event per loop turn. The turn of
the loop itself is the same for both; it is measured beside them and taken off
in the row that has the bar. The client naps in place of waiting, so that the
server does not pay for waking it at each event.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from . import bars
from .arena import Contest, Entrant, Unfit
from .peers.catalogue import version_of
from .plan import Plan
from .rounds import interleave
from .table import Row, absent, compare

_EVENTS = 200
_NAP = 500
_SIZES = (200, 2048)
_AGAINST = "await ws.send_json(event)"


def _entrant(way: str) -> Entrant:
    return Entrant(way, (sys.executable, "-m", "benchmarks.peers.one_user", way), nap=_NAP)


def run(plan: Plan) -> list[Row]:
    """Measure both ways on the same server."""
    plan.progress.step("S7: one event from dict to wire")
    version = f"starlette {version_of('starlette')}, uvicorn {version_of('uvicorn')}"
    rows: list[Row] = []
    try:
        with contextlib.ExitStack() as stack:
            contests = {
                way: stack.enter_context(Contest(_entrant(way), 1)) for way in ("emit", "send_json")
            }
            for size in _SIZES:
                rows += _compare(plan, contests, size, version)
    except Unfit as error:
        rows.append(
            absent("S7", "dict to wire", _AGAINST, bars.DICT_TO_WIRE, str(error), version=version)
        )
    return rows


def _compare(plan: Plan, contests: dict[str, Contest], size: int, version: str) -> list[Row]:
    turns: dict[str, list[float]] = {way: [] for way in contests}

    def timed(way: str) -> Callable[[], float]:
        contest = contests[way]

        def lap() -> float:
            laps = 5 if plan.quick else 20
            contest.run(laps, _EVENTS, size)
            lines = [contest.server_line().split() for _ in range(laps)]
            turns[way].append(sum(int(line[1]) for line in lines) / laps / _EVENTS / 1e3)
            return sum(int(line[0]) for line in lines) / laps / _EVENTS / 1e3

        lap()
        turns[way].clear()
        return lap

    whole = interleave({way: timed(way) for way in contests}, plan.rounds, plan.progress.detail)
    net = {way: [a - b for a, b in zip(whole[way], turns[way], strict=True)] for way in contests}
    name = f"dict to wire, {size} B"
    note = f"the loop's turn, taken off: {bars.middle(turns['emit']):.2f} µs"
    return [
        compare(
            "S7",
            name,
            _AGAINST,
            net["emit"],
            net["send_json"],
            bars.DICT_TO_WIRE,
            "µs",
            version=version,
            note=note,
        ),
        compare(
            "S7",
            f"{name}, with the loop's turn",
            _AGAINST,
            whole["emit"],
            whole["send_json"],
            bars.BETTER,
            "µs",
        ),
    ]
