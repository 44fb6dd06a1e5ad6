"""Each public call many times: after three warm rounds, three rounds may keep nothing.

Blocks (sys.getallocatedblocks) on every build, references as well on a debug
build. Between rounds only small ints are stored: storing totals would itself
be the leak. argv: names of the calls to try, all by default.
"""

import asyncio
import collections
import datetime
import gc
import os
import sys
import threading
import uuid
import warnings

import wsmanager
from wsmanager import _wsmanager as core

warnings.simplefilter("ignore", RuntimeWarning)  # "never awaited" is one of the calls
TIMES = 200
AGE = 0.05  # seconds
references = getattr(sys, "gettotalrefcount", lambda: 0)


class Socket:
    async def send_text(self, text):
        pass


class Failing:
    async def send_text(self, text):
        raise ConnectionResetError


class Suspending:
    async def send_text(self, text):
        await asyncio.sleep(0)


class Hanging:
    async def send_text(self, text):
        await asyncio.sleep(60)


MESSAGE = {"type": "x", "payload": {"n": 1}}
manager = wsmanager.get_websocket_manager("ann")


async def get():
    wsmanager.get_websocket_manager({"user_id": "ann"})
    wsmanager.get_websocket_manager("bob").user_context  # noqa: B018


async def acquire():
    await wsmanager.get_websocket_manager_async("ann")
    await asyncio.create_task(wsmanager.get_websocket_manager_async("carol"))


async def connect():
    connection_id = await manager.add_connection(Socket(), thread_id="chat")
    record = wsmanager.WebSocketConnection(user_id="ann", websocket=Socket(), metadata={"a": 1})
    second = manager.add_connection(record)
    manager.update_connection_thread(connection_id, "other")
    await manager.remove_connection(connection_id)
    manager.remove_connection(second)


async def emit():
    receipt = await manager.emit_event("x", {"n": 1}, run_id="r", detail=True)
    receipt.connections, receipt.id, bool(receipt)


async def emit_unawaited():
    manager.emit_event("x", {"n": 1})


async def emit_dict():
    await manager.emit_event("x", {"a": [{"b": (1, 2.5, None, True, "x" * 300)}]})


async def emit_rich():
    data = {"at": datetime.date(2026, 1, 1), "id": uuid.uuid4(), "s": {1}, "m": {"x": 2**80}}
    await manager.emit_event("x", collections.UserDict(data))


async def send_to_user():
    await manager.send_to_user(MESSAGE)
    await manager.send_to_user("ann", MESSAGE)


async def send_to_thread():
    await manager.send_to_thread("chat", MESSAGE)
    await manager.send_to_thread(thread_id="none", message_data=MESSAGE)


async def send_message():
    await manager.send_message("steady", MESSAGE)
    await manager.send_message("ann", MESSAGE)


async def send_error():
    await manager.send_error("text")


async def broadcast():
    await manager.broadcast(MESSAGE)


async def module_broadcast():
    wsmanager.broadcast(MESSAGE)


async def refused_payload():
    for bad in ({"x": object()}, {"x": float("nan")}, {"x": "\ud800"}):
        try:
            manager.emit_event("x", bad)
        except wsmanager.EncodeError:
            continue
        raise AssertionError(bad)


async def refused_context():
    for bad in ({}, {"user_id": ""}, "a\0", object(), 1.5):
        for factory in (wsmanager.get_websocket_manager, wsmanager.get_websocket_manager_async):
            try:
                factory(bad)
            except wsmanager.InvalidUserContext:
                continue
            raise AssertionError(bad)


async def refused_call():
    calls = (
        lambda: manager.emit_event(),
        lambda: manager.emit_event("x", {}, colour=1),
        lambda: manager.send_to_user("bob", MESSAGE),
        lambda: manager.send_to_user({}),
        lambda: manager.add_connection(None),
        lambda: manager.add_connection(5),
        lambda: wsmanager.UnifiedWebSocketManager(),
    )
    for call in calls:
        try:
            call()
        except (TypeError, ValueError, wsmanager.WebSocketManagerError):
            continue
        raise AssertionError(call)


async def failing_socket():
    manager.add_connection(Failing())
    await manager.emit_event("x", {})
    assert len(manager) == 1


async def suspending_socket():
    connection_id = manager.add_connection(Suspending())
    delivery = manager.emit_event("x", {})
    manager.emit_event("y", {})
    await delivery.flushed()
    manager.remove_connection(connection_id)
    for _ in range(3):
        await asyncio.sleep(0)


async def hanging_socket():
    connection_id = manager.add_connection(Hanging())
    manager.emit_event("x", {})
    manager.remove_connection(connection_id)
    for _ in range(4):
        await asyncio.sleep(0)


async def outbox():
    connection_id = manager.add_connection(Hanging())
    for _ in range(40):
        manager.emit_event("x", {})
    manager.remove_connection(connection_id)
    for _ in range(4):
        await asyncio.sleep(0)


