"""Prometheus: what is exposed is what was counted, with the library and without, by one process and several."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from support.children import ISOLATED
from support.sockets import FailingSocket, HangingSocket, StarletteSocket
from support.waiting import eventually, eventually_sync

import wsmanager
from wsmanager import _wsmanager as core
from wsmanager import get_websocket_manager, metrics

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]

NAMES = {
    "wsmanager_connections": "gauge",
    "wsmanager_users": "gauge",
    "wsmanager_connections_opened": "counter",
    "wsmanager_connections_closed": "counter",
    "wsmanager_connection_duration_seconds": "histogram",
    "wsmanager_events_emitted": "counter",
    "wsmanager_events_delivered": "counter",
    "wsmanager_events_dropped": "counter",
    "wsmanager_events_failed": "counter",
    "wsmanager_emit_to_write_seconds": "histogram",
    "wsmanager_queue_bytes": "gauge",
    "wsmanager_queue_events": "gauge",
    "wsmanager_slow_consumers": "counter",
    "wsmanager_loop_lag_seconds": "gauge",
    "wsmanager_build_info": "gauge",
}


def values(text: str) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return values(text)[name, frozenset(labels.items())]


async def some_work() -> None:
    wsmanager.configure(error_limit=1, outbox_max_events=2, slow_policy="drop_newest")
    manager = get_websocket_manager("ann")
    slow = HangingSocket()
    for websocket in (StarletteSocket(), slow, FailingSocket(ValueError("bug"))):
        manager.add_connection(websocket)
    for event in ("agent_started", "x", "y", "z", "x"):
        manager.emit_event(event, {})
    slow.release()
    await eventually(lambda: core._counters()["queued_events"] == 0)


async def test_with_and_without_the_library_it_is_the_same() -> None:
    await some_work()
    registry = CollectorRegistry()
    metrics.install(registry)
    by_library, by_hand = generate_latest(registry).decode(), metrics.exposition()
    changing = re.compile(r"^wsmanager_(loop_lag|longest_wait)_seconds .*$", re.M)
    assert changing.sub("", by_library) == changing.sub("", by_hand)
    assert len(values(by_hand)) > 100


async def test_every_promised_metric_is_there() -> None:
    found = {family.name: family for family in text_string_to_metric_families(metrics.exposition())}
    for name, kind in NAMES.items():
        assert found[name].type == kind
        assert found[name].documentation
    assert all(name.startswith("wsmanager_") for name in found)


async def test_the_values_are_those_of_the_core() -> None:
    await some_work()
    text = metrics.exposition()
    status = wsmanager.get_manager_registry_status()
    all_values = values(text)

    def total(name: str) -> float:
        return sum(v for (found, _), v in all_values.items() if found == name)

    assert total("wsmanager_events_emitted_total") == status["events_emitted"] == 5
    assert total("wsmanager_events_delivered_total") == status["deliveries_sent"]
    assert total("wsmanager_events_dropped_total") == status["deliveries_dropped"] > 0
    assert total("wsmanager_events_failed_total") == status["deliveries_failed"] > 0
    assert value(text, "wsmanager_connections_closed_total", reason="errors", code="1011") == 1
    assert value(text, "wsmanager_connections", transport="generic") == 2
    assert value(text, "wsmanager_events_emitted_total", event="other", origin="local") == 4


async def test_histograms_are_cumulative_and_whole() -> None:
    await some_work()
    for family in text_string_to_metric_families(metrics.exposition()):
        if family.type != "histogram":
            continue
        buckets = [(s.labels["le"], s.value) for s in family.samples if s.name.endswith("_bucket")]
        counts = [count for _, count in buckets]
        bounds = [float(bound) for bound, _ in buckets]
        assert counts == sorted(counts)
        assert bounds == sorted(set(bounds))
        assert bounds[-1] == float("inf")
        (count,) = [s.value for s in family.samples if s.name.endswith("_count")]
        assert counts[-1] == count
    below = value(
        metrics.exposition(), "wsmanager_emit_to_write_seconds_bucket", le=repr(2**34 / 1e9)
    )
    assert below == core._counters()["emit_to_write"]["count"] > 0


async def test_no_label_names_anybody() -> None:
    manager = get_websocket_manager("canary-user")
    manager.add_connection(
        StarletteSocket(), connection_id="canary-conn", thread_id="canary-thread"
    )
    await manager.emit_event("canary-event", {"x": "canary-payload"}, run_id="canary-run")
    text = metrics.exposition()
    assert "canary" not in text
    labels = {name for _, pairs in values(text) for name, _ in pairs}
    assert labels == {
        "transport",
        "code",
        "reason",
        "event",
        "origin",
        "le",
        "action",
        "result",
        "python",
        "version",
    }


async def test_scraping_costs_nothing_between_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Python of ours runs per event: a collector is installed, and nobody asks it."""
    metrics.install(CollectorRegistry())
    calls: list[object] = []
    monkeypatch.setattr(metrics, "families", lambda: calls.append(1) or [])
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    for _ in range(100):
        await manager.emit_event("x", {})
    assert calls == []


def test_further_sources_are_exposed() -> None:
    def source() -> Iterator[metrics.Family]:
        odd = 'a"b\\c\nd'
        yield metrics.Family(
            "wsmanager_backplane_up",
            "gauge",
            "Two\nlines \\",
            (metrics.Sample(1, (("backend", odd),)),),
        )

    metrics.add_source(source)
    try:
        assert value(metrics.exposition(), "wsmanager_backplane_up", backend='a"b\\c\nd') == 1
    finally:
        metrics._sources.remove(source)


