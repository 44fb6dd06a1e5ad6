"""A client that comes back gets exactly what it has missed, or is told that it does not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.children import Outcome
from support.loops import LoopThread
from support.plants import Nursery
from support.sockets import HangingSocket, Inbox, StarletteSocket, WebSocketState
from support.threads import at_once
from support.waiting import eventually, eventually_sync, turns

import wsmanager
from wsmanager import (
    ServerDraining,
    UnifiedWebSocketManager,
    get_manager_registry_status,
    get_websocket_manager,
)
from wsmanager._hooks import core


def numbered(socket: Inbox) -> list[int]:
    """The data of the events a socket got, without the control events."""
    return [event["payload"]["n"] for event in socket.events if "id" in event]


def control(socket: Inbox) -> dict[str, Any]:
    """What the first frame of a socket says of its resume."""
    first = socket.events[0]
    assert first["type"] == "resumed"
    assert "id" not in first
    payload: dict[str, Any] = first["payload"]
    return payload


async def resume(
    manager: UnifiedWebSocketManager, position: str, **names: Any
) -> tuple[StarletteSocket, dict[str, Any]]:
    socket = StarletteSocket()
    manager.add_connection(socket, resume=position, **names)
    await eventually(lambda: socket.texts)
    await turns()
    return socket, control(socket)


# -- what is replayed -------------------------------------------------------------


async def test_exactly_what_was_missed_comes_before_what_is_new() -> None:
    manager = get_websocket_manager("ann")
    ids = [manager.emit_event("x", {"n": n}).id for n in range(10)]
    socket = StarletteSocket()
    manager.add_connection(socket, resume=ids[3])
    manager.emit_event("x", {"n": 10})
    await eventually(lambda: len(socket.texts) == 8)
    assert control(socket) == {
        "recovered": True,
        "replayed": 6,
        "position": ids[9],
        "reason": None,
    }
    assert numbered(socket) == [4, 5, 6, 7, 8, 9, 10]
    assert [event["id"] for event in socket.events[1:7]] == ids[4:]


async def test_nothing_was_missed() -> None:
    manager = get_websocket_manager("ann")
    last = manager.emit_event("x", {"n": 0}).id
    socket, said = await resume(manager, last)
    assert said["recovered"] is True
    assert said["replayed"] == 0
    assert len(socket.texts) == 1


async def test_before_the_first_event_a_position_is_good() -> None:
    manager = get_websocket_manager("ann")
    _, said = await resume(manager, "")
    assert said["recovered"] is False
    assert said["position"] == manager.position
    manager.emit_event("x", {"n": 1})
    socket, said = await resume(manager, said["position"])
    assert said["recovered"] is True
    assert numbered(socket) == [1]


async def test_events_for_a_user_without_connections_are_kept() -> None:
    manager = get_websocket_manager("ann")
    start = manager.position
    receipt = await manager.emit_event("agent_completed", {"n": 7})
    assert receipt.stored == 1
    assert not receipt, "nobody took it yet"
    socket, said = await resume(manager, start)
    assert said["recovered"]
    assert numbered(socket) == [7]


async def test_a_replay_repeats_the_very_bytes() -> None:
    manager = get_websocket_manager("ann")
    first = StarletteSocket()
    start = manager.position
    manager.add_connection(first)
    for n in range(5):
        manager.emit_event("tool_executing", {"n": n, "text": "ü" * n})
    second, _ = await resume(manager, start)
    assert second.texts[1:] == first.texts


async def test_only_what_the_connection_would_have_got() -> None:
    manager = get_websocket_manager("ann")
    start = manager.position
    other = StarletteSocket()
    manager.add_connection(other, "other")
    manager.emit_event("x", {"n": 1})
    manager.send_to_thread("t1", {"type": "x", "payload": {"n": 2}})
    manager.send_to_thread("t2", {"type": "x", "payload": {"n": 3}})
    manager.send_message("other", {"type": "x", "payload": {"n": 4}})
    manager.emit_event("x", {"n": 5})
    socket, said = await resume(manager, start, thread_id="t2")
    assert said["recovered"]
    assert numbered(socket) == [1, 3, 5]
    assert said["replayed"] == 3
    assert numbered(other) == [1, 4, 5]


async def test_a_replay_does_not_change_the_receipt() -> None:
    manager = get_websocket_manager("ann")
    start = manager.position
    delivery = manager.emit_event("x", {"n": 1}, detail=True)
    before = delivery.receipt
    await resume(manager, start)
    after = delivery.receipt
    assert (before.sent, before.queued, before.stored) == (0, 0, 1)
    assert (after.sent, after.queued, after.stored) == (0, 0, 1)
    assert after.connections == {}


# -- what is not ------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        "", " ", ":", "0:0", "0123456789abcdef", "0123456789abcdef:", "0123456789abcdef:1",
        "0123456789abcdef:-1", "0123456789ABCDEF:1", "0123456789abcdef:01",
        "0123456789abcdef:18446744073709551615", "0123456789abcdef:18446744073709551616",
        "0123456789abcdef:99999999999999999999", "0123456789abcdef:٣", "x" * 100_000,
        "0123456789abcdef\x00:1", "\ud800", "0123456789abcdeg:1", " 0123456789abcdef:1",
    ],
)  # fmt: skip
async def test_what_is_no_position_of_ours_recovers_nothing(token: str) -> None:
    manager = get_websocket_manager("ann")
    manager.emit_event("x", {"n": 1})
    socket, said = await resume(manager, token)
    assert said["recovered"] is False
    assert said["replayed"] == 0
    assert said["reason"] in ("malformed", "unknown")
    assert said["position"] == manager.position
    assert numbered(socket) == []
    manager.emit_event("x", {"n": 2})
    await turns()
    assert numbered(socket) == [2], "it is a connection like any other from now on"


async def test_a_position_of_another_user_is_worth_nothing() -> None:
    ann, bob = get_websocket_manager("ann"), get_websocket_manager("bob")
    start = ann.position
    ann.emit_event("x", {"n": 1, "of": "ann"})
    bob.emit_event("x", {"n": 2, "of": "bob"})
    socket, said = await resume(bob, start)
    assert said["recovered"] is False
    assert said["reason"] == "unknown"
    assert numbered(socket) == []
    assert not any('"ann"' in text for text in socket.texts)


async def test_a_position_ahead_of_the_stream_is_refused() -> None:
    manager = get_websocket_manager("ann")
    epoch, seq = str(manager.emit_event("x", {"n": 1}).id).split(":")
    _, said = await resume(manager, f"{epoch}:{int(seq) + 1}")
    assert said["recovered"] is False
    assert said["reason"] == "ahead"


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_position_never_gives_another_users_events(data: st.DataObject) -> None:
    wsmanager.reset_manager_registry()
    ann, bob = get_websocket_manager("ann"), get_websocket_manager("bob")
    token = ann.position
    for n in range(3):
        ann.emit_event("x", {"n": n, "of": "ann"})
        bob.emit_event("x", {"n": n, "of": "bob"})
    at = data.draw(st.integers(0, len(token)))
    cut = data.draw(st.integers(0, 3))
    text = data.draw(st.text(st.sampled_from("0123456789abcdef:\x00é"), max_size=3))
    forged = token[:at] + text + token[at + cut :]

    async def main() -> None:
        for user, manager in (("ann", ann), ("bob", bob)):
            socket, said = await resume(manager, forged)
            assert {event["payload"]["of"] for event in socket.events[1:]} <= {user}
            if user == "bob" or forged != token:
                at_most = 3 if user == "ann" else 0
                assert len(socket.events) - 1 == said["replayed"] <= at_most
            manager.close_all_connections()

    asyncio.run(main())


async def test_a_manager_that_was_made_anew_knows_no_old_position() -> None:
    old = get_websocket_manager("ann").emit_event("x", {"n": 1}).id
    wsmanager.reset_manager_registry()
    _, said = await resume(get_websocket_manager("ann"), old)
    assert said["recovered"] is False
    assert said["reason"] == "unknown"


async def test_the_manager_of_no_user_keeps_no_events() -> None:
    manager = get_websocket_manager(None)
    start = manager.position
    assert (await manager.emit_event("x", {"n": 1})).stored == 0
    _, said = await resume(manager, start)
    assert said["recovered"] is False
    assert said["replayed"] == 0


# -- limits -----------------------------------------------------------------------


async def test_the_number_kept_is_limited() -> None:
    wsmanager.configure(journal_max_events=4)
    manager = get_websocket_manager("ann")
    ids = [manager.emit_event("x", {"n": n}).id for n in range(10)]
    assert manager.get_stats()["journal_events"] == 4
    socket, said = await resume(manager, ids[5])
    assert said["recovered"] is True
    assert numbered(socket) == [6, 7, 8, 9]
    socket, said = await resume(manager, ids[4])
    assert said == {"recovered": False, "replayed": 0, "position": ids[9], "reason": "expired"}
    assert numbered(socket) == []


async def test_the_bytes_kept_are_limited_and_told() -> None:
    wsmanager.configure(journal_max_bytes=20_000)
    manager = get_websocket_manager("ann")
    for n in range(100):
        manager.emit_event("x", {"n": n, "text": "x" * 1000})
        assert 0 < manager.get_stats()["journal_bytes"] <= 20_000
    stats = manager.get_stats()
    assert stats["journal_bytes"] >= 1000 * stats["journal_events"] > 0
    assert get_manager_registry_status()["journal_bytes"] == stats["journal_bytes"]


async def test_an_event_too_large_to_keep_ends_the_journal_honestly() -> None:
    wsmanager.configure(journal_max_bytes=5_000)
    manager = get_websocket_manager("ann")
    before = manager.emit_event("x", {"n": 1}).id
    receipt = await manager.emit_event("x", {"n": 2, "text": "x" * 10_000})
    assert receipt.stored == 0
    after = receipt.id
    manager.emit_event("x", {"n": 3})
    _, said = await resume(manager, before)
    assert said["recovered"] is False, "the large one would be missing"
    socket, said = await resume(manager, after)
    assert said["recovered"] is True
    assert numbered(socket) == [3]


async def test_an_event_is_kept_for_its_time() -> None:
    wsmanager.configure(journal_max_age=0.05)
    manager = get_websocket_manager("ann")
    old = manager.position
    manager.emit_event("x", {"n": 1})
    await asyncio.sleep(0.1)
    _, said = await resume(manager, old)
    assert said["reason"] == "expired"
    assert manager.get_stats()["journal_events"] == 0


async def test_a_journal_that_nobody_asks_for_dies_with_its_age() -> None:
    """Nothing but other users' events lets go of it: there is no background thread."""
    wsmanager.configure(journal_max_age=0.02)
    for n in range(50):
        get_websocket_manager(f"user-{n}").emit_event("x", {"n": n})
    assert get_manager_registry_status()["journal_users"] == 50
    deadline = time.monotonic() + 10
    while get_manager_registry_status()["journal_users"] > 1:
        assert time.monotonic() < deadline
        get_websocket_manager("somebody").emit_event("x", {})
        await asyncio.sleep(0.01)


