"""What the core counts for operators: exact, by closed sets, from zero again in a child."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from support.clients import open_tab
from support.servers import UvicornServer
from support.sockets import FailingSocket, HangingSocket, StarletteSocket, SuspendingSocket
from support.threads import at_once
from support.waiting import eventually

import wsmanager
from wsmanager import _wsmanager as core
from wsmanager import get_websocket_manager, metrics

KINDS = {"other", *wsmanager.AGENT_EVENTS}


def total(counts: dict[str, int]) -> int:
    return sum(counts.values())


async def test_events_are_counted_by_a_closed_set() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    manager.add_connection(StarletteSocket())
    for event in ("agent_started", "agent_thinking", "anything", "agent_started_", "x"):
        await manager.emit_event(event, {})
    await manager.send_to_user({"type": "tool_completed", "payload": {}})
    counters = core._counters()
    expected = {"agent_started": 1, "agent_thinking": 1, "tool_completed": 1, "other": 3}
    assert set(counters["emitted"]) == KINDS
    assert {k: n for k, n in counters["emitted"].items() if n} == expected
    assert {k: n for k, n in counters["sent"].items() if n} == {
        k: 2 * n for k, n in expected.items()
    }
    assert total(counters["failed"]) == 0
    status = wsmanager.get_manager_registry_status()
    assert status["deliveries_sent"] == total(counters["sent"])
    assert status["events_emitted"] == total(counters["emitted"])


def count_from(threads: int, each: int, step: Callable[[int], object]) -> None:
    def run(number: int) -> None:
        for _ in range(each):
            step(number)

    at_once([lambda number=number: run(number) for number in range(threads)])


def test_nothing_is_lost_where_many_threads_count(fast_switches: None) -> None:
    """More threads than there are stripes, of one user and of many."""
    managers = [get_websocket_manager(f"user-{n % 30}") for n in range(40)]
    count_from(40, 250, lambda number: managers[number].emit_event("agent_started", {}))
    counters, status = core._counters(), wsmanager.get_manager_registry_status()
    assert counters["emitted"]["agent_started"] == status["events_emitted"] == 40 * 250
    assert status["events_stored"] == 40 * 250
    core.reset_manager_registry()
    assert total(core._counters()["emitted"]) == 0
    assert wsmanager.get_manager_registry_status()["events_emitted"] == 0


def test_control_a_plain_count_is_lost(fast_switches: None) -> None:
    """The same threads lose some of what they count by a read and a write."""
    counted = [0]

    def step(number: int) -> None:
        now = counted[0]
        for _ in range(3):
            pass
        counted[0] = now + 1

    for _ in range(20):
        counted[0] = 0
        count_from(40, 250, step)
        if counted[0] < 40 * 250:
            return
    pytest.skip("these threads took turns")


async def test_each_end_of_a_connection_has_its_reason() -> None:
    wsmanager.configure(error_limit=1, outbox_max_events=1)
    manager = get_websocket_manager("ann")
    gone = FailingSocket(ConnectionResetError())
    bug = FailingSocket(ValueError("bug"))
    slow = HangingSocket()
    for websocket in (StarletteSocket(), gone, bug, slow):
        manager.add_connection(websocket)
    kept = next(iter(manager.get_user_connections()))
    for _ in range(3):
        await manager.emit_event("x", {})
    await eventually(lambda: len(manager) == 1)
    manager.remove_connection(kept)
    for left in list(manager.get_user_connections()):
        manager.remove_connection(left)
    closed = {reason: n for reason, n in core._counters()["closed"].items() if n}
    assert closed == {"gone": 1, "errors": 1, "outbox": 1, "removed": 1}
    counters = core._counters()
    assert counters["slow"]["close"] == 1
    assert counters["connected"]["count"] == 4 == counters["opened"]
    assert total(counters["failed"]) == wsmanager.get_manager_registry_status()["deliveries_failed"]


@pytest.mark.parametrize(
    ("policy", "actions"),
    [
        ("drop_oldest", {"drop_oldest": 6}),
        ("drop_newest", {"drop_newest": 6}),
        ("coalesce", {"coalesce": 7}),
    ],
)
async def test_what_is_dropped_has_its_reason(policy: Any, actions: dict[str, int]) -> None:
    wsmanager.configure(
        slow_policy=policy, outbox_max_events=2, coalesce_key=lambda kind, data: kind
    )
    manager = get_websocket_manager("ann")
    socket = HangingSocket()
    manager.add_connection(socket)
    for i in range(9):  # one is on its way, two wait (one where they coalesce), the rest is dropped
        manager.emit_event("x", {"i": i})
    counters = core._counters()
    assert {k: total(n) for k, n in counters["dropped"].items() if total(n)} == actions
    assert {k: n for k, n in counters["slow"].items() if n} == actions
    dropped = sum(total(n) for n in counters["dropped"].values())
    assert dropped == wsmanager.get_manager_registry_status()["deliveries_dropped"]
    socket.release()
    await eventually(lambda: len(socket.texts) > 1)


async def test_the_time_from_emit_to_write_is_measured() -> None:
    """One socket's send hangs for a while; the other's event goes at once."""
    manager = get_websocket_manager("ann")
    slow, fast = HangingSocket(), StarletteSocket()
    manager.add_connection(slow)
    manager.add_connection(fast)
    delivery = manager.emit_event("x", {})
    await asyncio.sleep(0.05)  # the time that is to be measured
    slow.release()
    assert await delivery.flushed(5)
    histogram = core._counters()["emit_to_write"]
    assert histogram["count"] == 2
    assert 0.05 <= histogram["sum"] < 5
    (low, one), (high, other) = histogram["buckets"]
    assert (one, other) == (1, 1)
    assert low < 0.05 < high <= histogram["sum"] * 1.5


async def test_the_direct_way_is_measured_too() -> None:
    with UvicornServer(ws="wsmanager.uvicorn:WebSocketProtocol") as server:
        tabs = [await open_tab(server.url, "ann", i + 1) for i in range(3)]
        manager = get_websocket_manager("ann")
        for _ in range(10):
            manager.emit_event("agent_thinking", {})
        for tab in tabs:
            await tab.read(10)
        await eventually(lambda: core._counters()["sent"]["agent_thinking"] == 30)
        counters = core._counters()
        assert counters["emit_to_write"]["count"] == 30
        assert counters["emit_to_write"]["sum"] < 30
        assert counters["connections"] == counters["direct_connections"] == 3
        assert [n for _, n in core._loops()] == [3]
        for tab in tabs:
            await tab.client.close()
        await eventually(lambda: core._counters()["connections"] == 0)
    assert core._loops() == []


async def test_the_buckets_are_a_histogram() -> None:
    """Bounds rise, none is empty, and the sum lies between what they allow."""
    manager = get_websocket_manager("ann")
    for turns in (0, 1, 5, 40):
        manager.add_connection(SuspendingSocket(turns))
    for _ in range(50):
        await manager.emit_event("x", {})
    await eventually(lambda: core._counters()["emit_to_write"]["count"] == 200)
    histogram = core._counters()["emit_to_write"]
    bounds = [bound for bound, _ in histogram["buckets"]]
    assert bounds == sorted(set(bounds))
    assert all(count > 0 for _, count in histogram["buckets"])
    assert sum(count for _, count in histogram["buckets"]) == 200
    most = sum(bound * count for bound, count in histogram["buckets"])
    assert most / 1.34 <= histogram["sum"] <= most  # a bucket is a quarter of an octave wide
    assert all(math.isfinite(bound) for bound in bounds)


async def test_what_waits_is_seen_while_it_waits() -> None:
    manager = get_websocket_manager("ann")
    socket = HangingSocket()
    manager.add_connection(socket)
    for _ in range(4):
        manager.emit_event("x", {})
    counters = core._counters()
    assert counters["queued_events"] == 3
    assert counters["queued_bytes"] > 3 * 50
    assert counters["waiting_connections"] == 1
    await eventually(lambda: core._counters()["longest_wait"] > 0.02)
    socket.release()
    await eventually(lambda: core._counters()["waiting_connections"] == 0)
    assert core._counters()["longest_wait"] == 0.0


def test_a_child_counts_from_zero(isolated: Callable[..., Any]) -> None:
    """What the parent counted is not counted again by each worker it forks."""
    isolated("""
