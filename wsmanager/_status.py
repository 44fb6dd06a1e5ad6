"""The state of this process as plain data, without ids: for ``/stats``, ``/top`` and ``wsmanager top``."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import _log
from ._hooks import STARTED, core
from ._probe import loop_lags
from ._version import __version__
from .config import get_config
from .readiness import check_ready, is_draining

__all__ = ["percentile", "settings", "snapshot"]

SLOWEST: Final = 10
"""So many of the slowest connections are listed."""

_OF_STATUS: Final = (
    "tolerated_awaits", "wakeups", "resumed", "not_resumed", "events_replayed", "events_stored",
    "events_acknowledged", "repeated_emits", "journal_users", "journal_bytes",
)  # fmt: skip

Buckets = Sequence[Sequence[float]]


def snapshot() -> dict[str, Any]:
    """What there is and was, as JSON can hold it. A new dict; any thread; never waits."""
    counters = core._counters()
    status = core.get_manager_registry_status()
    readiness = check_ready()
    for name in _OF_STATUS:
        counters[name] = status[name]
    now = time.time()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "time": now,
        "uptime": max(0.0, now - STARTED),
        "ready": readiness.ready,
        "reasons": list(readiness.reasons),
        "draining": is_draining(),
        "counters": counters,
        "latency": {
            "p50": percentile(counters["emit_to_write"]["buckets"], 0.50),
            "p99": percentile(counters["emit_to_write"]["buckets"], 0.99),
        },
        "loops": [{"connections": lag.connections, "lag": lag.seconds} for lag in loop_lags()],
        "slowest": [
            {
                "conn": _log.hashed(identity),
                "channel": channel,
                "queued_events": events,
                "queued_bytes": size,
                "waited": seconds,
            }
            for identity, channel, events, size, seconds in core._slowest(SLOWEST)
        ],
        "errors": _log.recent(),
    }


def percentile(buckets: Buckets, share: float) -> float | None:
    """The bound, in seconds, that *share* (0 to 1) of what was counted stayed below."""
    total = sum(count for _, count in buckets)
    seen = 0.0
    for bound, count in buckets:
        seen += count
        if seen >= share * total:
            return bound
    return None


def settings() -> dict[str, Any]:
    """The settings of :func:`wsmanager.configure`, with nothing in it that may be secret.

    Numbers, truth values and the names of choices are shown; of anything else,
    a function or an object with a URL in it, only that it is there.
    """
    return {name: _shown(value) for name, value in sorted(get_config().items())}


_CHOICES: Final = frozenset(
    ("payload", "mixed", "data", "flat", "close", "drop_oldest", "drop_newest", "coalesce")
)


def _shown(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)) or value in _CHOICES:
        return value
    if isinstance(value, Mapping):
        return {str(name): _shown(inner) for name, inner in value.items()}
    return "set"
