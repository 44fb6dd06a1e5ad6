"""Objects whose sends end, suspend, raise or turn plain at random, many to an event.

    python pump.py [EVENTS] [SOCKETS] [SEED]

Each socket that stays must have seen each event once and in order, each receipt
must add up to what the sockets counted, and a context variable that a send sets
must be there when it resumes, and in no other socket's. Ends with 1 if not.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import json
import random
import sys
from typing import Any

from wsmanager import get_websocket_manager

EVENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 300
SOCKETS = int(sys.argv[2]) if len(sys.argv) > 2 else 40
dice = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
MODES = {"coroutine": 80, "plain": 3, "none": 3, "bad call": 2, "raises": 4, "suspends": 6,
         "fails late": 2, "emits": 2, "keeps task": 2}  # fmt: skip
modes, weights = list(MODES), list(MODES.values())
mine: contextvars.ContextVar[object] = contextvars.ContextVar("mine")
left: contextvars.ContextVar[object] = contextvars.ContextVar("left")
wrong: list[str] = []
failures: collections.Counter[str] = collections.Counter()
kept: list[Any] = []


class Socket:
    """Does with each event what the dice say."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def send_text(self, text: str) -> Any:
        mode = dice.choices(modes, weights)[0]
        event = json.loads(text)
        if mode == "bad call":
            failures[event["id"]] += 1
            self.seen.append(event["id"])
            raise TypeError("no such argument")
        if mode in ("plain", "none"):
            self.seen.append(event["id"])
            return 5 if mode == "plain" else None
        return self.send(mode, event)

    async def send(self, mode: str, event: dict[str, Any]) -> None:
        if left.get(self) is not self:
            wrong.append("what another socket's send left")
        if dice.random() < 0.02:
            left.set(self)
        token = mine.set(self)
        self.seen.append(event["id"])
        if mode == "emits" and event["type"] == "x":
            get_websocket_manager("ann").emit_event("y", {})
        if mode == "keeps task":
            kept.append(asyncio.current_task())
        if mode in ("suspends", "fails late"):
            await asyncio.sleep(0)
        if mine.get() is not self:
            wrong.append("another send's context")
        mine.reset(token)
        if mode in ("raises", "fails late"):
            failures[event["id"]] += 1
            raise TypeError("in the send") if dice.random() < 0.5 else ValueError("in the send")


async def main() -> None:
    from wsmanager import configure

    configure(error_limit=10**9, outbox_max_events=10**6, outbox_max_bytes=10**9)
    manager = get_websocket_manager("ann")
    sockets = [Socket() for _ in range(SOCKETS)]
    for socket in sockets:
        manager.add_connection(socket)
    for n in range(EVENTS):
        delivery = manager.emit_event("x", {"n": n})
        if not await delivery.flushed(30):
            wrong.append(f"{delivery!r} is not flushed")
        receipt = delivery.receipt
        if receipt.sent + receipt.failed != SOCKETS or receipt.queued or receipt.dropped:
            wrong.append(f"{receipt!r} does not add up")
        if receipt.failed != failures[str(delivery.id)]:
            wrong.append(f"{receipt!r}, but {failures[str(delivery.id)]} raised")
    await asyncio.sleep(0.05)
    last = int(manager.position.split(":")[1])
    expected = [f"{manager.position.split(':')[0]}:{n + 1}" for n in range(last)]
    wrong.extend(
        f"a socket saw {len(socket.seen)} of {last}"
        for socket in sockets
        if socket.seen != expected
    )
    if left.get(None) is not None or mine.get(None) is not None:
        wrong.append("the emitter has what a send left")
    if len(manager._connections) != SOCKETS:
        wrong.append("a connection was removed")


asyncio.run(main())
print(f"events {EVENTS} sockets {SOCKETS} wrong {len(wrong)}", *wrong[:5], sep="\n")
sys.exit(bool(wrong))