def test_installing_twice_is_installing_once() -> None:
    registry = CollectorRegistry()
    assert metrics.install(registry) is metrics.install(registry)
    assert generate_latest(registry).decode().count("# TYPE wsmanager_users") == 1
    with pytest.raises(ValueError, match="above 0"):
        metrics.install(registry, interval=0)


def test_control_a_second_collector_would_be_refused() -> None:
    registry = CollectorRegistry()
    metrics.install(registry)
    from wsmanager._prometheus import WsmanagerCollector

    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(WsmanagerCollector())
    Counter("mine", "An application's own.", registry=registry)


def test_without_the_library(isolated: Callable[..., Any]) -> None:
    """The text and the route work; installing says what is missing."""
    isolated("""
import sys
sys.modules["prometheus_client"] = None
import asyncio, wsmanager
from wsmanager import metrics
from wsmanager.asgi import OperationsApp
assert "wsmanager_users" in metrics.exposition()
try:
    metrics.install()
except ImportError as error:
    assert "wsmanager[prometheus]" in str(error)
else:
    raise AssertionError("no error")
sent = []
async def send(message):
    sent.append(message)
scope = {"type": "http", "method": "GET", "path": "/metrics", "client": ("127.0.0.1", 5),
         "headers": [(b"host", b"localhost")]}
asyncio.run(OperationsApp()(scope, None, send))
assert sent[0]["status"] == 200 and b"wsmanager_users" in sent[1]["body"]
""")


# -- several processes ------------------------------------------------------------


class Worker:
    """A real process in prometheus_client's multiprocess mode."""

    def __init__(self, folder: Path, sent: int, keep: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ISOLATED / "metrics_worker.py"), str(sent), str(keep)],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.wait_ready()

    def wait_ready(self) -> int:
        assert self.process.stdout is not None
        word, pid = self.process.stdout.readline().split()
        assert word == "ready"
        return int(pid)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def scrape(self) -> str:
        self.say("scrape")
        assert self.process.stdout is not None
        lines = []
        while (line := self.process.stdout.readline()) != "# EOF\n":
            assert line, "the worker has died"
            lines.append(line)
        return "".join(lines)

    def end(self) -> None:
        self.say("end")
        assert self.process.wait(15) == 0
        self.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(15)
        self.close()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


SENT = ("wsmanager_events_delivered_total", {"event": "agent_started"})
OPEN = ("wsmanager_connections", {"transport": "generic"})


CLOSED = ("wsmanager_connections_closed_total", {"reason": "removed", "code": "1001"})


def check(text: str, sent: int, opened: int, workers: int) -> None:
    assert value(text, SENT[0], **SENT[1]) == sent
    assert value(text, CLOSED[0], **CLOSED[1]) == workers
    assert value(text, OPEN[0], **OPEN[1]) == opened
    assert value(text, "wsmanager_emit_to_write_seconds_count") == sent
    assert value(text, "wsmanager_emit_to_write_seconds_bucket", le="+Inf") == sent
    families = {family.name: family.type for family in text_string_to_metric_families(text)}
    for name, kind in NAMES.items():
        assert families[name] == kind


def test_any_worker_gives_the_sum_of_all(tmp_path: Path) -> None:
    one, two = Worker(tmp_path, 30, 3), Worker(tmp_path, 12, 2)
    try:
        check(one.scrape(), 42, 5, 2)
        check(two.scrape(), 42, 5, 2)
        two.kill()
        # what it counted stays counted; its connections are gone
        check(one.scrape(), 42, 3, 2)
        three = Worker(tmp_path, 8, 1)
        check(three.scrape(), 50, 4, 3)
        three.end()
        check(one.scrape(), 50, 3, 3)
    finally:
        one.end()
        if two.process.poll() is None:
            two.kill()


def test_a_forked_worker_publishes_by_itself(tmp_path: Path) -> None:
    """As gunicorn --preload: installed in the parent, served by the child."""
    parent = Worker(tmp_path, 10, 1)
    child = None
    try:
        parent.say("fork")
        child = parent.wait_ready()
        eventually_sync(lambda: value(parent.scrape(), SENT[0], **SENT[1]) == 20, 15)
        check(parent.scrape(), 20, 2, 2)
    finally:
        if child is not None:
            os.kill(child, 9)
        parent.end()


def test_a_file_that_is_just_being_made_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process makes its file empty and gives it a size after that."""
    worker = Worker(tmp_path, 10, 1)
    try:
        check(worker.scrape(), 10, 1, 1)
        (tmp_path / "counter_999999999.db").touch()
        check(worker.scrape(), 10, 1, 1)
    finally:
        worker.end()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(struct.error):  # the library's own collector stumbles over it
        list(MultiProcessCollector(None).collect())


def test_control_without_publishing_the_others_are_not_seen(tmp_path: Path) -> None:
    """prometheus_client's multiprocess mode sees no custom collector: the trap this is about."""
    script = (
        "import wsmanager\n"
        "from prometheus_client import CollectorRegistry, REGISTRY\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "from wsmanager import _prometheus\n"
        "REGISTRY.register(_prometheus.WsmanagerCollector())\n"
        "assert list(MultiProcessCollector(CollectorRegistry()).collect()) == []\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)


def test_the_route_gives_the_sum_too(tmp_path: Path, isolated: Callable[..., Any]) -> None:
    worker = Worker(tmp_path, 6, 1)
    try:
        isolated(
            """
import asyncio
from wsmanager.asgi import OperationsApp
sent = []
async def send(message):
    sent.append(message)
scope = {"type": "http", "method": "GET", "path": "/metrics", "client": ("127.0.0.1", 5),
         "headers": [(b"host", b"localhost")]}
asyncio.run(OperationsApp()(scope, None, send))
assert b'wsmanager_events_delivered_total{event="agent_started"} 6.0' in sent[1]["body"], sent
""",
            env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        )
    finally:
        worker.end()
