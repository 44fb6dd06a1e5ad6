"""Fail the n-th allocation (argv[1] "one") or all from the n-th on ("all") of each entry point.

For n = 0, 1, 2, ... until a call gets through. After each failure: nothing is
registered that the call did not report, the steady connections are there, and
the same call works. The last line on stderr before a crash names the place.
"""

import _testcapi
import asyncio
import gc
import socket
import sys
import warnings

import wsmanager
from wsmanager import _wsmanager as core

# What fails must be ours: neither msgspec nor the interpreter's own byte code
# (MAKE_FUNCTION of 3.12, dict iterators of 3.11) survives every failed
# allocation, so the JSON comes from a C function that does, and what needs
# Python code to be refused or normalised is not walked here.
core._install(encode=b'{"n":1}'.__mod__)
warnings.simplefilter("ignore")
ONE = sys.argv[1] == "one"
LIMIT = 2000  # allocations of one call; a walk that gets so far is broken
# A free list may hide an allocation, and CPython before 3.11.4 survives the three
# of an AttributeError's text: it raises one without a text.
CLEAN_RUNS = 6
OK = (MemoryError,) if sys.version_info >= (3, 11) else (MemoryError, AttributeError, KeyError)
MESSAGE = {"type": "x", "payload": {"n": 1}}


class Sink:
    """A socket in C as far as it goes: what fails is ours, not the fake's."""

    def __init__(self):
        self.texts = []
        self.send = self.texts.append


class Busy:
    """A socket whose send is under way for ever."""

    async def send_text(self, text):
        await asyncio.sleep(3600)


class Transport:
    """A transport whose buffer never empties: what follows waits in the outbox."""

    def __init__(self):
        self.ends = socket.socketpair()
        for end in self.ends:
            end.setblocking(False)

    def get_extra_info(self, name, default=None):
        return self.ends[0] if name == "socket" else default

    def is_closing(self):
        return False

    def get_write_buffer_size(self):
        return 100

    def write(self, data):
        pass

    def close(self):
        for end in self.ends:
            end.close()


class Context:
    user_id = "made"


