"""A connection that does not take its events: bounded, dealt with, and nobody else's business."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import Any

import pytest
from support.loops import LoopThread
from support.sockets import HangingSocket, StarletteSocket
from support.waiting import eventually, eventually_sync
from support.wire import Line, events

import wsmanager
from wsmanager import UnifiedWebSocketManager, get_websocket_manager
from wsmanager._wsmanager import Channel

FIVE = ("agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed")


class Pair:
    """A user with one frozen and one healthy tab; the frozen one is inside a send already."""

    def __init__(self, **settings: Any) -> None:
        wsmanager.configure(**settings)
        self.manager: UnifiedWebSocketManager = get_websocket_manager("ann")
        self.frozen, self.healthy = HangingSocket(), StarletteSocket()
        self.frozen_id = self.manager.add_connection(self.frozen)
        self.manager.add_connection(self.healthy)
        self.manager.emit_event("first", {"n": -1})
        assert self.frozen.entered == 1

    def frozen_is_there(self) -> bool:
        return self.manager.get_connection(self.frozen_id) is not None

    async def numbers(self) -> list[int]:
        """Release the frozen tab; which of the numbered events it gets then."""
        self.frozen.release()
        last = -1
        while len(self.frozen.texts) != last:
            last = len(self.frozen.texts)
            await asyncio.sleep(0.03)
        return [e["payload"]["n"] for e in self.frozen.events if "n" in e["payload"]]


def gaps(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == "gap"]


# -- close, the default ---------------------------------------------------------


async def test_too_many_events_close_the_connection() -> None:
    pair = Pair(outbox_max_events=5)
    for n in range(5):
        receipt = await pair.manager.emit_event("x", {"n": n})
        assert (receipt.sent, receipt.queued) == (1, 1)
    assert pair.frozen_is_there()
    receipt = await pair.manager.emit_event("x", {"n": 5})
    assert receipt.sent == 1
    assert receipt.queued == 0
    assert not pair.frozen_is_there()
    await eventually(lambda: pair.frozen.closed_with is not None)
    code, _ = pair.frozen.closed_with  # type: ignore[misc]
    assert code == 1013 or 3000 <= code < 5000, "a code after which a client comes back"
    assert len(pair.healthy.texts) == 7
    assert pair.manager.is_connection_active()


async def test_too_many_bytes_close_the_connection() -> None:
    pair = Pair(outbox_max_bytes=10_000)
    for _ in range(9):
        await pair.manager.emit_event("x", {"pad": "x" * 800})
    assert pair.frozen_is_there()
    for _ in range(3):
        await pair.manager.emit_event("x", {"pad": "x" * 800})
    assert not pair.frozen_is_there()
    assert len(pair.healthy.texts) == 13


async def test_too_old_events_close_the_connection() -> None:
    """No further emit is needed: the loop's own timer finds the connection that hangs."""
    pair = Pair(outbox_max_age=0.1)
    await pair.manager.emit_event("x", {"n": 1})
    await eventually(lambda: not pair.frozen_is_there(), 3)
    assert len(pair.healthy.texts) == 2


async def test_a_hanging_send_alone_is_found_by_its_age() -> None:
    """Nothing is queued; the one send under way does not come back."""
    pair = Pair(outbox_max_age=0.1)
    await eventually(lambda: not pair.frozen_is_there(), 3)
    await eventually(lambda: pair.frozen.cancelled == 1)


async def test_a_slow_but_living_connection_is_kept() -> None:
    class Slow(StarletteSocket):
        async def send_text(self, data: str) -> None:
            await asyncio.sleep(0.02)
            self.take(data)

    wsmanager.configure(outbox_max_age=0.5, outbox_max_events=50)
    manager = get_websocket_manager("ann")
    slow = Slow()
    manager.add_connection(slow)
    for n in range(15):
        await manager.emit_event("x", {"n": n})
    await eventually(lambda: len(slow.texts) == 15)
    assert len(manager) == 1


# -- drop_oldest, drop_newest ---------------------------------------------------


