"""Prometheus metrics, read from the core's counters at the scrape: nothing runs per event.

::

    wsmanager.metrics.install()      # then prometheus_client exposes them with your own

    text = wsmanager.metrics.exposition()   # or without the library: text format 0.0.4

With ``PROMETHEUS_MULTIPROC_DIR`` set, as for several workers of gunicorn or
uvicorn, :func:`install` publishes this process's values there every second, in
the form of ``prometheus_client``'s own multiprocess mode: whatever worker is
scraped gives the sum of all (``MultiProcessCollector``, or ``/metrics`` of the
``OperationsApp``).

No label holds a user, a connection or a thread. Needs nothing for
:func:`exposition`, ``wsmanager[prometheus]`` for the rest.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ._hooks import core
from ._probe import worst_lag
from ._stage import run_totals
from ._version import __version__
from .monitor import mis_await_totals
from .readiness import is_draining

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

__all__ = ["CONTENT_TYPE", "Family", "Sample", "add_source", "exposition", "families", "install"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["livesum", "livemax"]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sample:
    """One value of a family: *suffix* is ``""``, ``"_bucket"``, ``"_count"`` or ``"_sum"``."""

    value: float
    labels: Labels = ()
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """One metric by its full name (a counter's ends in ``_total``).

    :param merge: how the gauges of several processes become one.
    """

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]
    merge: Merge = "livesum"


_sources: list[Callable[[], Iterable[Family]]] = []


def add_source(source: Callable[[], Iterable[Family]]) -> None:
    """Let *source*, a function called at each scrape, add families of its own.

    It runs in the thread of the scrape and must not block; its names begin
    with ``wsmanager_``.
    """
    _sources.append(source)


def families() -> list[Family]:
    """Every metric as it is now; any thread."""
    counters = core._counters()
    status = core.get_manager_registry_status()
    made = [
        *_connections(counters), *_events(counters), *_resume(status), *_flow(counters),
        *_process(status),
    ]  # fmt: skip
    for source in _sources:
        made.extend(source())
    return made


def _connections(counters: Mapping[str, Any]) -> Iterator[Family]:
    direct = counters["direct_connections"]
    yield Family(
        "wsmanager_connections", "gauge", "Open connections, by the way to their transport.",
        (
            Sample(direct, (("transport", "direct"),)),
            Sample(counters["connections"] - direct, (("transport", "generic"),)),
        ),
    )  # fmt: skip
    yield _one("wsmanager_users", "gauge", "Users with a manager.", counters["users"])
    yield _one("wsmanager_loops", "gauge", "Event loops that own connections.", len(core._loops()))
    yield _one(
        "wsmanager_connections_opened_total", "counter", "Connections added.", counters["opened"]
    )
    yield _by_two(
        "wsmanager_connections_closed_total",
        "Connections that ended, by reason and by close code: none where nobody said one.",
        "reason", "code",
        {reason: {"none": 0, **codes} for reason, codes in counters["closed_codes"].items()},
    )  # fmt: skip
    yield _histogram(
        "wsmanager_connection_duration_seconds", "How long connections lasted.",
        counters["connected"], range(27, 48, 2),
    )  # fmt: skip


def _events(counters: Mapping[str, Any]) -> Iterator[Family]:
    yield Family(
        "wsmanager_events_emitted_total", "counter", "Events emitted, once for all connections.",
        tuple(
            Sample(count, (("event", event), ("origin", "local")))
            for event, count in counters["emitted"].items()
        ),
    )  # fmt: skip
    yield _by(
        "wsmanager_events_delivered_total", "counter",
        "Events given to the transport of a connection.", "event", counters["sent"],
    )  # fmt: skip
    yield _by(
        "wsmanager_events_failed_total", "counter",
        "Events a connection did not get because it ended or its send failed.",
        "event", counters["failed"],
    )  # fmt: skip
    yield _by_two(
        "wsmanager_events_dropped_total", "Events a slow connection did not get, by its policy.",
        "reason", "event", counters["dropped"],
    )  # fmt: skip
    yield _histogram(
        "wsmanager_emit_to_write_seconds", "From an event's emit to its write to a transport.",
        counters["emit_to_write"], range(10, 36),
    )  # fmt: skip


def _resume(status: Mapping[str, Any]) -> Iterator[Family]:
    yield _by(
        "wsmanager_replays_total", "counter", "Clients that came back, by whether they missed nothing.",
        "result", {"recovered": status["resumed"], "not_recovered": status["not_resumed"]},
    )  # fmt: skip
    for name, text, key in (
        ("replayed_events", "Events replayed to clients that came back.", "events_replayed"),
        ("stored_events", "Events kept for clients that come back.", "events_stored"),
        ("acknowledged_events", "Events acknowledged by a client.", "events_acknowledged"),
        ("repeated_emits", "Emits that an idempotency key showed to be a retry.", "repeated_emits"),
    ):
        yield _one(f"wsmanager_{name}_total", "counter", text, status[key])
    yield _one(
        "wsmanager_journal_bytes", "gauge", "Bytes kept for clients that come back.",
        status["journal_bytes"],
    )  # fmt: skip
    yield _one(
        "wsmanager_journal_users",
        "gauge",
        "Users of whom events are kept.",
        status["journal_users"],
    )


def _flow(counters: Mapping[str, Any]) -> Iterator[Family]:
    yield _one(
        "wsmanager_queue_events", "gauge", "Events that wait in outboxes.",
        counters["queued_events"],
    )  # fmt: skip
    yield _one(
        "wsmanager_queue_bytes", "gauge", "Bytes that wait in outboxes.", counters["queued_bytes"]
    )
    yield _by(
        "wsmanager_slow_consumers_total", "counter",
        "Times that a slow connection was acted on, by what was done.",
        "action", counters["slow"],
    )  # fmt: skip
    yield _one(
        "wsmanager_waiting_connections", "gauge", "Connections that wait for their transport.",
        counters["waiting_connections"],
    )  # fmt: skip
    yield _one(
        "wsmanager_longest_wait_seconds", "gauge",
        "How long the one of them that waits longest has waited.",
        counters["longest_wait"], "livemax",
    )  # fmt: skip


def _process(status: Mapping[str, Any]) -> Iterator[Family]:
    yield _one(
        "wsmanager_wakeups_total", "counter", "Wake-ups of an event loop by another thread.",
        status["wakeups"],
    )  # fmt: skip
    yield _one(
        "wsmanager_tolerated_awaits_total", "counter",
        "Managers that were awaited by mistake and tolerated it.", status["tolerated_awaits"],
    )  # fmt: skip
    yield _one(
        "wsmanager_mis_awaits_total", "counter",
        "Awaits of a manager that were errors, as wsmanager.monitor saw them.",
        mis_await_totals()["raised"],
    )  # fmt: skip
    yield _one(
        "wsmanager_unfinished_runs_total", "counter",
        "Agent runs that went silent before their last event.",
        run_totals()["runs_unfinished_total"],
    )  # fmt: skip
    yield _one(
        "wsmanager_loop_lag_seconds", "gauge",
        "How late the latest event loop that owns connections runs.", worst_lag(), "livemax",
    )  # fmt: skip
    yield _one(
        "wsmanager_draining", "gauge", "1 while no new connections are taken.", is_draining(),
    )  # fmt: skip
    yield Family(
        "wsmanager_build_info", "gauge", "The version of wsmanager and of Python.",
        (Sample(1, (("python", platform.python_version()), ("version", __version__))),),
        "livemax",
    )  # fmt: skip


def _one(name: str, kind: Kind, text: str, value: float, merge: Merge = "livesum") -> Family:
    return Family(name, kind, text, (Sample(value),), merge)


def _by(name: str, kind: Kind, text: str, label: str, values: Mapping[str, float]) -> Family:
    samples = tuple(Sample(value, ((label, key),)) for key, value in values.items())
    return Family(name, kind, text, samples)


def _by_two(
    name: str, text: str, outer: str, inner: str, values: Mapping[str, Mapping[str, float]]
) -> Family:
    """A counter with two labels, the inner one first, as their names sort."""
    samples = tuple(
        Sample(value, ((inner, key), (outer, group)))
        for group, members in values.items()
        for key, value in members.items()
    )
    return Family(name, "counter", text, samples)


def _histogram(name: str, text: str, counted: Mapping[str, Any], octaves: Sequence[int]) -> Family:
    """*octaves*: the bounds, as powers of two of a nanosecond, which the core's buckets fit."""
    samples: list[Sample] = []
    buckets = list(counted["buckets"])
    for octave in octaves:
        bound = 2**octave / 1e9
        below = sum(count for upper, count in buckets if upper <= bound * (1 + 1e-9))
        samples.append(Sample(below, (("le", number(bound)),), "_bucket"))
    samples.append(Sample(counted["count"], (("le", "+Inf"),), "_bucket"))
    samples.append(Sample(counted["count"], (), "_count"))
    samples.append(Sample(counted["sum"], (), "_sum"))
    return Family(name, "histogram", text, tuple(samples))


# -- as text -------------------------------------------------------------------


def exposition(given: Iterable[Family] | None = None) -> str:
    """All of it in Prometheus' text format 0.0.4, of this process alone; needs no library."""
    return "".join(_lines(families() if given is None else given))


def _lines(given: Iterable[Family]) -> Iterator[str]:
    for family in given:
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {family.name} {text}\n# TYPE {family.name} {family.kind}\n"
        for sample in family.samples:
            labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
            braces = f"{{{labels}}}" if labels else ""
            yield f"{family.name}{sample.suffix}{braces} {number(sample.value)}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """As Prometheus writes one: ``+Inf``, and the shortest text that reads back the same."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


# -- through prometheus_client -------------------------------------------------


def install(registry: CollectorRegistry | None = None, *, interval: float = 1.0) -> Any:
    """Give the metrics to ``prometheus_client``; call it once, at startup.

    In an ordinary process a collector is registered with *registry* (its
    global one if ``None``). In multiprocess mode custom collectors are not
    seen; there a thread publishes the values every *interval* seconds, and
    goes on in workers that are forked later.

    :returns: the collector or the publisher; the first one again if called again.
    :raises ImportError: without ``prometheus_client``.
    :raises ValueError: if *interval* is not above 0.
    """
    if not interval > 0:
        raise ValueError(f"interval is a number of seconds above 0, not {interval}")
    try:
        from . import _prometheus
    except ImportError as missing:
        raise ImportError(
            "wsmanager.metrics.install needs prometheus_client: pip install 'wsmanager[prometheus]'. "
            "Without it wsmanager.metrics.exposition() gives the same as text."
        ) from missing
    if _prometheus.is_multiprocess():
        return _prometheus.publisher(interval)
    return _prometheus.collector(registry)
