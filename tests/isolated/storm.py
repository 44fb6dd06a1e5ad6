"""Threads emit numbered events to sockets of some loops; argv: threads, events each, loops (2).

Every second loop is uvloop's, where that is installed. Exits 1 if an event is lost, doubled
or out of its sender's order, or if a send ran elsewhere than on its own loop's thread.
"""

import asyncio
import json
import sys
import threading
import time

import wsmanager

sys.setswitchinterval(1e-6)
THREADS, EACH = int(sys.argv[1]), int(sys.argv[2])
LOOPS = int(sys.argv[3]) if len(sys.argv) > 3 else 2
SILENCE = 10.0  # seconds without an event after which no more is waited for
wsmanager.configure(
    outbox_max_events=THREADS * EACH + 1, outbox_max_bytes=1 << 40, outbox_max_age=3600
)


def factories():
    """What makes the loops, in turn."""
    try:
        import uvloop
    except ImportError:
        return [asyncio.new_event_loop]
    return [asyncio.new_event_loop, uvloop.new_event_loop]


class Socket:
    def __init__(self, thread):
        self.thread = thread
        self.elsewhere = 0
        self.count = 0
        self.next = [0] * THREADS
        self.wrong = 0

    def send(self, text):
        data = json.loads(text)["payload"]
        sender, number = data["sender"], data["n"]
        if number != self.next[sender]:
            self.wrong += 1
        self.next[sender] = number + 1
        self.count += 1
        self.elsewhere += threading.get_ident() != self.thread.ident


manager = wsmanager.get_websocket_manager("ann")
sockets = []
makers = factories()
for k in range(LOOPS):
    loop = makers[k % len(makers)]()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    sockets.append(Socket(thread))
    manager.add_connection(sockets[-1], loop=loop)

barrier = threading.Barrier(THREADS)


def emit(sender):
    barrier.wait()
    for n in range(EACH):
        manager.emit_event("x", {"sender": sender, "n": n})
        if n % 16 == 0:
            time.sleep(0)


threads = [threading.Thread(target=emit, args=(k,)) for k in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()


def delivered():
    return sum(socket.count for socket in sockets)


before, since = delivered(), time.monotonic()
while before < LOOPS * THREADS * EACH and time.monotonic() - since < SILENCE:
    time.sleep(0.01)
    if delivered() != before:
        before, since = delivered(), time.monotonic()
for socket in sockets:
    print(
        "delivered", socket.count, "of", THREADS * EACH, "out of order", socket.wrong,
        "elsewhere", socket.elsewhere,
    )  # fmt: skip
sys.exit(any(s.count != THREADS * EACH or s.wrong or s.elsewhere for s in sockets))
