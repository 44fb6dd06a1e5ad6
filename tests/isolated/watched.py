"""A look at one watched connection emits to others; argv[1]: what they are.

"strangers": more connections than the tick looks at come to be watched meanwhile. "fellows":
one that this tick has looked at already is written to, and so watched, again. Exits 1 if a
newcomer is looked at before the next tick, or the list's references are not right.
"""

import asyncio
import socket
import sys

import wsmanager
from wsmanager._wsmanager import Channel

wsmanager.configure(stray_interval=0)
CASE = sys.argv[1]
COUNTED = getattr(sys, "_is_gil_enabled", lambda: True)()


class Transport:
    """What a channel asks of a transport, over a socket of its own; each question is noted."""

    def __init__(self, user):
        self.ours, self.peer = socket.socketpair()
        self.size = self.asked = 0
        self.hook = None
        manager = wsmanager.get_websocket_manager(user)
        self.connection = manager.get_connection(
            manager.add_connection(Socket(), channel=Channel(self))
        )

    def get_extra_info(self, name, default=None):
        return self.ours if name == "socket" else default

    def is_closing(self):
        self.asked += 1
        if self.hook is not None:
            hook, self.hook = self.hook, None
            hook()
        return False

    def get_write_buffer_size(self):
        return self.size

    def write(self, data):
        self.ours.send(data)

    def abort(self):
        pass


class Socket:
    async def send_text(self, text):
        raise AssertionError("not by the library")


def emit(user, times=1):
    for _ in range(times):
        wsmanager.get_websocket_manager(user).emit_event("x", {})


async def strangers():
    watched = [Transport("ann") for _ in range(6)]
    others = [Transport("bob") for _ in range(60)]
    for transport in watched:
        transport.size = 100
    emit("ann", 2)
    early = None

    def look():
        for transport in others:
            transport.size = 100
        emit("bob", 2)
        for transport in others:
            transport.asked = 0
            transport.size = 0
        asyncio.get_running_loop().call_soon(over)

    def over():
        nonlocal early
        early = sum(transport.asked for transport in others)

    watched[0].hook = look
    for transport in watched:
        transport.size = 0
    while early is None:  # noqa: ASYNC110  the tick is the loop's own
        await asyncio.sleep(0.001)
    print("looked at too early", early)
    left = watched + others
    while left:
        left = [
            t
            for t in left
            if t.peer.recv(1 << 16, socket.MSG_DONTWAIT | socket.MSG_PEEK).count(b'"x"') < 2
        ]
        await asyncio.sleep(0.001)
    return early != 0


async def fellows():
    first, second, *others = [Transport(user) for user in ("ann", "bob", "cid")]
    connection = first.connection
    first.connection = None
    count = sys.getrefcount(connection)
    emit("ann")  # written, and not taken by its peer: watched
    await asyncio.sleep(0)
    second.size = 100
    emit("bob")  # waits for its transport: watched
    await asyncio.sleep(0)
    emit("cid")
    looked = asyncio.Event()

    def look():
        emit("cid")
        asyncio.get_running_loop().call_soon(looked.set)

    second.hook = look
    await looked.wait()
    watched = sys.getrefcount(connection) - count
    wsmanager.get_websocket_manager("ann").remove_connection_by_user()
    del first, others
    left = sys.getrefcount(connection)
    print("references while watched", watched, "in the end", left)
    return COUNTED and (watched != 1 or left != 2)


sys.exit(asyncio.run(asyncio.wait_for({"strangers": strangers, "fellows": fellows}[CASE](), 20)))