async def test_drop_oldest_keeps_the_latest_and_marks_the_gap() -> None:
    pair = Pair(outbox_max_events=5, slow_policy="drop_oldest")
    for n in range(12):
        receipt = await pair.manager.emit_event("x", {"n": n})
        assert receipt.sent == 1
    assert pair.frozen_is_there()
    assert await pair.numbers() == [-1, 7, 8, 9, 10, 11]
    (gap,) = gaps(pair.frozen.events)
    assert gap["payload"]["dropped"] == 7
    ids = [event["id"] for event in pair.healthy.events]
    assert gap["payload"]["first"] == ids[1]
    assert gap["payload"]["last"] == ids[7]
    assert pair.frozen.types.index("gap") == 1, "the gap is told where it is"
    assert len(pair.healthy.texts) == 13
    assert gaps(pair.healthy.events) == []


async def test_drop_newest_keeps_the_first_and_marks_the_gap() -> None:
    pair = Pair(outbox_max_events=5, slow_policy="drop_newest")
    receipts = [await pair.manager.emit_event("x", {"n": n}) for n in range(12)]
    assert [receipt.dropped for receipt in receipts] == [0] * 5 + [1] * 7
    assert await pair.numbers() == [-1, 0, 1, 2, 3, 4]
    (gap,) = gaps(pair.frozen.events)
    assert gap["payload"]["dropped"] == 7
    assert pair.frozen.types[-1] == "gap", "the gap is told where it is"
    assert len(pair.healthy.texts) == 13


async def test_what_follows_a_gap_follows_it_in_a_direct_channel_too() -> None:
    wsmanager.configure(outbox_max_events=5, slow_policy="drop_newest")
    manager = get_websocket_manager("ann")
    line = await Line.open(4096)
    manager.add_connection(line, channel=Channel(line.transport))
    manager.emit_event("big", {"pad": "x" * 200_000})
    kept = [manager.emit_event("kept", {}) for _ in range(12)]
    assert [delivery.receipt.dropped for delivery in kept] == [0] * 5 + [1] * 7
    data = b""

    def read(count: int) -> bool:
        nonlocal data
        data += line.read_now()
        return data.count(b'"type"') >= count

    await eventually(lambda: read(7))
    manager.emit_event("later", {})
    await eventually(lambda: read(8))
    assert [e["type"] for e in events(data)] == ["big", *["kept"] * 5, "gap", "later"]
    await line.shut()


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_critical_events_are_never_dropped(policy: str) -> None:
    """Where only critical ones are left, the connection is closed: its client comes back for them."""
    pair = Pair(outbox_max_events=5, slow_policy=policy)
    for n, event_type in enumerate(FIVE):
        await pair.manager.emit_event(event_type, {"n": n})
    for n in range(20):
        await pair.manager.emit_event("token", {"n": 100 + n})
    assert pair.frozen_is_there()
    receipt = await pair.manager.emit_event("agent_completed", {"n": 5})
    if pair.frozen_is_there():
        assert [n for n in await pair.numbers() if 0 <= n < 100] == [0, 1, 2, 3, 4, 5]
    else:
        assert receipt.dropped == 0
        await eventually(lambda: pair.frozen.closed_with is not None)


async def test_the_five_events_pass_bulk_tokens() -> None:
    pair = Pair(outbox_max_events=5, slow_policy="drop_oldest")
    for n, event_type in enumerate(FIVE):
        for _ in range(50):
            await pair.manager.emit_event("token", {"text": "x"})
        await pair.manager.emit_event(event_type, {"n": n})
    pair.frozen.release()
    await eventually(lambda: "agent_completed" in pair.frozen.types)
    assert [t for t in pair.frozen.types if t in FIVE] == list(FIVE)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_an_agents_error_is_critical_too(policy: str) -> None:
    pair = Pair(outbox_max_events=3, slow_policy=policy)
    receipt = await pair.manager.emit_event("agent_error", {"n": 1})
    for n in range(20):
        await pair.manager.emit_event("token", {"n": 100 + n})
    assert receipt.dropped == 0
    assert 1 in await pair.numbers()


async def test_emit_critical_event_is_critical_whatever_its_type() -> None:
    pair = Pair(outbox_max_events=3, slow_policy="drop_oldest")
    await pair.manager.emit_critical_event("payment_failed", {"n": 1})
    for n in range(20):
        await pair.manager.emit_event("token", {"n": 100 + n})
    assert 1 in await pair.numbers()


