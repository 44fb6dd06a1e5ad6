"""Clients that reset their connection in the middle of a frame, and clients that are stopped.

argv: how many resets, how many stopped, outbox_max_age. Events go on all the while. Prints
the counts; exits 1 if one of them is still registered 15 s after the last, if a descriptor
is left, or if an event went missing for the one client that stays.
"""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from support.wire import frames

import wsmanager
from wsmanager._wsmanager import Channel, frame

RESETS, STOPPED, AGE = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
LIMIT = 15.0  # seconds
CLIENT = """
import socket, struct, sys, os, signal
port, resets, stopped = map(int, sys.argv[1:])
kept = []
for _ in range(stopped):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", port))
    kept.append(s)
for _ in range(resets):
    s = socket.socket()
    s.connect(("127.0.0.1", port))
    s.recv(3)  # the beginning of a frame
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()  # and a reset
print("done", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


class Line(asyncio.Protocol):
    """Each accepted connection is of the one user; also the WebSocket that is added."""

    accepted = 0

    def connection_made(self, transport):
        Line.accepted += 1
        self.transport = transport
        manager.add_connection(self, channel=Channel(transport))

    async def send_text(self, text):
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(frame(text))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def stay(reader, expected):
    """The client that stays: all its events, in order."""
    data = b""
    while b'"type":"end"' not in data:
        chunk = await asyncio.wait_for(reader.read(1 << 20), 60)
        assert chunk, "the connection that stays was closed"
        data += chunk
    numbers = [json.loads(payload)["payload"].get("n") for _, payload in frames(data)][:-1]
    assert numbers == list(range(len(numbers))), "lost or out of order"
    assert len(numbers) == expected[0], f"{len(numbers)} of {expected[0]}"


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Line, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    await asyncio.sleep(0.05)
    before = descriptors()
    expected = [0]
    staying = asyncio.ensure_future(stay(reader, expected))
    client = subprocess.Popen(  # noqa: ASYNC220  starting takes no time
        [sys.executable, "-c", CLIENT, str(port), str(RESETS), str(STOPPED)], stdout=subprocess.PIPE
    )
    deadline = None
    while deadline is None or (len(manager) > 1 and time.monotonic() < deadline):
        manager.emit_event("x", {"n": expected[0], "pad": "x" * 400})
        expected[0] += 1
        await asyncio.sleep(0.001)
        if deadline is None and Line.accepted == RESETS + STOPPED + 1:
            deadline = time.monotonic() + LIMIT
    left = len(manager) - 1
    took = LIMIT - (deadline - time.monotonic())
    manager.send_to_user({"type": "end", "payload": {}})
    await staying
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    client.stdout.close()
    for _ in range(2000):
        if descriptors() <= before:
            break
        await asyncio.sleep(0.005)
    leaked = descriptors() - before
    writer.close()
    server.close()
    print(f"resets {RESETS} stopped {STOPPED} left {left} after {took:.1f} s descriptors {leaked}")
    return left > 0 or leaked > 0


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
wsmanager.configure(
    outbox_max_age=AGE, max_connections_per_user=100_000, outbox_max_bytes=64 << 20,
    outbox_max_events=1_000_000, journal_max_events=0,
)  # fmt: skip
manager = wsmanager.get_websocket_manager("ann")
try:
    sys.exit(asyncio.run(main()))
except AssertionError as error:
    print("wrong:", error)
    sys.exit(1)
