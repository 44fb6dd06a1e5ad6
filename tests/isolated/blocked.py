"""One loop of four is blocked again and again while threads emit to all of them.

argv: threads, seconds of one block, how many blocks. Prints the figures; exits 1 if an emit
waited for the blocked loop, if another loop's events came as late as that, or if an event
was lost or came out of its sender's order.
"""

import asyncio
import json
import sys
import threading
import time

import wsmanager

THREADS, SECONDS, BLOCKS = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
wsmanager.configure(
    outbox_max_events=1 << 20, outbox_max_bytes=1 << 32, outbox_max_age=3600, journal_max_events=0
)
stop = threading.Event()


class Socket:
    """Checks each sender's order; how late each event was."""

    def __init__(self):
        self.next = [0] * THREADS
        self.wrong = 0
        self.late = []

    def send(self, text):
        data = json.loads(text)["payload"]
        self.wrong += data["n"] != self.next[data["sender"]]
        self.next[data["sender"]] = data["n"] + 1
        self.late.append(time.monotonic() - data["at"])


manager = wsmanager.get_websocket_manager("ann")
loops, sockets = [], []
for _ in range(4):
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    loops.append(loop)
    sockets.append(Socket())
    manager.add_connection(sockets[-1], loop=loop)

waited = [0.0] * THREADS
emitted = [0] * THREADS


def emit(sender):
    while not stop.is_set():
        at = time.monotonic()
        manager.emit_event("x", {"sender": sender, "n": emitted[sender], "at": at})
        waited[sender] = max(waited[sender], time.monotonic() - at)
        emitted[sender] += 1
        time.sleep(0.02 * THREADS / 8)


threads = [threading.Thread(target=emit, args=(k,)) for k in range(THREADS)]
for thread in threads:
    thread.start()
for _ in range(BLOCKS):
    over = threading.Event()
    loops[0].call_soon_threadsafe(lambda over=over: (time.sleep(SECONDS), over.set()))
    over.wait(SECONDS * 5)
    time.sleep(0.2)
stop.set()
for thread in threads:
    thread.join()
deadline = time.monotonic() + 30
while time.monotonic() < deadline and any(socket.next != emitted for socket in sockets):
    time.sleep(0.01)
lost = sum(sum(emitted) - sum(socket.next) for socket in sockets)
wrong = sum(socket.wrong for socket in sockets)
others = [sorted(socket.late) for socket in sockets[1:]]
p99 = max(late[int(len(late) * 0.99)] for late in others)
print(
    f"emitted {sum(emitted)} lost {lost} wrong {wrong} longest emit {max(waited) * 1e3:.1f} ms "
    f"others' p99 {p99 * 1e3:.1f} ms blocked loop's {max(sockets[0].late) * 1e3:.0f} ms"
)
assert max(sockets[0].late) > SECONDS / 2, "the loop was not blocked: this proves nothing"
sys.exit(bool(lost or wrong) or max(waited) > SECONDS / 2 or p99 > SECONDS / 2)
