"""A loop's timer: it looks at what is watched, once each, and judges who takes nothing by what waits."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.sockets import StarletteSocket
from support.waiting import eventually
from support.wire import Ending, Line, frames

import wsmanager
from wsmanager import get_websocket_manager
from wsmanager._wsmanager import Channel

SIOCOUTQ = 0x5411


@pytest.mark.parametrize("case", ["strangers", "fellows"])
def test_a_look_that_emits(isolated: Callable[..., Any], case: str) -> None:
    """What is watched meanwhile waits for the next tick, and what was looked at is watched once."""
    isolated("watched.py", case, timeout=60)


# -- is the peer's kernel taking anything? --------------------------------------


class Tcp(Line):
    """The same over TCP, with a peer that takes little at once."""

    @classmethod
    async def open(cls, buffer: int = 0) -> Tcp:
        listener = socket.create_server(("127.0.0.1", 0))
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.connect(listener.getsockname())
        ours, _ = listener.accept()
        listener.close()
        for end in (ours, peer):
            end.setblocking(False)
        lost = asyncio.Event()
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: Ending(lost), sock=ours
        )
        return cls(transport, peer, lost)

    def unsent(self) -> int:
        """Bytes in the kernel's send queue, once they change no more."""
        number = self.transport.get_extra_info("socket").fileno()
        seen = [-1]
        while len(seen) < 5 or len(set(seen[-4:])) > 1:
            (size,) = struct.unpack("i", fcntl.ioctl(number, SIOCOUTQ, b"\0" * 4))
            seen.append(size)
            time.sleep(0.0005)
        return seen[-1]

    def fill(self, level: int) -> None:
        """Bytes of the application's own, until the queue is as long as it was."""
        while (missing := level - self.unsent()) > 0:
            self.transport.write(b"\0" * missing)
        assert self.transport.get_write_buffer_size() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="SIOCOUTQ and TCP_INFO are Linux's")
@pytest.mark.parametrize("reads", [True, False])
async def test_progress_is_what_the_peer_acknowledges(reads: bool) -> None:
    """The queue is equally long at each look: by a peer that reads all the time, or by one that is frozen."""
    wsmanager.configure(outbox_max_age=1.0)
    line = await Tcp.open()
    manager = get_websocket_manager("ann")
    manager.add_connection(line, channel=Channel(line.transport))
    manager.emit_event("x", {})
    line.fill(60_000)
    level = line.unsent()
    assert level > 20_000
    begin, taken, looks, alike = time.monotonic(), 0, 0, 0
    while time.monotonic() - begin < 4 and len(manager) == 1:
        if reads:
            taken += len(line.read_now())
            line.fill(level)
            alike += line.unsent() == level
            looks += 1
        await asyncio.sleep(0.01)
    connected = len(manager)
    await line.shut()
    assert connected == reads
    # A late acknowledgement makes it shorter between two of ours, now and then.
    assert alike >= 0.9 * looks, "this proves nothing"
    assert not reads or taken > level, "it has read the event, and more"


# -- how long has the event waited? ---------------------------------------------


def told(data: bytes) -> list[dict[str, Any]]:
    """The events that are whole: the last one may be cut off."""
    found = []
    with contextlib.suppress(AssertionError, IndexError, struct.error):
        for _, payload in frames(data):
            found.append(json.loads(payload))
    return found


def pads(manager: Any, count: int) -> list[Any]:
    return [manager.emit_event("x", {"n": n, "pad": "x" * 2000}) for n in range(count)]


