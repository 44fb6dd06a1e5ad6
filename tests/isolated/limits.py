"""Ten times of what a limit allows is offered; argv: which limit, MiB of it.

Prints the growth of the resident memory and the limit; exits 1 if more than the limit and a
fifth, and what the interpreter itself needs, is kept.
"""

import asyncio
import gc
import os
import sys
import threading
import time

import wsmanager

MIB = 1 << 20
NAME, LIMIT = sys.argv[1], int(float(sys.argv[2]) * MIB)
EVENT = 20_000  # bytes
OWN = 6 * MIB  # arenas, and the allocator's own holding back


class Frozen:
    """Its first send does not come back."""

    async def send_text(self, text):
        await asyncio.sleep(3600)


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def events(count):
    """Distinct payloads: nothing is shared that a limit does not know of."""
    for n in range(count):
        yield {"pad": f"{n:0{EVENT}d}"}


def running():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def outbox(loop):
    """One frozen tab of one user."""
    wsmanager.configure(
        outbox_max_bytes=LIMIT, outbox_max_events=1 << 20, outbox_max_age=3600,
        slow_policy="drop_oldest", journal_max_events=0,
    )  # fmt: skip
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(Frozen(), loop=loop)
    yield
    for data in events(10 * LIMIT // EVENT):
        manager.emit_event("x", data)


def mailbox(loop):
    """A loop that does not turn: what other threads emit waits in its connections' outboxes."""
    wsmanager.configure(
        outbox_max_bytes=LIMIT // 4, outbox_max_events=1 << 20, outbox_max_age=3600,
        slow_policy="drop_newest", journal_max_events=0,
    )  # fmt: skip
    managers = [wsmanager.get_websocket_manager(f"user-{n}") for n in range(4)]
    for manager in managers:
        manager.add_connection(Frozen(), loop=loop)
    blocked = threading.Event()
    loop.call_soon_threadsafe(lambda: (blocked.set(), time.sleep(3600)))
    blocked.wait()
    yield
    for n, data in enumerate(events(10 * LIMIT // EVENT)):
        managers[n % 4].emit_event("x", data)


def journal(loop):
    """One user without a connection."""
    wsmanager.configure(
        journal_max_bytes=LIMIT, journal_max_events=1 << 20, journal_max_age=3600,
        journal_budget=1 << 40,
    )  # fmt: skip
    manager = wsmanager.get_websocket_manager("ann")
    yield
    for data in events(10 * LIMIT // EVENT):
        manager.emit_event("x", data)


def budget(loop):
    """Many users without a connection, each far below its own limit."""
    wsmanager.configure(
        journal_max_bytes=LIMIT, journal_max_events=1 << 20, journal_max_age=3600,
        journal_budget=LIMIT,
    )  # fmt: skip
    yield
    for n, data in enumerate(events(10 * LIMIT // EVENT)):
        wsmanager.get_websocket_manager(f"user-{n % 200}").emit_event("x", data)


case = {"outbox": outbox, "mailbox": mailbox, "journal": journal, "budget": budget}[NAME](running())
next(case)
before = resident()
for _ in case:
    pass
grown = resident() - before
most = LIMIT * 1.2 + OWN
print(f"{NAME} limit {LIMIT // 1024} KiB grown {grown // 1024} KiB allowed {int(most) // 1024} KiB")
sys.stdout.flush()
os._exit(grown > most)
