"""A short walk over what the core does, for tools that watch its memory; argv: rounds."""

import asyncio
import gc
import socket
import sys

import wsmanager
from wsmanager import _wsmanager as core

ROUNDS = int(sys.argv[1])


class Sink:
    async def send_text(self, text):
        pass


class Suspending:
    async def send_text(self, text):
        await asyncio.sleep(0)


class Gone:
    async def send_text(self, text):
        raise ConnectionResetError


class Ending(asyncio.Protocol):
    pass


async def direct(user, n):
    """A direct channel: frames of each length form, one too large for the kernel."""
    ours, peer = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    for end in (ours, peer):
        end.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(Ending, sock=ours)
    user.add_connection(Sink(), channel=core.Channel(transport))
    for size in (5, 200, 70_000):
        user.emit_event("x", {"pad": "x" * size})
        await asyncio.sleep(0)
        peer.recv(1 << 20)
    transport.abort()
    peer.close()
    await asyncio.sleep(0)


async def one(n):
    user = wsmanager.get_websocket_manager(f"user-{n % 7}")
    position = user.position
    ids = [user.add_connection(socket_()) for socket_ in (Sink, Suspending, Gone, Sink)]
    user.add_connection(Sink(), resume=position)
    user.add_connection(Sink(), resume="no position")
    for size in (5, 200, 70_000):
        delivery = user.emit_event("x", {"n": n, "pad": "x" * size})
        assert await delivery
        await delivery.flushed(1)
    delivery = user.emit_event("y", {"n": n}, ack=True, idempotency_key=f"key-{n}")
    user.emit_event("y", {"n": n}, ack=True, idempotency_key=f"key-{n}")
    user.acknowledge(delivery.id)
    user.send_to_user({"type": "t", "payload": {"n": n}})
    user.send_to_thread("chat", {"type": "t"})
    await asyncio.to_thread(user.emit_event, "z", {"n": n})
    try:
        user.emit_event("bad", {"cycle": float("nan")})
    except wsmanager.EncodeError:
        pass
    await wsmanager.get_websocket_manager_async(f"user-{n % 7}")
    await direct(user, n)
    user.get_stats(), user.get_connection_health(), repr(user), user.active_connections
    for connection_id in ids:
        user.remove_connection(connection_id)
    if n % 2:
        user.remove_connection_by_user()
    if n % 10 == 9:
        wsmanager.reset_manager_registry()
        gc.collect()


async def main():
    for n in range(ROUNDS):
        await one(n)


asyncio.run(main())
wsmanager.reset_manager_registry()
gc.collect()
print("exercise ok", ROUNDS)