class Trickle:
    """A peer that always takes something, and never enough; what it has had is in data."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.data = b""
        self.pause = False

    async def until(self, over: Callable[[], object]) -> None:
        begin = time.monotonic()
        while not over():
            assert time.monotonic() - begin < 20, "it takes too long"
            self.pause = True
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                self.data += self.line.peer.recv(8000)
                self.pause = False
            await asyncio.sleep(0.005)

    @property
    def events(self) -> list[dict[str, Any]]:
        return told(self.data)

    def had(self, n: int) -> bool:
        return b'"n":%d,' % n in self.data[-12_000:]


async def slow_line(**settings: Any) -> tuple[Any, Line]:
    wsmanager.configure(
        outbox_max_events=10_000,
        outbox_max_bytes=50 << 20,
        journal_max_events=10_000,
        journal_max_bytes=50 << 20,
        **settings,
    )
    return get_websocket_manager("ann"), await Line.open(4096)


async def test_an_event_that_waits_too_long_closes_the_connection() -> None:
    """Although something of what is before it is taken all the time."""
    manager, line = await slow_line(outbox_max_age=0.5)
    manager.add_connection(line, channel=Channel(line.transport))
    deliveries = pads(manager, 3000)
    peer = Trickle(line)
    await peer.until(lambda: len(manager) == 0 or peer.had(2999))
    assert len(manager) == 0
    assert 0 < len(peer.events) < 3000
    assert (await deliveries[-1]).failed == 1
    await line.shut()


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_an_event_that_waits_too_long_is_dropped(policy: str) -> None:
    """By policy: the connection stays, and is told of the gap without another emit."""
    manager, line = await slow_line(outbox_max_age=0.5, slow_policy=policy)
    manager.add_connection(line, channel=Channel(line.transport))
    deliveries = pads(manager, 3000)
    peer = Trickle(line)

    def over() -> bool:
        """The last one is written, or dropped, and then a gap is the end."""
        (mine,) = manager.get_connection_health()["connections"]
        held = mine["queued_events"] + line.transport.get_write_buffer_size()
        at_end = peer.had(2999) or b'"gap"' in peer.data[-300:]
        return peer.pause and held == 0 and at_end

    await peer.until(over)
    expected = 0
    for event in peer.events:
        if event["type"] == "gap":
            expected += event["payload"]["dropped"]
        else:
            assert event["payload"]["n"] == expected
            expected += 1
    assert expected == 3000
    assert any(event["type"] == "gap" for event in peer.events)
    assert sum([(await each).dropped for each in deliveries]) > 0, "receipts tell of it"
    manager.emit_event("y", {"n": 3000, "last": True})
    await peer.until(lambda: peer.had(3000))
    assert len(manager) == 1
    await line.shut()


async def test_a_critical_event_that_waits_too_long_closes_the_connection() -> None:
    manager, line = await slow_line(outbox_max_age=0.5, slow_policy="drop_oldest")
    manager.add_connection(line, channel=Channel(line.transport))
    pads(manager, 3000)
    delivery = manager.emit_critical_event("payment", {"n": 3000, "last": True})
    peer = Trickle(line)
    await peer.until(lambda: len(manager) == 0 or peer.had(3000))
    assert len(manager) == 0
    assert (await delivery).failed == 1
    await line.shut()


async def test_an_event_that_waits_for_a_slow_send_too_long() -> None:
    class Slow(StarletteSocket):
        async def send_text(self, data: str) -> None:
            await asyncio.sleep(0.02)
            self.take(data)

    wsmanager.configure(outbox_max_age=0.3)
    manager = get_websocket_manager("ann")
    slow = Slow()
    manager.add_connection(slow)
    for n in range(300):
        manager.emit_event("x", {"n": n})
    await eventually(lambda: len(manager) == 0 or len(slow.texts) == 300, 20)
    assert len(manager) == 0
    assert 0 < len(slow.texts) < 300


async def test_what_is_replayed_has_waited_since_it_was_asked_for() -> None:
    """It was emitted long before, and its peer does not take it at once."""
    manager, line = await slow_line(outbox_max_age=2.0)
    first = StarletteSocket()
    first_id = manager.add_connection(first)
    await manager.emit_event("first", {})
    manager.remove_connection(first_id)
    begin = time.monotonic()
    pads(manager, 300)
    await eventually(lambda: time.monotonic() > begin + 2.2)
    manager.add_connection(line, channel=Channel(line.transport), resume=first.events[0]["id"])
    begin = time.monotonic()
    await eventually(lambda: time.monotonic() > begin + 0.3)  # some looks
    assert len(manager) == 1
    peer = Trickle(line)
    peer.data += line.read_now()
    data = b""
    while b'"n":299,' not in data[-6000:] and time.monotonic() < begin + 10:
        data += line.read_now()
        await asyncio.sleep(0)
    peer.data += data
    assert [e["payload"]["n"] for e in peer.events if e["type"] == "x"] == list(range(300))
    assert len(manager) == 1
    await line.shut()