async def test_without_a_journal_only_a_gapless_return_is_recovered() -> None:
    wsmanager.configure(journal_max_events=0)
    manager = get_websocket_manager("ann")
    first = manager.emit_event("x", {"n": 1}).id
    assert (await resume(manager, first))[1]["recovered"] is True
    assert (await manager.emit_event("x", {"n": 2})).stored == 0
    assert (await resume(manager, first))[1]["recovered"] is False
    assert get_manager_registry_status()["journal_bytes"] == 0


async def test_a_replay_that_its_outbox_cannot_hold_is_refused() -> None:
    manager = get_websocket_manager("ann")
    start = manager.position
    for n in range(20):
        manager.emit_event("x", {"n": n})
    wsmanager.configure(outbox_max_events=10)
    socket, said = await resume(manager, start)
    assert said["reason"] == "limit"
    assert numbered(socket) == []
    manager.emit_event("x", {"n": 20})
    await turns()
    assert numbered(socket) == [20]


async def test_all_users_share_a_budget_and_the_quietest_gives_way() -> None:
    wsmanager.configure(journal_budget=200_000, journal_max_bytes=50_000)
    starts = {}
    for n in range(100):
        manager = get_websocket_manager(f"user-{n}")
        starts[n] = manager.position
        manager.emit_event("x", {"n": n, "text": "x" * 4000})
        status = get_manager_registry_status()
        assert status["journal_bytes"] <= 200_000
        held = sum(
            get_websocket_manager(f"user-{k}").get_stats()["journal_bytes"] for k in range(n + 1)
        )
        assert held == status["journal_bytes"], "what is told is what is held"
    assert status["journal_users"] < 60
    _, said = await resume(get_websocket_manager("user-0"), starts[0])
    assert said["reason"] == "expired"
    socket, said = await resume(get_websocket_manager("user-99"), starts[99])
    assert said["recovered"] is True
    assert numbered(socket) == [99]


