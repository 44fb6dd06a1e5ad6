"""The bars: where each figure must be, and the one place that says whether it holds.

A bar speaks of the ratio of ours to the peer's, of the peer's to ours ("so
many times better"), or of our own figure. A comparison that is only for
information has a bar without a limit, which neither holds nor fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .rounds import quartiles, ratios

_HOLDS = {
    "<=": lambda value, limit: value <= limit,
    "<": lambda value, limit: value < limit,
    ">=": lambda value, limit: value >= limit,
}
_SIGN = {"<=": "≤", "<": "<", ">=": "≥"}


@dataclass(frozen=True)
class Bar:
    """A limit on one of the three figures; ``limit=None`` is for information only."""

    of: Literal["ours/peer", "peer/ours", "ours"]
    sense: Literal["<=", "<", ">="] = "<="
    limit: float | None = None
    unit: str = ""

    def ratios(self, ours: Sequence[float], peer: Sequence[float]) -> list[float]:
        """Return the ratio the bar speaks of, round by round."""
        return ratios(peer, ours) if self.of == "peer/ours" else ratios(ours, peer)

    def holds(self, ours: float, ratio: float | None) -> bool | None:
        """Tell whether the bar is met; None where there is none or nothing was measured."""
        value = ours if self.of == "ours" else ratio
        if self.limit is None or value is None:
            return None
        return bool(_HOLDS[self.sense](value, self.limit))

    def __str__(self) -> str:
        if self.limit is None:
            return ""
        times = " x" if self.of == "peer/ours" else f" {self.unit}" if self.unit else ""
        return f"{_SIGN[self.sense]} {self.limit:g}{times}"


def at_most(limit: float) -> Bar:
    """Ours costs at most *limit* times the peer's."""
    return Bar("ours/peer", "<=", limit)


def times_better(limit: float) -> Bar:
    """The peer's costs at least *limit* times ours."""
    return Bar("peer/ours", ">=", limit)


def value_at_most(limit: float, unit: str) -> Bar:
    """Our own figure, whatever the peer's is."""
    return Bar("ours", "<=", limit, unit)


SHARE = Bar("ours/peer")  # for information: ours in terms of the peer's
BETTER = Bar("peer/ours")  # for information: so many times better

# the hit of get_websocket_manager (S1)
HIT = at_most(2.0)
HIT_BY_KEYWORD = at_most(2.6)
HIT_AGAINST_LOCK = times_better(8.0)
# await get_websocket_manager_async, against awaiting an empty async def (S2)
ASYNC_HIT = Bar("ours/peer", "<", 1.0)
# fan-out, one event at a time (S3)
PACED = {"h": at_most(1.15), "websockets": times_better(2.5)}
PACED |= {"starlette": times_better(3.0), "socketio": times_better(12.0)}
# fan-out, 32 events in one loop turn, by the size of the event in bytes (S4)
BURST = {200: at_most(0.20), 2048: at_most(0.30)}
# the generic channel (S5)
GENERIC = at_most(1.1)


def everyone_else(count: int) -> Bar:
    """A connection that hangs keeps the event from none of the *count* others."""
    return Bar("ours", ">=", count, "connections")


# emit from another thread (S6)
FROM_THREAD = value_at_most(0.6, "µs")
WAKE_UPS = value_at_most(1.0, "per burst")
# one event from dict to wire (S7)
DICT_TO_WIRE = times_better(3.0)
# growth of our cost from 10 users on, as a multiple of a bare dict's growth (S8)
GROWTH = at_most(1.5)
# memory of an idle connection and of an idle user (S9)
CONNECTION_BYTES = value_at_most(512, "B")
USER_BYTES = value_at_most(768, "B")
# two threads without the GIL (S10)
TWO_THREADS = times_better(1.8)
# 100,000 users leaving at once (S11)
LEAVING_LINEAR = at_most(1.5)
LEAVING_PAUSE = value_at_most(5.0, "ms")


def middle(values: Sequence[float]) -> float:
    """Return the median, the figure a row shows."""
    return quartiles(values)[1]
