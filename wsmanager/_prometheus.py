"""The side of :mod:`wsmanager.metrics` that knows ``prometheus_client``."""

from __future__ import annotations

import atexit
import glob
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, values
from prometheus_client import REGISTRY as GLOBAL_REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from . import metrics
from ._log import error_name

__all__ = [
    "Publisher",
    "WsmanagerCollector",
    "aggregated",
    "collector",
    "is_multiprocess",
    "publisher",
]

_LOG: Final = logging.getLogger("wsmanager.http")


def is_multiprocess() -> bool:
    """Whether ``prometheus_client`` was imported with ``PROMETHEUS_MULTIPROC_DIR`` set."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


class WsmanagerCollector(Collector):
    """Reads the counters of the core when it is scraped, and at no other time."""

    def describe(self) -> Iterable[Metric]:
        return self.collect()  # so that a registry refuses the same names twice

    def collect(self) -> Iterable[Metric]:
        for family in metrics.families():
            bare = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            metric = Metric(bare, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(family.name + sample.suffix, dict(sample.labels), sample.value)
            yield metric


_collectors: WeakKeyDictionary[CollectorRegistry, WsmanagerCollector] = WeakKeyDictionary()


def collector(registry: CollectorRegistry | None) -> WsmanagerCollector:
    """The collector of a registry, registered if it is new."""
    target = GLOBAL_REGISTRY if registry is None else registry
    found = _collectors.get(target)
    if found is None:
        found = WsmanagerCollector()
        target.register(found)
        _collectors[target] = found
    return found


class Publisher:
    """Writes this process's values to its files in ``PROMETHEUS_MULTIPROC_DIR``, now and then.

    The files are ``prometheus_client``'s own, through its own classes, so its
    collector merges them with everybody's: counters and histograms by their
    sum, gauges by ``livesum`` or ``livemax``.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._lock = threading.Lock()
        self._values: dict[tuple[str, str, metrics.Labels], tuple[Any, float]] = {}
        self._pid = os.getpid()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Publish once now, then from a thread of its own, in forked children too."""
        self.publish()
        self._run()
        # While another thread publishes, prometheus_client's lock is held, and would stay
        # held for ever in a child that is forked meanwhile.
        os.register_at_fork(
            before=self._lock.acquire,
            after_in_parent=self._lock.release,
            after_in_child=self._forked,
        )
        atexit.register(self.stop)

    def _run(self) -> None:
        self._wake = threading.Event()
        self._thread = threading.Thread(
            target=self._publish_for_ever, args=(self._wake,), name="wsmanager-metrics", daemon=True
        )
        self._thread.start()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._run()

    def _publish_for_ever(self, stopped: threading.Event) -> None:
        warned = False
        while not stopped.wait(self.interval):
            try:
                self.publish()
                warned = False
            except Exception as error:  # noqa: BLE001 -- a full disk must not end the thread
                if not warned:
                    _LOG.warning(
                        "metrics could not be published: %s",
                        error_name(error),
                        extra={"event": "metrics", "reason": error_name(error)},
                    )
                warned = True

    def publish(self) -> None:
        """Write the values as they are now. Any thread."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._values = os.getpid(), {}
            for family in metrics.families():
                for sample, value in _parts(family):
                    self._write(family, sample, value)

    def _write(self, family: metrics.Family, sample: metrics.Sample, value: float) -> None:
        key = (family.name, sample.suffix, sample.labels)
        known = self._values.get(key)
        if known is None:
            made = values.ValueClass(
                family.kind,
                family.name.removesuffix("_total") if family.kind == "counter" else family.name,
                family.name + sample.suffix,
                tuple(name for name, _ in sample.labels),
                tuple(text for _, text in sample.labels),
                family.help,
                multiprocess_mode=family.merge if family.kind == "gauge" else "",
            )
            # What an earlier process of this number left counts on.
            known = (made, 0.0 if family.kind == "gauge" else made.get())
            self._values[key] = known
        known[0].set(known[1] + value)

    def stop(self) -> None:
        """Publish a last time and end the thread."""
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2)
        try:
            self.publish()
        except (OSError, ValueError) as error:  # the folder has gone before us
            _LOG.debug("metrics were not published at the end: %s", error_name(error))


_started: list[Publisher] = []
_starting = threading.Lock()


def publisher(interval: float) -> Publisher:
    """The publisher of this process, started if there is none yet."""
    with _starting:
        if not _started:
            made = Publisher(interval)
            made.start()
            _started.append(made)
        return _started[0]


def _parts(family: metrics.Family) -> Iterator[tuple[metrics.Sample, float]]:
    """What a file holds: of a histogram each bucket by itself, and no count."""
    below = 0.0
    for sample in family.samples:
        if sample.suffix == "_count":
            continue
        if sample.suffix == "_bucket":
            yield sample, sample.value - below
            below = sample.value
        else:
            yield sample, sample.value


def _files(pattern: str) -> list[str]:
    """Those of the processes' files whose names fit."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    return glob.glob(os.path.join(glob.escape(folder), pattern))


def _begun_files() -> list[str]:
    """The files of the processes, but those that one is making just now: they are empty."""
    begun = []
    for path in _files("*.db"):
        try:
            if os.path.getsize(path) > 0:
                begun.append(path)
        except FileNotFoundError:
            continue  # of a process that has ended meanwhile
    return begun


class _Ours(Collector):
    """Of all that the processes have published, what is wsmanager's."""

    def collect(self) -> Iterable[Metric]:
        for metric in MultiProcessCollector.merge(_begun_files()):  # type: ignore[no-untyped-call]
            if metric.name.startswith("wsmanager_"):
                yield metric


def aggregated() -> tuple[str, bytes]:
    """The content type and the text of the metrics of all processes."""
    forget_the_dead()
    registry = CollectorRegistry()
    registry.register(_Ours())
    return CONTENT_TYPE_LATEST, generate_latest(registry)


def forget_the_dead() -> None:
    """Take the gauges of processes that are no more out of the sum."""
    for path in _files("gauge_live*_*.db"):
        found = re.fullmatch(r"gauge_live[a-z]+_(\d+)\.db", os.path.basename(path))
        if found is not None and not _is_alive(int(found[1])):
            try:
                mark_process_dead(int(found[1]), os.path.dirname(path))  # type: ignore[no-untyped-call]
            except FileNotFoundError:
                continue  # another worker was faster


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
