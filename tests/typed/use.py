"""Right uses: the checkers of types have nothing to say. Not executed."""

from __future__ import annotations

import asyncio
import sys

from typing_extensions import assert_type

from wsmanager import (
    ConnectionId,
    Receipt,
    UnifiedWebSocketManager,
    WebSocketConnection,
    broadcast,
    configure,
    get_websocket_manager,
    get_websocket_manager_async,
)
from wsmanager.bridge import AgentWebSocketBridge


async def main(websocket: object) -> None:
    manager = get_websocket_manager({"user_id": "ann"})
    assert_type(manager, UnifiedWebSocketManager)
    assert_type(await get_websocket_manager_async("ann"), UnifiedWebSocketManager)
    connection_id = manager.add_connection(websocket)
    await manager.add_connection(WebSocketConnection(user_id="ann", websocket=websocket))
    assert_type(await manager.emit_event("agent_started", {"n": 1}), Receipt)
    assert_type(await manager.remove_connection(connection_id), bool)
    assert_type(await manager.emit_event("x", {}).flushed(1.0), bool)
    assert_type(broadcast({"type": "x"}), int)
    bridge = AgentWebSocketBridge(manager)
    if not bridge.notify_agent_started("run", "agent"):
        configure(envelope="mixed", outbox_max_events=10)


async def as_coroutines(loop: asyncio.AbstractEventLoop) -> None:
    """What asyncio does with a coroutine; a call that is not awaited is no mistake all the same."""
    task = asyncio.create_task(get_websocket_manager_async("ann"))
    manager = await task
    assert_type(manager, UnifiedWebSocketManager)
    delivery = manager.emit_event("x", {})
    assert_type(await asyncio.create_task(delivery), Receipt)
    assert_type(await asyncio.create_task(manager.remove_connection("a")), bool)
    assert_type(await asyncio.wait_for(delivery, 1), Receipt)
    assert_type(asyncio.run_coroutine_threadsafe(delivery, loop).result(), Receipt)
    receipt, closed = await asyncio.gather(delivery, manager.close_all_connections())
    assert_type(receipt, Receipt)
    assert_type(closed, int)
    if sys.version_info >= (3, 11):
        async with asyncio.TaskGroup() as group:
            group.create_task(delivery)
            group.create_task(get_websocket_manager_async("ann"))
            group.create_task(manager.acknowledge("e:1"))
    manager.emit_event("x", {})
    manager.remove_connection("a")


def with_a_loop_of_its_own() -> None:
    manager = asyncio.run(get_websocket_manager_async("ann"))
    assert_type(manager, UnifiedWebSocketManager)
    assert_type(asyncio.run(manager.emit_event("x")), Receipt)


def emits(manager: UnifiedWebSocketManager, connection_id: ConnectionId, user: object) -> None:
    for emit in (manager.emit_event, manager.send_event):
        emit("x")
        emit("x", {"n": 1})
        emit("x", data={"n": 1}, thread_id="t", run_id=None)
        emit("x", event_data={"n": 1}, critical=True, detail=True)
        emit(event_type="x", data={"n": 1}, ack=True)
        emit(event_type="x", event_data={"n": 1}, idempotency_key="k")
        emit("x", {"n": 1}, user_id=user)
        emit("x", {"n": 1}, connection_id=connection_id)
        emit(connection_id, "x", {"n": 1})
        emit("c-1", "x", {"n": 1}, thread_id="t", detail=True)
    critical = manager.emit_critical_event
    critical("x")
    critical("x", {"n": 1})
    critical("x", data={"n": 1}, run_id="r")
    critical("x", event_data={"n": 1}, user_id=user)
    critical(user_id="ann", event_type="x", event_data={"n": 1})
    critical(user_id=user, event_type="x", data={"n": 1}, thread_id="t")
    critical("ann", "x", {"n": 1})
    critical(user, "x", data={"n": 1})
    critical("ann", "x", event_data={"n": 1}, ack=True)
    critical("ann", event_type="x", data={"n": 1})
    critical("ann", event_type="x", event_data={"n": 1})
    critical(user, event_type="x")
