"""A day of events in one process; argv: events, users, and what to break for a control.

Every user has a connection that checks each event's number as it comes, and
leaves and comes back now and then with its position. Half of the events are
emitted on the loop, half in a thread. Prints what was delivered, what was
lost, doubled or out of order, and the resident memory over the day; exits 1 if
an event went wrong or if the memory still grows, by more than 1 MiB, after the
first tenth. Controls: "drop" and "double" tamper with what a socket gets,
"leak" keeps some of it.
"""

import asyncio
import gc
import os
import random
import sys
import threading
import time

import wsmanager

EVENTS, USERS = int(sys.argv[1]), int(sys.argv[2])
BREAK = sys.argv[3] if len(sys.argv) > 3 else ""
BATCH = 2000
TURNS = 5000  # of the loop, until what was emitted must have arrived
KEPT = 16  # so that every journal is full, and memory settled, within the first tenth
SEQ = len('{"id":"0123456789abcdef:')

wsmanager.configure(
    outbox_max_events=1_000_000,
    outbox_max_bytes=1 << 30,
    outbox_max_age=3600,
    journal_max_events=KEPT,
    journal_max_age=86_400,
)


class Client:
    """A user's tab: what it must get next, and what went wrong."""

    def __init__(self, user):
        self.manager = wsmanager.get_websocket_manager(user)
        self.epoch = self.manager.position.split(":")[0]
        self.next = 1
        self.got = self.wrong = self.returns = 0
        self.connection_id = self.manager.add_connection(self)

    def send(self, text):
        if text.startswith('{"type":"resumed"'):
            self.wrong += '"recovered":true' not in text
            return
        number = int(text[SEQ : text.index('"', SEQ)])
        self.wrong += number != self.next
        self.next = number + 1
        self.got += 1
        if BREAK and self.got % 500 == 0:
            self.tamper(text, number)

    def tamper(self, text, number):
        if BREAK == "drop":
            self.next = number
        elif BREAK == "double":
            self.send(text)
        elif BREAK == "leak":
            LEAK.append(text * 100)

    def leave(self):
        self.manager.remove_connection(self.connection_id)

    def come_back(self):
        self.returns += 1
        position = f"{self.epoch}:{self.next - 1}"
        self.connection_id = self.manager.add_connection(self, resume=position)


LEAK = []


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def emit(managers, count):
    for manager in managers:
        manager.emit_event("tick", {"of": count})


async def main():
    dice = random.Random(0)
    clients = [Client(f"user-{n}") for n in range(USERS)]
    managers = [client.manager for client in clients]
    marks, emitted, start = [], 0, time.monotonic()
    next_mark = EVENTS // 10
    away = None
    loop = asyncio.get_running_loop()
    asked, answered = threading.Event(), asyncio.Event()
    work = []

    def thread_main():
        while True:
            asked.wait()
            asked.clear()
            if not work:
                return
            emit(*work.pop())
            loop.call_soon_threadsafe(answered.set)

    thread = threading.Thread(target=thread_main)
    thread.start()
    while emitted < EVENTS:
        chosen = [managers[(emitted + n) % USERS] for n in range(min(BATCH, EVENTS - emitted))]
        if emitted // BATCH % 2:
            work.append((chosen, emitted))
            asked.set()
            await answered.wait()
            answered.clear()
        else:
            emit(chosen, emitted)
        emitted += len(chosen)
        await asyncio.sleep(0)
        if away is not None:
            away.come_back()
            await asyncio.sleep(0)
        away = dice.choice(clients)
        for _ in range(TURNS):  # it has all before it leaves: the journal is short
            if away.next > int(away.manager.position.split(":")[1]):
                break
            await asyncio.sleep(0)
        else:
            away.wrong += 1
        away.leave()
        if emitted >= next_mark:
            next_mark += EVENTS // 10
            gc.collect()
            marks.append(resident())
    if away is not None:
        away.come_back()
    asked.set()
    thread.join()
    for _ in range(TURNS):
        if sum(client.got for client in clients) >= emitted:
            break
        await asyncio.sleep(0.001)
    return clients, marks, emitted, time.monotonic() - start


clients, marks, emitted, seconds = asyncio.run(main())
got, wrong = sum(client.got for client in clients), sum(client.wrong for client in clients)
drift = marks[-1] - marks[0]
returns = sum(client.returns for client in clients)
print(f"events {emitted} users {USERS} delivered {got} wrong {wrong} returns {returns}")
print(f"KiB {marks} drift {drift} KiB; {seconds:.0f} s, {emitted / seconds:.0f} events/s")
# A sanitizer keeps freed memory back, so it cannot be measured under one.
measured = not os.environ.get("WSMANAGER_SANITIZE")
sys.exit(got != emitted or wrong > 0 or (measured and drift > 1024))