def test_threads_share_the_budget_too(fast_switches: None) -> None:
    """What they tell of in steps is bounded all the while, and exact when they have ended."""
    budget = 1_000_000
    wsmanager.configure(journal_budget=budget, journal_max_bytes=budget)
    seen = []

    def emits(thread: int) -> None:
        for n in range(1500):
            manager = get_websocket_manager(f"user-{thread}-{n % 40}")
            manager.emit_event("x", {"n": n, "text": "x" * (n % 700)})
            if n % 50 == 0:
                seen.append(get_manager_registry_status()["journal_bytes"])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(emits, range(8)))
    assert budget / 2 < max(seen) <= budget * 33 / 32 + 8 * 1000
    names = [f"user-{thread}-{n}" for thread in range(8) for n in range(40)]
    held = [get_websocket_manager(name).get_stats()["journal_bytes"] for name in names]
    status = get_manager_registry_status()
    assert status["journal_bytes"] == sum(held), "what is told is what is held"
    assert status["journal_users"] == sum(bytes > 0 for bytes in held)
    wsmanager.reset_manager_registry()
    status = get_manager_registry_status()
    assert status["journal_bytes"] == status["journal_users"] == 0


async def test_a_manager_with_a_live_journal_is_not_collected() -> None:
    wsmanager.configure(idle_ttl=0.02, journal_max_age=60)
    start = get_websocket_manager("ann").position
    get_websocket_manager("ann").emit_event("x", {"n": 1})
    get_websocket_manager("bob")
    gc.collect()
    await asyncio.sleep(0.05)
    assert get_manager_registry_status()["total_registered_managers"] == 1
    socket, said = await resume(get_websocket_manager("ann"), start)
    assert said["recovered"] is True
    assert numbered(socket) == [1]


