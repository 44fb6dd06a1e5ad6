"""Threads emit numbered events to sockets of two loops; argv: threads, events each.

Exits 1 if an event is lost, doubled or out of its sender's order.
"""

import asyncio
import json
import sys
import threading
import time

import wsmanager

sys.setswitchinterval(1e-6)
THREADS, EACH = int(sys.argv[1]), int(sys.argv[2])
wsmanager.configure(
    outbox_max_events=THREADS * EACH + 1, outbox_max_bytes=1 << 40, outbox_max_age=3600
)


class Socket:
    def __init__(self):
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


manager = wsmanager.get_websocket_manager("ann")
sockets = []
for _ in range(2):
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    sockets.append(Socket())
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
deadline = time.monotonic() + 5 + THREADS * EACH / 10_000
while time.monotonic() < deadline and any(s.count < THREADS * EACH for s in sockets):
    time.sleep(0.01)
for socket in sockets:
    print("delivered", socket.count, "of", THREADS * EACH, "out of order", socket.wrong)
sys.exit(any(s.count != THREADS * EACH or s.wrong for s in sockets))
