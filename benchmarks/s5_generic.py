"""S5: the generic channel: any object with ``async send_text``.

Against the cheapest loop one can write over the same objects, the same event
encoded once by the fastest encoder installed. And with one object that hangs:
how many of the others have the event when the emit returns.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

from wsmanager import configure, get_websocket_manager

from . import bars
from .contexts import FakeSocket, HangingSocket
from .plan import Plan
from .rounds import interleave
from .table import Row, alone, compare

_DATA = {
    "agent_name": "triage",
    "step_number": 3,
    "reasoning": "looking at the open tickets of this week",
}


def fastest_encoder() -> tuple[str, Callable[[Any], str]]:
    """Return the name of the encoder and a function from an object to JSON text."""
    if importlib.util.find_spec("msgspec"):
        import msgspec

        encode = msgspec.json.Encoder().encode
        return "msgspec", lambda value: encode(value).decode()
    if importlib.util.find_spec("orjson"):
        import orjson

        return "orjson", lambda value: orjson.dumps(value).decode()
    return "json", json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def envelope(number: int, data: dict[str, Any]) -> dict[str, Any]:
    """Return the same event as a program without wsmanager would make it."""
    return {
        "id": f"0123456789abcdef:{number}",
        "type": "agent_thinking",
        "payload": data,
        "user_id": "u1",
        "thread_id": None,
        "run_id": None,
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "agent_name": data["agent_name"],
    }


async def _timed(send: Callable[[], Awaitable[object]], events: int, deliveries: int) -> float:
    start = time.process_time()
    for _ in range(events):
        await send()
    return (time.process_time() - start) / deliveries * 1e9


class _Senders:
    """Ours and the loops, over the same sockets."""

    def __init__(self, count: int, encode: Callable[[Any], str]) -> None:
        self.sockets = [FakeSocket() for _ in range(count)]
        self._encode = encode
        self._manager = get_websocket_manager("u1")
        for socket in self.sockets:
            self._manager.add_connection(socket)
        self._methods = [socket.send_text for socket in self.sockets]
        self._text = encode(envelope(1, _DATA))
        self._number = 0

    def ours(self) -> Awaitable[object]:
        return self._manager.emit_event("agent_thinking", _DATA)

    async def loop(self) -> None:
        self._number += 1
        text = self._encode(envelope(self._number, _DATA))
        for socket in self.sockets:
            await socket.send_text(text)

    async def bound_loop(self) -> None:
        self._number += 1
        text = self._encode(envelope(self._number, _DATA))
        for send_text in self._methods:
            await send_text(text)

    async def loop_of_text(self) -> None:
        text = self._text
        for socket in self.sockets:
            await socket.send_text(text)


def _compare_loops(plan: Plan, runner: Callable[[Any], Any], count: int) -> list[Row]:
    encoder, encode = fastest_encoder()
    plan.progress.step(f"S5: generic channel, {count} objects")
    events = max(5, int(plan.loop * 2 / (count * 80e-9)))

    async def prepare() -> _Senders:
        return _Senders(count, encode)

    senders = runner(prepare())

    def timed(send: Callable[[], Awaitable[object]]) -> Callable[[], float]:
        def measure() -> float:
            before = sum(socket.received for socket in senders.sockets)
            cost = runner(_timed(send, events, events * count))
            got = sum(socket.received for socket in senders.sockets) - before
            if got != events * count:
                raise RuntimeError(f"{got} of {events * count} events arrived")
            return float(cost)

        return measure

    results = interleave(
        {
            "ours": timed(senders.ours),
            "loop": timed(senders.loop),
            "bound": timed(senders.bound_loop),
            "text": timed(senders.loop_of_text),
        },
        plan.rounds * 2,
        plan.progress.detail,
    )
    cheapest = min(("loop", "bound"), key=lambda name: bars.middle(results[name]))
    name = f"generic channel, {count} objects"
    return [
        compare(
            "S5",
            name,
            "cheapest hand-written loop",
            results["ours"],
            results[cheapest],
            bars.GENERIC,
            "ns",
            version=encoder,
        ),
        compare(
            "S5",
            name,
            "the same loop, nothing to encode",
            results["ours"],
            results["text"],
            bars.SHARE,
            "ns",
        ),
    ]


async def _with_one_that_hangs(count: int) -> tuple[int, int]:
    """Return how many others have the event after our emit, and after a loop with 50 ms of patience."""
    manager = get_websocket_manager("u2")
    others = [FakeSocket() for _ in range(count - 1)]
    sockets = [*others[: count // 2], HangingSocket(), *others[count // 2 :]]
    for socket in sockets:
        manager.add_connection(socket)
    manager.emit_event("agent_thinking", _DATA)
    await asyncio.sleep(0)
    ours = sum(socket.received for socket in others)

    async def loop() -> None:
        for socket in sockets:
            await socket.send_text("{}")

    task = asyncio.create_task(loop())
    await asyncio.wait([task], timeout=0.05)
    task.cancel()
    manager.close_all_connections()
    return ours, sum(socket.received for socket in others) - ours


def run(plan: Plan) -> list[Row]:
    """Measure 100 and 1,000 objects, then one that hangs among 100."""
    configure(max_connections_per_user=100_000)
    loop = asyncio.new_event_loop()
    try:
        rows = _compare_loops(plan, loop.run_until_complete, 100)
        loop.run_until_complete(_close("u1"))
        rows += _compare_loops(plan, loop.run_until_complete, 1000)
        ours, hand = loop.run_until_complete(_with_one_that_hangs(100))
    finally:
        loop.close()
    note = f"a hand-written loop: {hand} of 99 after 50 ms"
    rows.append(
        alone(
            "S5",
            "one of 100 hangs: others served in that turn",
            [ours],
            bars.everyone_else(99),
            "connections",
            note=note,
        )
    )
    return rows


async def _close(user: str) -> None:
    get_websocket_manager(user).close_all_connections()
    await asyncio.sleep(0)
