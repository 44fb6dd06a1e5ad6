"""What a connection of the direct channel has queued when another thread removes it."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

from support.loops import LoopThread
from support.wire import Line, events

from wsmanager import get_manager_registry_status, get_websocket_manager
from wsmanager._wsmanager import Channel


def attach(manager: Any, line: Line) -> Any:
    return manager.add_connection(line, channel=Channel(line.transport))


def test_its_loop_writes_it_in_its_next_turn(loop_thread: LoopThread) -> None:
    manager = get_websocket_manager("ann")
    line = loop_thread.run(Line.open())
    connection_id = loop_thread.call(attach, manager, line)
    busy = threading.Event()
    loop_thread.loop.call_soon_threadsafe(busy.wait, 30)
    deliveries = [manager.emit_event("x", {"n": n}) for n in range(3)]
    assert manager.remove_connection(connection_id)
    assert [each.receipt.queued for each in deliveries] == [1, 1, 1]
    busy.set()
    loop_thread.call(lambda: None)
    assert [event["payload"]["n"] for event in events(line.read_now())] == [0, 1, 2]
    assert [each.receipt.sent for each in deliveries] == [1, 1, 1]
    loop_thread.run(line.shut())


def test_it_has_failed_if_its_loop_closes_before_that() -> None:
    """A loop lets go of what it has not run; the receipts say so, and who waits is told."""
    manager = get_websocket_manager("ann")
    loop = asyncio.new_event_loop()
    line = loop.run_until_complete(Line.open())

    async def add() -> Any:
        return attach(manager, line)

    connection_id = loop.run_until_complete(add())
    failed = get_manager_registry_status()["deliveries_failed"]
    deliveries = [manager.emit_event("x", {"n": n}, detail=True) for n in range(3)]

    async def wait() -> bool:
        flushed = asyncio.ensure_future(deliveries[-1].flushed(5))
        await asyncio.sleep(0)
        loop.close()
        gc.collect()
        return await flushed

    assert manager.remove_connection(connection_id)
    assert asyncio.run(wait()), "nothing waits any more"
    for each in deliveries:
        assert (each.receipt.queued, each.receipt.failed) == (0, 1)
        assert each.receipt.reasons == {connection_id: "loop closed"}
    assert get_manager_registry_status()["deliveries_failed"] == failed + 3
    line.transport._call_connection_lost(None)  # as its loop would
    line.peer.close()
