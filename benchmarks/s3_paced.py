"""S3: fan-out, paced: one event per loop turn to 100 and 1,000 real connections."""

from __future__ import annotations

from . import bars, fanout
from .plan import Plan
from .table import Row


def run(plan: Plan) -> list[Row]:
    """Measure CPU per delivered message against (h) and the peers."""
    series = fanout.Series("S3", "paced", 1, lambda peer, size: bars.PACED.get(peer))
    return fanout.measure(plan, series)