async def test_a_manager_whose_journal_has_died_is_collected() -> None:
    wsmanager.configure(idle_ttl=0.02, journal_max_age=0.02)
    get_websocket_manager("ann").emit_event("x", {"n": 1})
    await asyncio.sleep(0.06)
    await eventually(lambda: get_manager_registry_status()["total_registered_managers"] == 0)
    assert get_manager_registry_status()["journal_bytes"] == 0


def test_the_child_of_a_fork_keeps_no_events_of_its_parent(isolated: Any) -> None:
    isolated(
        """
import os
import wsmanager
from wsmanager import get_websocket_manager, get_manager_registry_status
manager = get_websocket_manager("ann")
position = manager.position
manager.emit_event("x", {"n": 1})
pid = os.fork()
if pid == 0:
    ok = manager.position != position
    ok = ok and get_manager_registry_status()["journal_bytes"] == 0
    ok = ok and manager.get_stats()["journal_events"] == 0
    manager.emit_event("x", {"n": 2})
    ok = ok and manager.get_stats()["journal_events"] == 1
    os._exit(0 if ok else 1)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert manager.get_stats()["journal_events"] == 1
"""
    )


# -- the seam ---------------------------------------------------------------------


def seam(emitters: int, rounds: int) -> None:
    """Resume again and again while threads emit; every stream is complete, once, in order."""
    manager = get_websocket_manager("ann")
    wsmanager.configure(
        journal_max_events=1_000_000,
        journal_max_bytes=1 << 30,
        journal_budget=1 << 30,
        outbox_max_events=1_000_000,
        outbox_max_bytes=1 << 30,
    )
    stop = threading.Event()

    def emit(sender: int) -> None:
        n = 0
        while not stop.is_set() and n < 10_000:
            manager.emit_event("x", {"n": n, "sender": sender})
            n += 1
            if n % 16 == 0:
                time.sleep(0.0005)

    threads = [threading.Thread(target=emit, args=(k,)) for k in range(emitters)]

    async def main() -> None:
        position = manager.position
        got: list[int] = []
        start = int(position.split(":")[1])
        for _ in range(rounds):
            socket = StarletteSocket()
            connection = manager.add_connection(socket, resume=position)
            await asyncio.sleep(random.random() * 0.002)
            manager.remove_connection(connection)
            await asyncio.sleep(random.random() * 0.002)  # and misses some
            if not socket.texts:
                continue
            assert control(socket)["recovered"] is True
            for event in socket.events[1:]:
                got.append(int(event["id"].split(":")[1]))
                position = event["id"]
        assert got == list(range(start + 1, start + 1 + len(got)))
        assert len(got) > rounds

    for thread in threads:
        thread.start()
    try:
        asyncio.run(main())
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_no_event_is_lost_or_doubled_at_the_seam() -> None:
    seam(emitters=4, rounds=300)


