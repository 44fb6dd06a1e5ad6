"""What our servers have in common: one user, all connections, one ``emit_event`` per event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wsmanager

_USER = "u1"


class _Ruler:
    """A WebSocket that only notes how long the text was."""

    length = 0

    def send_text(self, text: str) -> None:
        self.length = len(text)


def paddings() -> Callable[[int], str]:
    """Return a function that gives the text whose event has the size asked for.

    It must be made and called inside the loop: the size of an empty event is
    taken from one that is really sent, to a user of its own.
    """
    known: dict[int, str] = {}
    ruler = _Ruler()
    manager = wsmanager.get_websocket_manager("u0")
    manager.add_connection(ruler)
    manager.emit_event("agent_thinking", {"text": ""})
    manager.close_all_connections()

    def padding(size: int) -> str:
        if size not in known:
            known[size] = "x" * max(0, size - ruler.length)
        return known[size]

    return padding


def configured() -> Any:
    """Return the manager of the benchmark's user, which may have thousands of connections."""
    wsmanager.configure(max_connections_per_user=100_000)
    return wsmanager.get_websocket_manager(_USER)


def emitter(manager: Any) -> Callable[[int], object]:
    """Return what emits one event of about the given size to all connections."""
    padding: Callable[[int], str] | None = None

    def emit(size: int) -> object:
        nonlocal padding
        if padding is None:
            padding = paddings()
        return manager.emit_event("agent_thinking", {"text": padding(size)})

    return emit