async def main():
    manager = wsmanager.get_websocket_manager("ann")
    sink, second = Sink(), Sink()
    manager.add_connection(sink, "steady", thread_id="chat")
    manager.add_connection(second, "steady-2")
    # The walk may take longer than a busy socket is waited for.
    wsmanager.configure(outbox_max_age=1e6, outbox_max_events=100_000, outbox_max_bytes=1 << 30)
    wsmanager.configure(outbox_max_events=10_000_000, outbox_max_bytes=1 << 40, outbox_max_age=3600)

    def occupied(user):
        """A manager with one connection whose send is under way.

        Where an event cannot be queued for want of memory, that connection is
        closed, so that its client comes back for it: then there is a new one.
        """
        manager = wsmanager.get_websocket_manager(user)
        if len(manager) == 0:
            manager.add_connection(Busy(), user)
            manager.emit_event("x", {})
        return manager

    counter = 0

    def fresh():
        nonlocal counter
        counter += 1
        return f"fresh-{counter}"

    # Each entry: what to prepare, the call that is walked, and whether it did its work.
    def sent(delivery):
        return delivery.receipt.sent == 2

    def one_sent(delivery):
        return delivery.receipt.sent == 1

    def queued(delivery):
        return delivery.receipt.queued == 1

    def full():
        wsmanager.configure(slow_policy="drop_oldest", outbox_max_events=3)
        return occupied("full")

    def busy():
        return occupied("busy")

    def no_policy():
        wsmanager.configure(slow_policy="close", outbox_max_events=10_000_000)

    added = []

    def drop_added(_=None):
        while added:
            manager.remove_connection(added.pop())
        return True

    def prepare_removal():
        added.append(manager.add_connection(Sink()))
        return added[-1]

    def keep(connection_id):
        added.append(connection_id)
        return len(manager) == 3

    def refused(error):
        return error is not None

    def expect(exception, call):
        def run(*args):
            try:
                call(*args)
            except exception as error:
                return error
            return None

        return run

    def step(acquire):
        try:
            acquire.send(None)
        except StopIteration as stop:
            return stop.value
        return None

    def mixed():
        wsmanager.configure(envelope="mixed")
        return {"type": "x", "user_id": "u", "tool_name": "t", "data": {"n": 1}}

    def everything():
        manager.get_connection("steady")
        manager.get_connection("none")
        manager.get_user_connections()
        manager.get_connection_health()
        manager.get_stats()
        manager.metrics, manager.active_connections, manager._connections  # noqa: B018
        manager.is_connection_active()
        manager.get_connection_id_by_websocket(sink)
        manager.update_connection_thread("steady", "chat")
        repr(manager), repr(manager.get_connection("steady"))
        return True

    entries = {
        "get a known manager": (None, lambda: wsmanager.get_websocket_manager("ann"), bool),
        "make a manager": (fresh, lambda n: wsmanager.get_websocket_manager({"user_id": n}), bool),
        "acquire": (fresh, lambda n: step(wsmanager.get_websocket_manager_async(n)), bool),
        "add_connection": (Sink, lambda s: manager.add_connection(s, thread_id="t"), keep),
        "add a record": (
            lambda: wsmanager.WebSocketConnection(user_id="ann", websocket=Sink()),
            manager.add_connection,
            keep,
        ),
        "remove_connection": (prepare_removal, manager.remove_connection, bool),
        "emit_event": (None, lambda: manager.emit_event("x", {"n": 1}), sent),
        "emit with names": (
            None,
            lambda: manager.emit_event("x", {"n": 1}, thread_id="t", run_id="r", detail=True),
            sent,
        ),
        "emit_critical_event": (None, lambda: manager.emit_critical_event("x", {}), sent),
        "send_to_user": (None, lambda: manager.send_to_user("ann", MESSAGE), sent),
        "send_to_thread": (None, lambda: manager.send_to_thread("chat", MESSAGE), one_sent),
        "send_message": (None, lambda: manager.send_message("steady", MESSAGE), one_sent),
        "send_error": (None, lambda: manager.send_error("text"), sent),
        "broadcast": (None, lambda: manager.broadcast(MESSAGE), sent),
        "module broadcast": (None, lambda: wsmanager.broadcast(MESSAGE), bool),
        "queue behind a busy socket": (busy, lambda m: m.emit_event("x", {}), queued),
        "drop from a full outbox": (full, lambda m: m.emit_event("x", {}), queued),
        "lookups": (no_policy, lambda _: everything(), bool),
        "status": (None, wsmanager.get_manager_registry_status, bool),
        "mixed message": (mixed, lambda m: manager.send_to_thread("chat", m), one_sent),
        "frame": (None, lambda: core.frame(b"x" * 700), bool),
    }

    def check(name):
        drop_added()
        names = set(manager.get_user_connections())
        assert names >= {"steady", "steady-2"}, (name, names)
        for stray in names - {"steady", "steady-2"}:
            raise AssertionError(f"{name}: stray connection {stray}")
        before = len(sink.texts), len(second.texts)
        receipt = manager.emit_event("check", {}).receipt
        assert receipt.sent == 2, (name, receipt)
        assert (len(sink.texts), len(second.texts)) == (before[0] + 1, before[1] + 1), name
        sink.texts.clear()
        second.texts.clear()

    def walk(name, prepare, call, good):
        failures = clean = 0
        for n in range(LIMIT):
            argument = () if prepare is None else (prepare(),)
            sys.stderr.write(f"{name} {n}\n")
            result = error = None
            _testcapi.set_nomemory(n, n + 1 if ONE else 0)
            try:
                result = call(*argument)
            except OK as caught:
                error = caught
            finally:
                _testcapi.remove_mem_hooks()
            if error is None and good(result):
                clean += 1
                drop_added()
                if clean == CLEAN_RUNS:
                    check(name)
                    print(f"walked {name}: {failures} failures")
                    return
                continue
            clean = 0
            failures += 1
            del result, error
            check(name)
            if n % 50 == 0:
                gc.collect()
        raise AssertionError(f"{name}: still failing after {LIMIT} allocations")

    for name, entry in entries.items():
        walk(name, *entry)

    # The events of a connection that leaves are settled with it. For want of
    # memory one may never be, but none is settled twice or for another.
    name = "remove a connection with a full outbox"
    failures = clean = n = 0
    while clean < CLEAN_RUNS:
        assert n < LIMIT, f"{name}: still failing after {LIMIT} allocations"
        transport = Transport()
        leaves = manager.add_connection(Sink(), channel=core.Channel(transport))
        only = {"connection_id": leaves}
        deliveries = [manager.emit_event("x", {}, **only) for _ in range(40)]
        waiting = [delivery for delivery in deliveries if delivery.receipt.queued]
        assert len(waiting) == 39, len(waiting)
        sys.stderr.write(f"{name} {n}\n")
        through = False
        _testcapi.set_nomemory(n, n + 1 if ONE else 0)
        try:
            through = bool(manager.remove_connection(leaves))
        except OK:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        manager.remove_connection(leaves)
        for _ in range(3):  # what it had queued is written, or given up, in the loop's next turn
            await asyncio.sleep(0)
        transport.close()
        receipts = [delivery.receipt for delivery in waiting]
        told = [(r.sent + r.failed + r.queued, r.dropped) for r in receipts]
        assert told == [(1, 0)] * len(waiting), (n, told)
        through = through and not any(r.queued for r in receipts)
        clean = clean + 1 if through else 0
        failures += not through
        check(name)
        n += 1
    print(f"walked {name}: {failures} failures")

    gc.collect()
    state = {"failures": 0}
    for n in range(LIMIT):
        _testcapi.set_nomemory(n, n + 1 if ONE else 0)
        try:
            wsmanager.reset_manager_registry()
        except OK:
            state["failures"] += 1
        else:
            break
        finally:
            _testcapi.remove_mem_hooks()
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(Sink(), "steady", thread_id="chat")
    assert manager.emit_event("check", {}).receipt.sent == 1
    # A reset may need no memory at all: that counts as walked.
    print(f"walked reset: {max(1, state['failures'])} failures")


asyncio.run(main())