def planted(
    run_isolated: Callable[..., Outcome], nursery: Nursery, plant: str, code: str
) -> Outcome:
    """Run one of these tests on a core that has the bug in."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return run_isolated(
        f"import asyncio, test_resume\n{code}",
        package=nursery.package(plant),
        env={"PYTHONPATH": paths},
    )


@pytest.mark.parametrize(
    ("plant", "code"),
    [
        ("SEAM", "test_resume.seam(4, 100)"),
        ("FOREIGN", "asyncio.run(test_resume.test_a_position_of_another_user_is_worth_nothing())"),
    ],
)
def test_control_a_planted_bug_is_seen(
    run_isolated: Callable[..., Outcome], nursery: Nursery, plant: str, code: str
) -> None:
    outcome = planted(run_isolated, nursery, plant, code)
    assert not outcome.ok
    assert "AssertionError" in outcome.err, outcome.explain()


def test_a_connection_resumes_on_its_own_loop_from_another_thread() -> None:
    manager = get_websocket_manager("ann")
    start = manager.position
    for n in range(3):
        manager.emit_event("x", {"n": n})
    with LoopThread() as thread:
        socket = StarletteSocket()
        manager.add_connection(socket, resume=start, loop=thread.loop)
        eventually_sync(lambda: len(socket.texts) == 4)
        assert numbered(socket) == [0, 1, 2]


async def test_a_slow_connection_keeps_the_order_of_replay_and_live() -> None:
    manager = get_websocket_manager("ann")
    start = manager.position
    for n in range(5):
        manager.emit_event("x", {"n": n})
    socket = HangingSocket()
    manager.add_connection(socket, resume=start)
    await turns()
    for n in range(5, 10):
        manager.emit_event("x", {"n": n})
    socket.release()
    await eventually(lambda: len(socket.texts) == 11)
    assert numbered(socket) == list(range(10))


# -- acknowledgements -------------------------------------------------------------


async def test_a_client_acknowledges_an_event() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    delivery = manager.emit_event("agent_completed", {"n": 1}, ack=True)
    acked = delivery.acked(5)
    assert socket.events[0]["ack"] is True
    assert await manager.acknowledge(socket.events[0]["id"]) is True
    assert await acked is True
    assert await delivery.acked() is True
    assert not manager.acknowledge(socket.events[0]["id"]), "once only"


async def test_nobody_acknowledges() -> None:
    manager = get_websocket_manager("ann")
    delivery = manager.emit_event("x", {}, ack=True)
    assert await delivery.acked(0.01) is False


async def test_an_acknowledgement_of_another_user_counts_for_nothing() -> None:
    ann, bob = get_websocket_manager("ann"), get_websocket_manager("bob")
    delivery = ann.emit_event("x", {}, ack=True)
    assert not bob.acknowledge(delivery.id)
    assert await delivery.acked(0.01) is False
    assert ann.acknowledge(delivery.id)


@pytest.mark.parametrize("text", ["", "x", "0:1", "0123456789abcdef:1", "\u0000", "\ud800"])
async def test_what_is_no_id_acknowledges_nothing(text: str) -> None:
    manager = get_websocket_manager("ann")
    manager.emit_event("x", {}, ack=True)
    assert not manager.acknowledge(text)


async def test_an_event_that_asks_for_no_acknowledgement_has_none() -> None:
    manager = get_websocket_manager("ann")
    delivery = manager.emit_event("x", {})
    assert not manager.acknowledge(delivery.id)
    with pytest.raises(ValueError, match="ack=True"):
        delivery.acked()
    with pytest.raises(TypeError):
        manager.acknowledge(7)  # type: ignore[arg-type]


async def test_a_message_may_ask_to_be_acknowledged() -> None:
    manager = get_websocket_manager("ann")
    delivery = manager.send_to_user({"type": "notice", "ack": True, "payload": {}})
    assert manager.acknowledge(delivery.id)


async def test_unacknowledged_events_are_bounded() -> None:
    manager = get_websocket_manager("ann")
    first = manager.emit_event("x", {}, ack=True)
    waiting = first.acked()
    for _ in range(400):
        manager.emit_event("x", {}, ack=True)
    assert manager.get_stats()["unacknowledged_events"] <= 256
    assert await asyncio.wait_for(waiting, 5) is False
    assert await first.acked() is False


@pytest.mark.parametrize("names", [{}, {"ack": True}, {"idempotency_key": "k"}])
async def test_an_event_for_one_connection_is_never_anothers(names: dict[str, Any]) -> None:
    """Neither of those that are there, nor of one that resumes from before it."""
    manager = get_websocket_manager("ann")
    start = manager.position
    own, other = StarletteSocket(), StarletteSocket()
    connection_id = manager.add_connection(own)
    manager.add_connection(other)
    delivery = manager.emit_event("x", {"n": 1}, connection_id=connection_id, detail=True, **names)
    manager.emit_event("x", {"n": 2})
    late, _ = await resume(manager, start)
    assert await delivery.flushed(5)
    assert (numbered(own), numbered(other), numbered(late)) == ([1, 2], [2], [2])
    assert delivery.receipt.connections == {connection_id: "sent"}
    assert delivery.receipt.stored == 0


async def test_what_an_idle_user_keeps_goes_by_its_age() -> None:
    """Events that nobody acknowledges, and idempotency keys, as much as the journal's."""
    wsmanager.configure(journal_max_events=0, journal_max_age=0.01, idempotency_window=0.01)
    idle, busy = get_websocket_manager("ann"), get_websocket_manager("bob")
    waiting = idle.emit_event("x", {}, ack=True).acked()
    first = idle.emit_event("x", {}, idempotency_key="k")
    assert get_manager_registry_status()["journal_bytes"] > 0

    def is_empty() -> bool:
        busy.emit_event("x", {})
        return get_manager_registry_status()["journal_bytes"] == 0

    await eventually(is_empty, timeout=30)
    assert await asyncio.wait_for(waiting, 5) is False
    assert idle.get_stats()["unacknowledged_events"] == 0
    assert idle.emit_event("x", {}, idempotency_key="k") is not first