async def replaced_connections():
    other = wsmanager.get_websocket_manager("replaced")
    other._connections = {"c": Socket()}
    await other.emit_event("x", {})
    del other._connections


async def from_a_thread():
    if from_a_thread.left:  # a thread costs much; a few show a leak as well
        from_a_thread.left -= 1
        thread = threading.Thread(target=manager.emit_event, args=("x", {}))
        thread.start()
        thread.join()
        await asyncio.sleep(0)


from_a_thread.left = 0


async def wait_for_connection():
    await manager.wait_for_connection(1)
    waiting = manager.wait_for_connection()
    await waiting


async def flushed():
    await manager.emit_event("x", {}).flushed(1)


async def cancelled_acquire():
    acquire = wsmanager.get_websocket_manager_async("dave")
    acquire.close()
    try:
        wsmanager.get_websocket_manager_async("dave").throw(ValueError("mine"))
    except ValueError:
        pass


async def never_awaited():
    wsmanager.get_websocket_manager_async("dave")


async def lookups():
    manager.get_connection("steady")
    manager.get_connection("none")
    manager.get_user_connections()
    manager.get_connection_health()
    manager.get_stats(), manager.metrics, manager.active_connections
    manager._connections, len(manager), repr(manager), manager.is_connection_active()
    wsmanager.get_manager_registry_status()
    connection = manager.get_connection("steady")
    repr(connection), connection.connection_id, connection.loop, connection.websocket
    manager.get_connection_id_by_websocket(connection.websocket)
    core.classify(ConnectionResetError())
    core._settings()


async def close():
    other = wsmanager.get_websocket_manager("closing")
    other.add_connection(Socket())
    await other.close_all_connections(1001, "bye")
    other.add_connection(Socket())
    await other.disconnect_user("closing")
    for _ in range(4):
        await asyncio.sleep(0)


async def reset():
    global manager  # noqa: PLW0603  each call of the list uses it
    wsmanager.reset_manager_registry()
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(Socket(), "steady", thread_id="chat")


async def resume():
    other = wsmanager.get_websocket_manager("resuming")
    start = other.position
    other.emit_event("x", {"n": 1})
    for position in (start, "", "0123456789abcdef:1"):
        await other.add_connection(Socket(), resume=position)
    await asyncio.sleep(0)
    await other.remove_connection_by_user()


async def acknowledge():
    delivery = manager.emit_event("x", {"n": 1}, ack=True)
    waiting = delivery.acked()
    await manager.acknowledge(delivery.id)
    await waiting
    manager.emit_event("x", {"n": 2}, ack=True)
    manager.acknowledge("0123456789abcdef:1")


async def once():
    for n in range(3):
        manager.emit_event("x", {"n": n}, idempotency_key="key")
    once.count += 1
    manager.emit_event("x", {}, idempotency_key=f"key {once.count}")


async def detail():
    receipt = await manager.emit_event("x", {}, detail=True)
    receipt.connections, receipt.reasons, manager.position  # noqa: B018


async def frame():
    for size in (0, 125, 126, 70_000):
        core.frame(b"x" * size)


once.count = 0
CALLS = {
    name.replace("_", " "): function
    for name, function in list(globals().items())
    if asyncio.iscoroutinefunction(function)
}
for name in ("send_to_user", "send_to_thread", "send_message", "send_error", "wait_for_connection"):
    CALLS[name] = CALLS.pop(name.replace("_", " "))

# A send under way when its connection is removed may go on for outbox_max_age.
# The loop lets go of the mailbox of a registry that was reset at its next look.
LINGER = {suspending_socket, hanging_socket, outbox, reset}


async def rounds(function):
    """References and blocks that three rounds keep, after three that warm up."""
    refs = [0] * 6
    blocks = [0] * 6
    for n in range(6):
        from_a_thread.left = 5
        gc.collect()
        refs[n] = references()
        blocks[n] = sys.getallocatedblocks()
        for _ in range(TIMES):
            await function()
        await asyncio.sleep(4 * AGE if function in LINGER else 0)
        gc.collect()
        refs[n] = references() - refs[n]
        blocks[n] = sys.getallocatedblocks() - blocks[n]
    return refs[3:], blocks[3:]


async def main():
    wsmanager.configure(outbox_max_age=AGE, stray_interval=AGE, journal_max_events=16)
    wanted = sys.argv[1:] or list(CALLS)
    fds = len(os.listdir("/proc/self/fd"))
    await reset()
    bad = False
    for name in wanted:
        refs, blocks = await rounds(CALLS[name])
        # A real leak keeps one per call and round; a cache that still grows keeps a few.
        leak = min(blocks) > TIMES // 2 or min(refs) > TIMES // 2
        print("LEAK" if leak else "ok", name, *([refs, blocks] if leak else []))
        bad = bad or leak
    if len(os.listdir("/proc/self/fd")) != fds:
        print("LEAK descriptors")
        bad = True
    sys.exit(bad)


asyncio.run(main())
