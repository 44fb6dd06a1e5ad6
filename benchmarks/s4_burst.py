"""S4: fan-out, burst: 32 events emitted in one loop turn to 100 and 1,000 real connections."""

from __future__ import annotations

from . import bars, fanout
from .plan import Plan
from .table import Row

_BURST = 32


def run(plan: Plan) -> list[Row]:
    """Measure CPU per delivered message against (h) and the peers."""
    series = fanout.Series(
        "S4",
        f"burst of {_BURST}",
        _BURST,
        lambda peer, size: bars.BURST[size] if peer == "h" else None,
    )
    return fanout.measure(plan, series)