async def test_keys_outlive_the_events_that_wait_to_be_acknowledged() -> None:
    """Each by its own age: the longer window holds."""
    wsmanager.configure(journal_max_events=0, journal_max_age=0.01, idempotency_window=3600)
    idle, busy = get_websocket_manager("ann"), get_websocket_manager("bob")
    idle.emit_event("x", {}, ack=True)
    first = idle.emit_event("x", {}, idempotency_key="k")

    def is_forgotten() -> bool:
        busy.emit_event("x", {})
        return idle.get_stats()["unacknowledged_events"] == 0

    await eventually(is_forgotten, timeout=30)
    assert idle.emit_event("x", {}, idempotency_key="k") is first


async def test_an_event_that_is_replayed_may_be_acknowledged_then() -> None:
    manager = get_websocket_manager("ann")
    start = manager.position
    delivery = manager.emit_event("x", {"n": 1}, ack=True)
    socket, _ = await resume(manager, start)
    assert socket.events[1]["ack"] is True
    assert manager.acknowledge(socket.events[1]["id"])
    assert await delivery.acked(1) is True


async def test_an_acknowledgement_from_another_thread_wakes_the_waiter() -> None:
    manager = get_websocket_manager("ann")
    delivery = manager.emit_event("x", {}, ack=True)
    waiting = delivery.acked(5)
    thread = threading.Thread(target=manager.acknowledge, args=(delivery.id,))
    thread.start()
    thread.join()
    assert await waiting is True


# -- idempotency ------------------------------------------------------------------


async def test_a_retried_emit_is_delivered_once() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    first = manager.emit_event("x", {"n": 1}, idempotency_key="job-1")
    again = manager.emit_event("x", {"n": 2}, idempotency_key="job-1")
    other = manager.emit_event("x", {"n": 3}, idempotency_key="job-2")
    assert again is first
    assert (await again).id == first.id != other.id
    assert (await again).sent == 1
    assert numbered(socket) == [1, 3]
    assert get_manager_registry_status()["repeated_emits"] == 1


async def test_a_key_is_one_users() -> None:
    sockets = []
    for user in ("ann", "bob"):
        sockets.append(StarletteSocket())
        get_websocket_manager(user).add_connection(sockets[-1])
        get_websocket_manager(user).emit_event("x", {"n": 1}, idempotency_key="job-1")
    assert [len(socket.texts) for socket in sockets] == [1, 1]


