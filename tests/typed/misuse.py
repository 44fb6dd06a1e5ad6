"""Wrong uses: every ignored error is one, or the comment would be. Not executed."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from wsmanager import (
    UnifiedWebSocketManager,
    configure,
    get_websocket_manager,
    get_websocket_manager_async,
)


async def main() -> None:
    await get_websocket_manager("ann")  # type: ignore[misc]
    get_websocket_manager_async("ann").emit_event("x", {})  # type: ignore[attr-defined]
    configure(envelope="no-such")  # type: ignore[arg-type]
    get_websocket_manager("ann", unknown=1)  # type: ignore[call-arg]


def emits(manager: UnifiedWebSocketManager, user: object) -> None:
    manager.emit_event()  # type: ignore[call-overload]
    manager.emit_event({"type": "x"})  # type: ignore[call-overload]
    manager.emit_event("x", {}, thread="t")  # type: ignore[call-overload]
    manager.emit_event("x", dat={})  # type: ignore[call-overload]
    manager.emit_event("x", {}, event_data={})  # type: ignore[call-overload]
    manager.emit_event("x", {}, thread_id=5)  # type: ignore[call-overload]
    manager.emit_event("c-1", "x", {}, connection_id="c-2")  # type: ignore[call-overload]
    manager.emit_event("c-1", "x", data={})  # type: ignore[call-overload]
    manager.emit_event("c-1", "x", {}, {})  # type: ignore[call-overload]
    manager.emit_event(data={})  # type: ignore[call-overload]
    manager.send_event("x", {}, thread="t")  # type: ignore[call-overload]
    manager.emit_critical_event()  # type: ignore[call-overload]
    manager.emit_critical_event("x", {}, thread="t")  # type: ignore[call-overload]
    manager.emit_critical_event(user, "x")  # type: ignore[call-overload]
    manager.emit_critical_event("ann", "x", {}, user_id="bob")  # type: ignore[call-overload]
    manager.emit_critical_event("ann", "x", {}, event_data={})  # type: ignore[call-overload]
    manager.emit_critical_event("ann", "x", {}, {})  # type: ignore[call-overload]
    manager.emit_critical_event(user_id="ann", data={})  # type: ignore[call-overload]
