"""Everything that threads may do at once, for ThreadSanitizer to look at.

argv: seconds, threads. Loops in threads of their own own the sockets; the other
threads emit, connect and remove, look up, wait, change settings, and forget
the whole registry, all on the same few users. Needs nothing but the core and
the interpreter. Prints how much was done; exits 1 if an event reached another
user's socket or a user had two managers at once.
"""

import asyncio
import gc
import random
import socket
import sys
import threading
import time

import wsmanager

SECONDS, THREADS = float(sys.argv[1]), int(sys.argv[2])
USERS = 5
deadline = time.monotonic() + SECONDS
done = {}
foreign = []
twins = []
counting = threading.Lock()
resets = {"begun": 0, "ended": 0}


class Socket:
    """Counts what arrives; some sends suspend, some fail, one hangs."""

    def __init__(self, user):
        self.user = user
        self.kind = random.randrange(8)

    async def send_text(self, text):
        own = f'"user_id":"{self.user}"' in text.replace(": ", ":")
        if not own and not text.startswith(('{"type":"gap"', '{"type":"resumed"')):
            foreign.append((self.user, text))
        if self.kind == 0:
            await asyncio.sleep(0)
        elif self.kind == 1:
            raise ConnectionResetError
        elif self.kind == 2:
            await asyncio.sleep(5)


class Loop:
    """An event loop in a thread, with a direct line besides."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def user(k):
    return f"user-{k % USERS}"


def emit(n):
    delivery = wsmanager.get_websocket_manager(user(n)).emit_event("x", {"n": n})
    bool(delivery), delivery.receipt, delivery.id


def critical(n):
    wsmanager.get_websocket_manager(user(n)).emit_critical_event("agent_started", {"n": n})


def come_and_go(n):
    name = user(n)
    manager = wsmanager.get_websocket_manager(name)
    connection_id = manager.add_connection(
        Socket(name), loop=random.choice(loops).loop, thread_id="chat"
    )
    manager.emit_event("hello", {"n": n})
    manager.update_connection_thread(connection_id, "other")
    manager.remove_connection(connection_id)


def come_and_stay(n):
    name = user(n)
    manager = wsmanager.get_websocket_manager(name)
    if len(manager) < 20:
        manager.add_connection(Socket(name), loop=random.choice(loops).loop, thread_id="chat")
    else:
        manager.remove_connection(next(iter(manager.get_user_connections()), "none"))


def supersede(n):
    name = user(n)
    manager = wsmanager.get_websocket_manager(name)
    manager.add_connection(Socket(name), "tab", loop=random.choice(loops).loop)
    manager.remove_connection("tab")


def look(n):
    manager = wsmanager.get_websocket_manager(user(n))
    manager.get_stats(), manager.get_connection_health(), repr(manager), len(manager)
    for connection in manager.active_connections.values():
        repr(connection), connection.is_active, connection.thread_id
    wsmanager.get_manager_registry_status()


def passers_by(n):
    """Users that never come back: the registry lets them go, in any thread."""
    ended, begun = resets["ended"], resets["begun"]  # in this order: equal, none was under way
    held = wsmanager.get_websocket_manager(f"passer-{n % 300}")
    again = wsmanager.get_websocket_manager(f"passer-{n % 300}")
    if again is not held and ended == begun == resets["begun"]:
        twins.append(n)


def wait(n):
    name = user(n)

    async def waiting():
        manager = await wsmanager.get_websocket_manager_async(name)
        delivery = manager.emit_event("y", {"n": n})
        await delivery.flushed(0.05)
        await manager.wait_for_connection(0.05)

    random.choice(loops).run(waiting())


def configure(n):
    wsmanager.configure(
        outbox_max_events=50 + n % 10,
        outbox_max_age=0.2,
        slow_policy=random.choice(["close", "drop_oldest", "drop_newest"]),
        envelope=random.choice(["payload", "mixed", lambda members: members]),
        max_idle_users=50,
        journal_max_events=random.choice([0, 10, 100]),
        journal_max_age=random.choice([0.05, 10]),
        journal_budget=random.choice([10_000, 1_000_000]),
        idempotency_window=0.05,
        stray_interval=0.1,
    )


def thread_and_all(n):
    wsmanager.get_websocket_manager(user(n)).send_to_thread("chat", {"type": "t", "payload": {}})
    wsmanager.get_websocket_manager(None).send_to_user(user(n), {"type": "u", "payload": {}})


def come_back(n):
    """With the position of before, of another user, or none."""
    name = user(n)
    manager = wsmanager.get_websocket_manager(name)
    position = random.choice(
        ["", manager.position, wsmanager.get_websocket_manager(user(n + 1)).position]
    )
    connection_id = manager.add_connection(
        Socket(name), loop=random.choice(loops).loop, resume=position
    )
    manager.emit_event("x", {"n": n})
    manager.remove_connection(connection_id)


def acknowledged(n):
    manager = wsmanager.get_websocket_manager(user(n))
    delivery = manager.emit_event("x", {"n": n}, ack=True)
    if delivery.id is not None:
        manager.acknowledge(delivery.id)


def once(n):
    manager = wsmanager.get_websocket_manager(user(n))
    manager.emit_event("x", {"n": n}, idempotency_key=f"key-{n % 11}")


def broadcast(n):
    wsmanager.broadcast({"type": "b", "payload": {"n": n}})


def forget(n):
    if n % 40 == 0:
        # Not held meanwhile: resets may meet one another.
        with counting:
            resets["begun"] += 1
        wsmanager.reset_manager_registry()
        with counting:
            resets["ended"] += 1
    elif n % 40 == 20:
        gc.collect()


ACTIONS = [
    emit, emit, emit, critical, come_and_go, come_and_stay, supersede, look, passers_by,
    passers_by, wait, configure, thread_and_all, broadcast, forget,
    come_back, come_back, acknowledged, once,
]  # fmt: skip


class Ending(asyncio.Protocol):
    pass


async def direct_lines():
    """Connections of a loop's own with a direct channel, which come and go on it."""
    from wsmanager._wsmanager import Channel

    loop = asyncio.get_running_loop()
    while time.monotonic() < deadline:
        ours, peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        for end in (ours, peer):
            end.setblocking(False)
        transport, _ = await loop.create_connection(Ending, sock=ours)
        name = user(random.randrange(USERS))
        channel = Channel(transport)
        wsmanager.get_websocket_manager(name).add_connection(Socket(name), channel=channel)
        for _ in range(20):
            await asyncio.sleep(0.001)
            try:
                peer.recv(1 << 16)
            except BlockingIOError:
                pass
        if random.random() < 0.5:
            channel.closed()
        transport.abort()
        peer.close()


loops = [Loop() for _ in range(4)]
configure(0)
lines = [loop.run(direct_lines()) for loop in loops]


def work(k):
    n = k
    count = 0
    while time.monotonic() < deadline:
        ACTIONS[random.randrange(len(ACTIONS))](n)
        n += 7
        count += 1
    done[k] = count


threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for line in lines:
    line.result(30)
wsmanager.reset_manager_registry()
for loop in loops:
    loop.stop()
print(*foreign[:3], sep="\n")
print("calls", sum(done.values()), "foreign", len(foreign), "twins", len(twins))
sys.exit(bool(foreign or twins) or len(done) != THREADS)