async def test_a_key_is_free_again_after_its_window() -> None:
    wsmanager.configure(idempotency_window=0.02)
    manager = get_websocket_manager("ann")
    first = manager.emit_event("x", {}, idempotency_key="k")
    await asyncio.sleep(0.05)
    assert manager.emit_event("x", {}, idempotency_key="k") is not first


async def test_an_emit_that_is_refused_does_not_use_its_key_up() -> None:
    manager = get_websocket_manager("ann")
    with pytest.raises(wsmanager.EncodeError):
        manager.emit_event("x", {"bad": object()}, idempotency_key="k")
    with pytest.raises(wsmanager.EventTooLarge):
        manager.emit_event("x", {"bad": "x" * 3_000_000}, idempotency_key="k")
    assert (await manager.emit_event("x", {}, idempotency_key="k")).stored == 1


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_a_key_has_a_length(key: str) -> None:
    with pytest.raises(ValueError, match="idempotency_key"):
        get_websocket_manager("ann").emit_event("x", {}, idempotency_key=key)


async def test_a_key_is_text() -> None:
    with pytest.raises(TypeError, match="idempotency_key"):
        get_websocket_manager("ann").emit_event("x", {}, idempotency_key=7)  # type: ignore[arg-type]


async def test_keys_are_bounded() -> None:
    manager = get_websocket_manager("ann")
    for n in range(5000):
        manager.emit_event("x", {"n": n}, idempotency_key=f"k{n}")
    assert get_manager_registry_status()["journal_bytes"] < 3 * 256 * 1024 + 10_000
    wsmanager.configure(journal_max_bytes=10_000, journal_budget=50_000)
    for n in range(100):
        manager.emit_event("x", {"text": "x" * 2000}, idempotency_key=f"large{n}")
    assert get_manager_registry_status()["journal_bytes"] <= 50_000


def test_keys_that_are_let_go_of_while_other_threads_use_them() -> None:
    """What is kept goes by the budget, the keys by their age, both at once: the account is even."""
    wsmanager.configure(journal_budget=20_000, idempotency_window=0.001)
    manager, other = get_websocket_manager("ann"), get_websocket_manager("bob")

    def use(number: int) -> None:
        for n in range(400):
            manager.emit_event("x", {"n": n}, idempotency_key=f"{number}-{n}")

    def fill() -> None:
        for n in range(400):
            other.emit_event("x", {"text": "x" * 9000, "n": n})

    at_once([lambda number=number: use(number) for number in range(4)] + [fill, fill])
    wsmanager.configure(journal_budget=10_000_000, idempotency_window=60)
    last = [manager.emit_event("x", {}, idempotency_key=f"last-{n}") for n in range(3)]
    again = [manager.emit_event("x", {}, idempotency_key=f"last-{n}") for n in range(3)]
    assert all(a is b for a, b in zip(last, again, strict=True))
    assert 0 < get_manager_registry_status()["journal_bytes"] < 3_000_000


def test_sixteen_threads_with_one_key_are_one_emit() -> None:
    manager = get_websocket_manager("ann")
    for round_ in range(100):
        gate = threading.Barrier(16)
        got: list[Any] = []

        def emit(key: str, gate: threading.Barrier = gate, got: list[Any] = got) -> None:
            gate.wait()
            got.append(manager.emit_event("x", {}, idempotency_key=key))

        threads = [threading.Thread(target=emit, args=(f"k{round_}",)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(delivery) for delivery in got}) == 1
        assert len({delivery.id for delivery in got}) == 1
    assert manager.position.endswith(":100")


# -- stray sockets, reasons, draining ---------------------------------------------


async def test_a_socket_that_closed_without_a_word_is_found() -> None:
    wsmanager.configure(stray_interval=0.02)
    manager = get_websocket_manager("ann")
    sockets = [StarletteSocket() for _ in range(600)]
    for socket in sockets:
        manager.add_connection(socket)
    for socket in sockets[:599]:
        socket.client_state = WebSocketState.DISCONNECTED
    await eventually(lambda: len(manager) == 1)
    assert get_manager_registry_status()["stray_connections"] == 599
    assert manager.get_connection_id_by_websocket(sockets[599]) is not None


