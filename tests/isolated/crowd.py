"""Many real connections, of which some never read; what becomes of the others.

argv: clients, users they are spread over, dead ones, seconds of each phase, events a second,
outbox_max_age. The server is this process; its clients are others, which read raw sockets
and check every frame; the dead ones are in a process that is stopped (SIGSTOP) once they
are connected. Phase 0 is without the dead, phase 1 with them.

Prints "name value" lines; exits 1 if a living client lost, doubled or reordered an event, or
a dead one is still registered at the end, or more was held for it than the limits allow.
"""

import asyncio
import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time

import wsmanager
from wsmanager._wsmanager import Channel, frame

CLIENTS, USERS, DEAD = (int(arg) for arg in sys.argv[1:4])
SECONDS, RATE, AGE = (float(arg) for arg in sys.argv[4:7])
READERS = 2
PAD = "x" * 2000
END = b'"type":"end"'
HELD = 4 << 20  # bytes: the outbox's limit, the transport's share, and what the kernel took


# -- the clients, each of these in a process of its own --------------------------


class Client:
    """One connection's events: that their numbers go up by one, and how late each came."""

    def __init__(self, port, index):
        # Clients of 127.0.0.2, .3, ...: one address has ports for 28,000 of them.
        self.socket = socket.socket()
        self.socket.bind((f"127.0.0.{2 + index % 8}", 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(b"%d\n" % index)
        self.data = b""
        self.next = None
        self.wrong = 0
        self.ended = False

    def read(self, late):
        chunk = self.socket.recv(1 << 18)
        now = time.monotonic_ns()
        self.data += chunk
        at = 0
        while len(self.data) - at >= 2:
            size, head = self.data[at + 1], 2
            if size > 125:
                head = 4 if size == 126 else 10
                size = int.from_bytes(self.data[at + 2 : at + head], "big")
            if len(self.data) - at < head + size:
                break
            assert self.data[at] == 0x81, "not a text frame"
            payload = self.data[at + head : at + head + size]
            at += head + size
            if END in payload:
                self.ended = True
                continue
            event = json.loads(payload)["payload"]
            self.wrong += self.next is not None and event["n"] != self.next
            self.next = event["n"] + 1
            late[event["phase"]].append(now - event["at"])
        self.data = self.data[at:]
        self.ended = self.ended or not chunk


def reader(port, indices, report):
    clients = [Client(port, index) for index in indices]
    late = ([], [])
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        open_ = len(clients)
        while open_:
            for key, _ in selector.select(60):
                key.data.read(late)
                if key.data.ended:
                    selector.unregister(key.fileobj)
                    open_ -= 1
    for times in late:
        times.sort()
    with os.fdopen(report, "w") as out:
        json.dump(
            {
                "wrong": sum(client.wrong for client in clients),
                "next": {index: c.next for index, c in zip(indices, clients, strict=True)},
                "late": [times[:: max(1, len(times) // 1000)] for times in late],
                "count": sum(map(len, late)),
            },
            out,
        )


def dead(port, indices, report):
    sockets = []
    for index in indices:
        sockets.append(socket.socket())
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sockets[-1].connect(("127.0.0.1", port))
        sockets[-1].sendall(b"%d\n" % index)
    os.close(report)
    os.kill(os.getpid(), signal.SIGSTOP)


def fork(function, port, indices):
    """Start it; its process id and the pipe it reports to."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            function(port, indices, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    return pid, reading


# -- the server ------------------------------------------------------------------


class Line(asyncio.Protocol):
    """An accepted connection, which says its index; also the WebSocket that is added."""

    by_index = {}

    def __init__(self):
        self.hello = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.hello += data
        if self.hello.endswith(b"\n"):
            self.by_index[int(self.hello)] = self

    async def send_text(self, text):
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(frame(text))

    def add(self, index):
        manager = wsmanager.get_websocket_manager(f"user-{index % USERS}")
        manager.add_connection(self, channel=Channel(self.transport))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def phase(number, numbers, held):
    """Emit at the rate, each user in turn; the longest that one emit took."""
    begin = time.monotonic()
    longest = 0.0
    n = 0
    while (passed := time.monotonic() - begin) < SECONDS:
        while n < passed * RATE:
            user = n % USERS
            at = time.monotonic_ns()
            wsmanager.get_websocket_manager(f"user-{user}").emit_event(
                "x", {"n": numbers[user], "phase": number, "at": at, "pad": PAD}
            )
            longest = max(longest, (time.monotonic_ns() - at) / 1e9)
            numbers[user] += 1
            n += 1
        if held is not None:
            buffered = [Line.by_index[i].transport.get_write_buffer_size() for i in held]
            for i in held:
                manager = wsmanager.get_websocket_manager(f"user-{i % USERS}")
                buffered.append(manager.get_stats()["queued_bytes"])
            assert max(buffered, default=0) < HELD, f"{max(buffered)} bytes are held for a peer"
        await asyncio.sleep(0.002)
    return longest


async def main(listening, children, stopped):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Line, sock=listening, backlog=4096)
    deadline = time.monotonic() + 120
    while len(Line.by_index) < CLIENTS:
        assert time.monotonic() < deadline, f"{len(Line.by_index)} of {CLIENTS} connected"
        await asyncio.sleep(0.01)
    silent = list(range(CLIENTS - DEAD, CLIENTS))
    gc.collect()
    before = resident()
    for index in range(CLIENTS - DEAD):
        Line.by_index[index].add(index)
    each = (resident() - before) / max(1, CLIENTS - DEAD)
    status = wsmanager.get_manager_registry_status
    assert status()["total_connections"] == CLIENTS - DEAD
    numbers = [0] * USERS
    longest = [await phase(0, numbers, None)]
    for index in silent:
        Line.by_index[index].add(index)
    assert status()["total_connections"] == CLIENTS
    if stopped is not None:
        _, state = await asyncio.to_thread(os.waitpid, stopped, os.WUNTRACED)
        assert os.WIFSTOPPED(state)
    longest.append(await phase(1, numbers, silent))
    cut = status()["total_connections"] == CLIENTS - DEAD
    for user in range(USERS):
        wsmanager.get_websocket_manager(f"user-{user}").send_to_user({"type": "end", "payload": {}})
    reports = [await asyncio.to_thread(read_all, pipe) for _, pipe in children]
    for line in Line.by_index.values():
        line.transport.abort()
    server.close()
    return judge(reports, numbers, each, longest, cut)


def read_all(pipe):
    with os.fdopen(pipe) as file:
        return json.load(file)


def judge(reports, numbers, each, longest, cut):
    lost = wrong = 0
    for report in reports:
        wrong += report["wrong"]
        for index, seen in report["next"].items():
            lost += numbers[int(index) % USERS] - (seen or 0)
    print("clients", CLIENTS, "dead", DEAD, "events", sum(report["count"] for report in reports))
    print("lost", lost, "wrong", wrong, "dead_cut", int(cut), "registry_bytes_each", int(each))
    for number in (0, 1):
        late = sorted(ns for report in reports for ns in report["late"][number])
        p99 = late[int(len(late) * 0.99)] / 1e6 if late else 0.0
        print(
            f"phase{number}_p99_ms {p99:.2f} phase{number}_longest_emit_ms {longest[number] * 1e3:.2f}"
        )
    return bool(lost or wrong or not cut)


def begin():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wsmanager.configure(outbox_max_age=AGE, max_connections_per_user=CLIENTS, journal_max_events=0)
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = listening.getsockname()[1]
    living = list(range(CLIENTS - DEAD))
    children = [fork(reader, port, living[k::READERS]) for k in range(READERS)]
    stopped = None
    if DEAD:
        stopped, pipe = fork(dead, port, list(range(CLIENTS - DEAD, CLIENTS)))
        os.close(pipe)
    try:
        return asyncio.run(main(listening, children, stopped))
    finally:
        for pid in [pid for pid, _ in children] + ([stopped] if stopped else []):
            os.kill(pid, signal.SIGKILL)  # each of them is ours, and not yet waited for


try:
    sys.exit(begin())
except AssertionError as error:
    print("wrong:", error)
    sys.exit(1)
