"""The record of one WebSocket that ``add_connection`` also takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

__all__ = ["WebSocketConnection"]


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class WebSocketConnection:
    """What is known of one WebSocket before it is registered.

    Give it to ``manager.add_connection``. A manager takes only connections of
    its own user: a record with another ``user_id`` is a
    :class:`~wsmanager.UserIsolationError`. The manager of ``None`` passes a
    record on to the manager of the user it names.

    :param connection_id: the id to register under; ``None``: one is made.
    :param user_id: whose connection it is; ``None``: the manager's user.
    :param websocket: the accepted WebSocket of any supported library, or any
        object with ``send_text``, ``send_str`` or ``send``.
    :param connected_at: when it was accepted, an aware time (UTC).
    :param metadata: anything of yours; kept, never sent.
    :param thread_id: the chat thread the connection shows, for
        ``send_to_thread``.
    """

    connection_id: str | None = None
    user_id: str | None = None
    websocket: Any = None
    connected_at: datetime = field(default_factory=_now)
    metadata: Mapping[str, Any] | None = None
    thread_id: str | None = None
