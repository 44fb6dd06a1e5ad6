"""A's transport closes while everybody emits to A, and B's takes its descriptor's number.

argv: how many reused numbers, "asyncio" or "uvloop", and a control. Prints the counts; exits 1
if a byte of A's reached B's peer or if A's peer saw the end later than 100 ms after the close.
This thread looks for the end without a pause, so its own time says how long it took, unless the
machine itself stood still: that may be so for one in a hundred. A busy machine makes some later
by the clock, which more than one in twenty may not be. The control
"late" keeps a second number of A's socket for a while, as a core with a duplicate would.
"""

import asyncio
import os
import socket
import sys
import threading
import time

import wsmanager
from wsmanager._wsmanager import Channel, frame

WANTED = int(sys.argv[1])
CONTROL = len(sys.argv) > 3 and sys.argv[3] == "late"
SECRET = b"SECRET-OF-A"
LATE = 0.1  # seconds
RARE = 20
STALLED = 100
stop = threading.Event()
wsmanager.configure(journal_max_events=0)


class Line(asyncio.Protocol):
    """A transport of the loop with its peer's raw end; the WebSocket that is added as well."""

    def __init__(self):
        self.lost = asyncio.Event()

    def connection_lost(self, exc):
        self.lost.set()

    async def send_text(self, text):
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(frame(text))

    @classmethod
    async def open(cls, user):
        ours, peer = socket.socketpair()
        for end in (ours, peer):
            end.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, self = await loop.create_connection(cls, sock=ours)
        self.transport, self.peer = transport, peer
        self.number = transport.get_extra_info("socket").fileno()
        wsmanager.get_websocket_manager(user).add_connection(self, channel=Channel(transport))
        return self

    def read(self):
        """What has come for the peer, and whether that was the end."""
        data = b""
        while True:
            try:
                chunk = self.peer.recv(1 << 20)
            except BlockingIOError:
                return data, False
            except ConnectionResetError:
                return data, True
            if not chunk:
                return data, True
            data += chunk


def emit():
    while not stop.is_set():
        wsmanager.get_websocket_manager("A").emit_event("x", {"secret": SECRET.decode()})
        time.sleep(0.0005)


async def end_of(line):
    """Until its peer has seen the end: this thread's time, and the clock's."""
    clock, spent = time.perf_counter(), time.thread_time()
    ended = False
    while not ended:
        await asyncio.sleep(0)
        _, ended = line.read()
    return time.thread_time() - spent, time.perf_counter() - clock


async def keep(number):
    """For the control: until twice as much of this thread's time has passed."""
    until = time.thread_time() + 2 * LATE
    while time.thread_time() < until:  # noqa: ASYNC110  the time is this thread's own
        await asyncio.sleep(0)
    os.close(number)


async def main():
    cycles = reused = foreign = late = tardy = 0
    slowest = 0.0
    manager = wsmanager.get_websocket_manager("A")
    other = wsmanager.get_websocket_manager("B")
    while reused < WANTED and cycles < 4 * WANTED + 100:
        cycles += 1
        first = await Line.open("A")
        manager.emit_event("x", {"secret": SECRET.decode()})
        if CONTROL:
            keeping = asyncio.ensure_future(keep(os.dup(first.number)))
        if cycles % 2:
            first.transport.abort()
        else:
            first.transport.close()
        own, clock = await end_of(first)
        slowest = max(slowest, own)
        late += own > LATE
        tardy += clock > LATE
        if CONTROL:
            await keeping
        await first.lost.wait()
        second = await Line.open("B")
        reused += second.number == first.number
        manager.emit_event("x", {"secret": SECRET.decode()})
        other.emit_event("x", {"n": cycles})
        for _ in range(2):
            await asyncio.sleep(0)
        data, _ = second.read()
        foreign += SECRET in data
        assert b'"n":%d' % cycles in data, "B's own event is missing"
        other.remove_connection_by_user()
        second.transport.abort()
        await second.lost.wait()
        first.peer.close()
        second.peer.close()
    print(
        f"cycles {cycles} reused {reused} foreign {foreign} end after {slowest * 1e3:.1f} ms, "
        f"{late} of them late, by the clock {tardy} later than {LATE * 1e3:.0f} ms"
    )
    assert reused >= WANTED, "no number was reused: this proves nothing"
    return foreign > 0 or late > cycles // STALLED or tardy > max(1, cycles / RARE)


def loop():
    if sys.argv[2] == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


threads = [threading.Thread(target=emit, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
running = loop()
bad = running.run_until_complete(main())
stop.set()
for thread in threads:
    thread.join()
sys.exit(bad)