# -- coalesce -------------------------------------------------------------------


async def test_coalesce_keeps_the_latest_of_a_key() -> None:
    pair = Pair(
        outbox_max_events=50,
        slow_policy="coalesce",
        coalesce_key=lambda type_, data: data.get("key"),
    )
    for n in range(10):
        await pair.manager.emit_event("state", {"key": "a", "n": n})
        await pair.manager.emit_event("state", {"key": "b", "n": 100 + n})
        await pair.manager.emit_event("log", {"n": 200 + n})
    numbers = await pair.numbers()
    assert [n for n in numbers if 0 <= n < 100] == [9]
    assert [n for n in numbers if 100 <= n < 200] == [109]
    assert [n for n in numbers if n >= 200] == list(range(200, 210)), "no key: never replaced"
    assert len(pair.healthy.texts) == 31, "a connection that keeps up sees every state"


async def test_a_coalesce_key_that_raises_is_heard_and_sends_nothing() -> None:
    def key(type_: str, data: Any) -> str:
        raise LookupError("bug in the key")

    wsmanager.configure(slow_policy="coalesce", coalesce_key=key)
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    with pytest.raises(LookupError):
        manager.emit_event("x", {})
    assert socket.texts == []


def test_coalesce_needs_a_key() -> None:
    with pytest.raises((TypeError, ValueError)):
        wsmanager.configure(slow_policy="coalesce")


@pytest.mark.parametrize("policy", ["no-such", None, 5])
def test_unknown_policies_are_refused(policy: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        wsmanager.configure(slow_policy=policy)


# -- nobody else is touched -----------------------------------------------------


async def test_a_frozen_tab_delays_nobody() -> None:
    """A thousand events with a frozen tab in front: the healthy ones have each at once."""
    wsmanager.configure(outbox_max_events=10_000, outbox_max_bytes=100 << 20)
    manager = get_websocket_manager("ann")
    frozen = [HangingSocket() for _ in range(5)]
    healthy = StarletteSocket()
    for socket in frozen:
        manager.add_connection(socket)
    manager.add_connection(healthy)
    for n in range(1000):
        manager.emit_event("x", {"n": n})
        assert len(healthy.texts) == n + 1
    assert [socket.entered for socket in frozen] == [1] * 5


async def test_another_users_frozen_tab_delays_nobody() -> None:
    frozen, healthy = HangingSocket(), StarletteSocket()
    get_websocket_manager("ann").add_connection(frozen)
    get_websocket_manager("bob").add_connection(healthy)
    for user in ("ann", "bob"):
        for _ in range(100):
            get_websocket_manager(user).emit_event("x", {})
    assert len(healthy.texts) == 100


def test_memory_of_a_frozen_tab_is_bounded(loop_thread: LoopThread) -> None:
    """M1 in its short form: ten times the limit is emitted, no more than it is kept."""
    limit = 200_000
    wsmanager.configure(outbox_max_bytes=limit, slow_policy="drop_oldest", outbox_max_age=60)
    manager = get_websocket_manager("ann")
    frozen = HangingSocket()
    manager.add_connection(frozen, loop=loop_thread.loop)
    manager.emit_event("first", {})
    eventually_sync(lambda: frozen.entered)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(2000):
            manager.emit_event("x", {"pad": f"{n:01000d}"})
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < limit * 1.2 + 100_000, f"{kept} bytes are kept with a limit of {limit}"


async def test_slow_connections_are_counted() -> None:
    before = get_websocket_manager("ann").metrics
    pair = Pair(outbox_max_events=2)
    for n in range(5):
        await pair.manager.emit_event("x", {"n": n})
    after = pair.manager.metrics
    assert after != before
    assert not pair.frozen_is_there()


async def test_emitting_to_a_closing_connection_is_cheap_and_silent() -> None:
    pair = Pair(outbox_max_events=2)
    start = time.perf_counter()
    for n in range(500):
        await pair.manager.emit_event("x", {"n": n})
    assert time.perf_counter() - start < 5
    assert pair.frozen.entered == 1
    assert len(pair.healthy.texts) == 501