import os, sys, wsmanager
from wsmanager import _wsmanager as core
wsmanager.get_websocket_manager("ann").emit_event("agent_started", {})
assert core._counters()["emitted"]["agent_started"] == 1
child = os.fork()
if child == 0:
    clean = core._counters()["emitted"]["agent_started"] == 0
    clean = clean and wsmanager.get_manager_registry_status()["events_emitted"] == 0
    os._exit(0 if clean else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert core._counters()["emitted"]["agent_started"] == 1
""")


async def test_replayed_events_are_sent_but_not_timed() -> None:
    """They were emitted long before: their time says nothing of how fast the writers are."""
    manager = get_websocket_manager("ann")
    position = manager.position
    for _ in range(7):
        await manager.emit_event("agent_thinking", {})
    assert core._counters()["emit_to_write"]["count"] == 0
    back = StarletteSocket()
    manager.add_connection(back, resume=position)
    await eventually(lambda: len(back.texts) == 8)
    counters = core._counters()
    assert counters["sent"]["agent_thinking"] == 7
    assert counters["emit_to_write"]["count"] == 0
    await manager.emit_event("agent_thinking", {})
    assert core._counters()["emit_to_write"]["count"] == 1
    text = metrics.exposition()
    assert 'wsmanager_replays_total{result="recovered"} 1.0' in text
    assert "wsmanager_replayed_events_total 7.0" in text


async def test_the_slowest_come_first_and_the_idle_not_at_all() -> None:
    sockets = []
    for user, events in (("a", 3), ("b", 9), ("c", 1), ("d", 6), ("e", 0)):
        manager = get_websocket_manager(user)
        sockets.append(HangingSocket())
        manager.add_connection(sockets[-1], connection_id=user)
        for _ in range(events + 1 if events else 0):
            manager.emit_event("x", {})
    rows = core._slowest(3)
    assert [(row[0], row[2]) for row in rows] == [("b", 9), ("d", 6), ("a", 3)]
    assert {row[1] for row in rows} == {"generic"}
    assert [len(core._slowest(limit)) for limit in (0, 1, 4, 100)] == [0, 1, 4, 4]
    for socket in sockets:
        socket.release()
    await eventually(lambda: not core._slowest(10))
