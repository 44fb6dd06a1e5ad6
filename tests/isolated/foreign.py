"""Two hundred users, sixteen threads, tabs that come and go; argv: deliveries, and a control.

Every event names its owner, and every socket looks at each that it gets.
Prints how many were delivered and how many were another user's; exits 1 if
any was. The control "cross" hands every 10,000th event to the wrong user.
"""

import asyncio
import random
import sys
import threading
import time

import wsmanager

GOAL = int(sys.argv[1])
CROSS = len(sys.argv) > 2 and sys.argv[2] == "cross"
USERS = [f"user-{n}" for n in range(200)]
THREADS = 16

sys.setswitchinterval(1e-5)
wsmanager.configure(outbox_max_events=1_000_000, outbox_max_bytes=1 << 30, outbox_max_age=3600)


class Socket:
    """Of one user; it is written to by the thread of its loop only."""

    def __init__(self, user, counts):
        self.name = f'"user_id":"{user}"'
        self.owner = f'"owner":"{user}"'
        self.counts = counts

    def send(self, text):
        if text.startswith('{"type":"resumed"'):
            return
        self.counts[0] += 1
        if self.name not in text or self.owner not in text:
            self.counts[1] += 1


loops = []
for _ in range(4):
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    loops.append((loop, [0, 0]))


def deliveries():
    return sum(counts[0] for _, counts in loops)


def connect(user, dice, resume=None):
    loop, counts = dice.choice(loops)
    manager = wsmanager.get_websocket_manager(user)
    return manager.add_connection(Socket(user, counts), loop=loop, resume=resume)


def work(seed):
    dice = random.Random(seed)
    own, position, n = [], "", 0
    while deliveries() < GOAL:
        user = dice.choice(USERS)
        what, n = dice.random(), n + 1
        manager = wsmanager.get_websocket_manager(user)
        if what < 0.02:
            # Often with a position that is another user's.
            own.append((manager, connect(user, dice, resume=position or None)))
            position = manager.position
        elif what < 0.04 and own:
            owner, connection_id = own.pop(dice.randrange(len(own)))
            owner.remove_connection(connection_id)
        else:
            owner = user
            if CROSS and n % 10_000 == 0:
                owner = USERS[USERS.index(user) - 1]
            manager.emit_event("x", {"owner": owner, "n": n})
            if n % 64 == 0:
                time.sleep(0.002)  # for the loops


start = time.monotonic()
dice = random.Random(0)
for user in USERS:
    connect(user, dice)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
foreign = sum(counts[1] for _, counts in loops)
print(f"deliveries {deliveries()} foreign {foreign}; {time.monotonic() - start:.0f} s")
sys.exit(foreign > 0)