async def test_zero_looks_at_no_idle_connection() -> None:
    wsmanager.configure(stray_interval=0)
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    socket.client_state = WebSocketState.DISCONNECTED
    await asyncio.sleep(0.05)
    assert len(manager) == 1


def test_a_stray_of_another_loop_is_found_on_its_own() -> None:
    wsmanager.configure(stray_interval=0.02)
    manager = get_websocket_manager("ann")
    with LoopThread() as thread:
        socket = StarletteSocket()
        manager.add_connection(socket, loop=thread.loop)
        socket.client_state = WebSocketState.DISCONNECTED
        eventually_sync(lambda: len(manager) == 0)


async def test_a_receipt_says_why() -> None:
    manager = get_websocket_manager("ann")
    hanging = HangingSocket()
    manager.add_connection(hanging, "hanging")
    manager.add_connection(StarletteSocket(), "good")
    delivery = manager.emit_event("x", {}, detail=True)
    assert delivery.receipt.reasons == {}
    manager.remove_connection("hanging")
    await eventually(lambda: delivery.receipt.failed == 1)
    receipt = delivery.receipt
    assert receipt.connections == {"hanging": "failed", "good": "sent"}
    assert receipt.reasons is not None
    assert set(receipt.reasons) == {"hanging"}
    assert (await manager.emit_event("x", {})).reasons is None


async def test_dropped_says_that_the_outbox_was_full() -> None:
    wsmanager.configure(slow_policy="drop_newest", outbox_max_events=1)
    manager = get_websocket_manager("ann")
    hanging = HangingSocket()
    manager.add_connection(hanging, "hanging")
    for _ in range(3):
        delivery = manager.emit_event("x", {}, detail=True)
    assert delivery.receipt.dropped == 1
    assert delivery.receipt.reasons == {"hanging": "outbox"}
    hanging.release()


async def test_while_draining_no_connection_is_taken_in() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    core._drain(True)
    try:
        assert get_manager_registry_status()["draining"] is True
        with pytest.raises(ServerDraining, match="1012"):
            manager.add_connection(StarletteSocket())
        manager.emit_event("x", {"n": 1})
        assert numbered(socket) == [1], "those that are there are served"
    finally:
        core._drain(False)
    manager.add_connection(StarletteSocket())


async def test_every_connection_of_every_user_can_be_looked_at() -> None:
    for user in ("ann", "bob"):
        get_websocket_manager(user).add_connection(HangingSocket())
        get_websocket_manager(user).emit_event("x", {"n": 1})
        get_websocket_manager(user).emit_event("x", {"n": 2})
    rows = core._connections()
    assert sorted(str(row.user_id) for row in rows) == ["ann", "bob"]
    assert all(row.queued >= 1 and row.queued_bytes > 0 for row in rows)
    for row in rows:
        row.websocket.release()
    text = json.dumps(get_manager_registry_status())
    assert "ann" not in text


# -- what is said to all ------------------------------------------------------------


async def test_a_broadcast_while_a_tab_reconnects_is_replayed() -> None:
    manager = get_websocket_manager("ann")
    connection = manager.add_connection(StarletteSocket(), resume="")
    manager.emit_event("x", {"n": 1})
    manager.remove_connection(connection)
    position = manager.position
    assert wsmanager.broadcast({"type": "maintenance", "payload": {"n": 2}}) == 0
    socket, said = await resume(manager, position)
    assert said["recovered"]
    assert numbered(socket) == [2]


async def test_a_broadcast_that_was_not_kept_is_no_recovery() -> None:
    """Who has been away for longer than events are kept is told that something is lacking."""
    wsmanager.configure(journal_max_age=0.05)
    manager = get_websocket_manager("ann")
    connection = manager.add_connection(StarletteSocket(), resume="")
    manager.remove_connection(connection)
    position = manager.position
    await asyncio.sleep(0.1)
    wsmanager.broadcast({"type": "maintenance", "payload": {}})
    _, said = await resume(manager, position)
    assert not said["recovered"]
    assert said["reason"] == "expired"


async def test_a_first_connect_is_no_failed_resume() -> None:
    before = get_manager_registry_status()
    _, said = await resume(get_websocket_manager("ann"), "")
    assert not said["recovered"]
    await resume(get_websocket_manager("ann"), "0123456789abcdef:7")
    after = get_manager_registry_status()
    assert after["not_resumed"] - before["not_resumed"] == 1
