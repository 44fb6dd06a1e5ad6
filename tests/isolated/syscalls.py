"""Every system call of the core fails in every way; exits 1 on a torn or a silently short stream.

Run with support/faultio.c preloaded; argv: its path, how many of each. A real asyncio
server; a raw client that reads to the end. After each fault the stream is whole
frames with nothing left out, or the connection is closed and the user's manager
knows. A frame may be cut off only by the end of the stream.
"""

import asyncio
import ctypes
import errno
import json
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from support.wire import frames

import wsmanager
from wsmanager._wsmanager import Channel, frame

faultio = ctypes.CDLL(sys.argv[1])
DEPTH = int(sys.argv[2])
ERRORS = [
    errno.EAGAIN, errno.EINTR, errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS, errno.EMFILE,
    errno.ENOMEM,
]  # fmt: skip
EVENTS = 24
problems = []


class Server(asyncio.Protocol):
    """Also the WebSocket that is added: its own send writes a frame by the transport."""

    def __init__(self, accepted):
        self.accepted = accepted
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport
        self.accepted.set_result(self)

    def connection_lost(self, exc):
        self.lost = True

    async def send_text(self, text):
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(frame(text))


def split(data):
    """The whole frames at the beginning of *data*, and what is left of it."""
    at = 0
    while len(data) - at >= 2:
        size, head = data[at + 1] & 127, 2
        if size > 125:
            head = 4 if size == 126 else 10
            size = int.from_bytes(data[at + 2 : at + head], "big")
        if len(data) - at < head + size:
            break
        at += head + size
    return data[:at], data[at:]


async def read(reader, count):
    """The numbers of the events, until *count* of them are there or the stream ends; whether it did.

    AssertionError on anything but whole frames; a frame that is cut off by the end is none.
    """
    data = b""
    while True:
        begun, _ = split(data)
        numbers = [json.loads(payload)["payload"]["n"] for _, payload in frames(begun)]
        if len(numbers) >= count:
            return numbers, False
        try:
            chunk = await asyncio.wait_for(reader.read(1 << 20), 5)
        except (TimeoutError, asyncio.TimeoutError):
            return numbers, False
        except ConnectionError:
            return numbers, True
        if not chunk:
            return numbers, True
        data += chunk


async def one(number, call, error, limit, at):
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.get_running_loop().create_server(
        lambda: Server(accepted), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.sockets[0].getsockname()[1], limit=1 << 22
    )
    line = await accepted
    manager = wsmanager.get_websocket_manager(f"user-{number}")
    faultio.faultio_arm(call.encode(), error, limit, at)
    try:
        channel = Channel(line.transport)
    except ValueError:  # no direct way to a socket that cannot be looked at
        channel = None
    manager.add_connection(line, channel=channel)
    for n in range(EVENTS):
        manager.emit_event("x", {"n": n, "pad": "x" * (70_000 if n % 12 == 5 else n * 9)})
        if n % 3 == 0:
            await asyncio.sleep(0)
    name = f"{call} {errno.errorcode.get(error, limit)} at {at}"
    try:
        numbers, ended = await read(reader, EVENTS)
        assert numbers == list(range(len(numbers))), f"lost or out of order: {numbers}"
        if len(numbers) < EVENTS:
            assert ended, f"{len(numbers)} of {EVENTS}, and the connection is still open"
            assert len(manager) == 0, "the manager still counts on it"
    except (AssertionError, IndexError, ValueError) as wrong:
        problems.append(f"{name}: {wrong!r}")
    hits = faultio.faultio_hits()
    faultio.faultio_arm(b"", 0, -1, 0)
    writer.close()
    line.transport.abort()
    manager.remove_connection_by_user()
    server.close()
    return hits


async def main():
    wsmanager.configure(tcp_user_timeout=5)
    plans = [
        (call, error, -1, at)
        for call in ("send", "sendmsg")
        for error in ERRORS
        for at in range(1, DEPTH + 1)
    ]
    plans += [
        (call, 0, limit, at)
        for call in ("send", "sendmsg")
        for limit in (*range(DEPTH + 8), 125, 126, 130, 1000, 69_999)
        for at in (1, 2, 5)
    ]
    plans += [
        (call, error, -1, at)
        for call in ("getsockopt", "setsockopt", "getsockname", "ioctl")
        for error in ERRORS
        for at in (0, 1, 2)
    ]
    hits = 0
    for number, plan in enumerate(plans):
        hits += bool(await one(number, *plan))
        if len(problems) >= 3:  # each may have been waited for: enough to fail
            break
    print(f"plans {len(plans)} hit {hits} problems {len(problems)}")
    for problem in problems[:20]:
        print(problem)
    assert problems or hits > len(plans) // 3, "the faults were not reached: this proves nothing"


asyncio.run(main())
sys.exit(bool(problems))
