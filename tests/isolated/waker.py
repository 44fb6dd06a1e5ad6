"""A loop is closed while another thread wakes it, and its waker's number is another socket's then.

The thread that emits is stopped as call_soon returns, which is where it might lose the GIL; the
loop's thread closes the loop, and opens sockets until one has the number. Exits 1 if a byte of
ours reaches that one's peer, 2 if no number was reused or the waker never asked for it.
"""

import asyncio
import socket
import sys
import threading
import time

import wsmanager

manager = wsmanager.get_websocket_manager("ann")
ready, stop, closed = threading.Event(), threading.Event(), threading.Event()
kept = []
victim = None
arrived = 0


class Socket:
    async def send_text(self, text):
        global arrived  # noqa: PLW0603  one loop's thread counts
        arrived += 1


def run():
    global victim  # noqa: PLW0603  handed over by the event
    loop = asyncio.SelectorEventLoop()

    async def main():
        for _ in range(5):
            manager.add_connection(Socket())
        ready.set()
        while not stop.is_set():  # noqa: ASYNC110  another thread's event
            await asyncio.sleep(0.005)

    loop.run_until_complete(main())
    number = loop._csock.fileno()
    loop.close()
    while victim is None and len(kept) < 100:
        pair = socket.socketpair()
        kept.append(pair)
        for ours, peer in (pair, pair[::-1]):
            if ours.fileno() == number:
                victim = peer
    closed.set()


def tracer(frame, event, argument):
    if frame.f_code.co_name != "call_soon" or stop.is_set():
        return None

    def local(frame, event, argument):
        if event == "return":
            stop.set()
            closed.wait(10)
        return local

    return local


thread = threading.Thread(target=run)
thread.start()
ready.wait()
sent = 0
for _ in range(20):  # it comes in bursts: then the loop is woken by a byte of ours
    for _ in range(8):
        manager.emit_event("x", {})
        sent += 5
    until = time.monotonic() + 10
    while arrived < sent and time.monotonic() < until:
        time.sleep(0.001)
sys.settrace(tracer)
manager.emit_event("x", {})
sys.settrace(None)
asked = stop.is_set()
stop.set()
thread.join()
if victim is None or not asked:
    print("no number was reused: this proves nothing")
    sys.exit(2)
victim.setblocking(False)
manager.emit_event("x", {})  # the loop is known to be closed
try:
    foreign = len(victim.recv(100))
except BlockingIOError:
    foreign = 0
print("foreign", foreign, "left", len(manager))
sys.exit(foreign > 0 or len(manager) > 0)
