"""Log-out, revocation and expiry that reach the sockets that are open already."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from .._log import hashed
from .._wsmanager import Connection, UnifiedWebSocketManager, get_websocket_manager
from ..errors import ConnectionNotFound
from ._expiring import Expiring
from .errors import SessionEnded

__all__ = ["Sessions"]

_logger: Final = logging.getLogger("wsmanager.security")

LOOK: Final = 60.0
"""Seconds at most between two looks at a connection that is going to expire."""

UNAUTHORIZED: Final = 3000
"""The close code of an ended session, "Unauthorized" in IANA's registry of close codes."""


_Key = tuple[str | None, str, int]
"""User, connection id and generation: an id is unique among its user's connections only."""


class _Member:
    """One connection of a session."""

    __slots__ = ("connection", "deadline", "key", "session_id", "timer")

    def __init__(self, connection: Connection, session_id: str, deadline: float) -> None:
        self.connection = connection
        self.key = _key(connection)
        self.session_id = session_id
        self.deadline = deadline  # of time.monotonic(); math.inf: none
        self.timer: asyncio.TimerHandle | None = None  # touched on the connection's loop only


class Sessions:
    """Which connection belongs to which log-in session, and until when.

    ::

        sessions = Sessions()
        connection_id = manager.add_connection(websocket)
        sessions.register(manager, connection_id, claims["sid"], claims["exp"])
        ...
        sessions.close_session(sid)                  # log-out: its sockets close now
        sessions.refresh(sid, new_claims["exp"])     # a new token, the same sockets

    All of it may be called from any thread. A connection is closed by its own
    loop, and removed from its manager before that, so no event emitted after
    ``close_session`` returned, or after the expiry was seen, is sent to it. An
    expired one is closed by a timer of its loop: as late as that loop is
    blocked, and no more. Expiry counts on the monotonic clock from the moment
    it is told.

    It knows the connections of its own process: where several share the
    users, tell ``close_session`` to each.

    :param code: the close code; 3000 is "Unauthorized".
    :param remember: seconds a closed session is remembered, so that a
        connection that was being opened meanwhile is refused. Make it the
        longest a handshake takes.
    :param max_remembered: the most such sessions remembered.
    """

    def __init__(
        self, *, code: int = UNAUTHORIZED, remember: float = 60.0, max_remembered: int = 100_000
    ) -> None:
        self._code = code
        self._remember = remember
        self._max_remembered = max_remembered
        self._lock = threading.Lock()
        self._members: OrderedDict[_Key, _Member] = OrderedDict()
        self._by_session: dict[str, dict[_Key, _Member]] = {}
        self._ended: Expiring[str, bool] = Expiring()  # sessions closed, while remembered

    def __repr__(self) -> str:
        with self._lock:
            return f"<Sessions: {len(self._by_session)} with {len(self._members)} connections>"

    def __len__(self) -> int:
        """How many connections are known."""
        with self._lock:
            return len(self._members)

    def __bool__(self) -> bool:
        return True

    def register(
        self,
        manager: UnifiedWebSocketManager,
        connection_id: str,
        session_id: str | None = None,
        expires_at: float | datetime | None = None,
    ) -> None:
        """Tie a connection to a session. What is not given is read from its metadata.

        :param manager: the one whose ``add_connection`` gave the id.
        :param connection_id: what it gave. The mapping that its
            ``WebSocketConnection`` carried as ``metadata`` may hold
            ``session_id`` and ``expires_at``.
        :param session_id: never logged, and in no ``repr``.
        :param expires_at: Unix time in seconds, as a token's ``exp``, or an
            aware ``datetime``; ``None``: it does not expire by itself.
        :raises ConnectionNotFound: if that manager has no such connection.
        :raises SessionEnded: if the session was closed, or has expired; the
            connection is then closed with the close code.
        :raises TypeError, ValueError: for a session or time of the wrong kind.
        """
        connection = manager.get_connection(connection_id)
        if connection is None:
            raise ConnectionNotFound(
                "this manager has no such connection; register it after add_connection"
            )
        data = connection.metadata if isinstance(connection.metadata, Mapping) else {}
        session = data.get("session_id") if session_id is None else session_id
        if not isinstance(session, str) or not session:
            raise TypeError(f"session_id is a text that is not empty, not {type(session).__name__}")
        deadline = _deadline(data.get("expires_at") if expires_at is None else expires_at)
        member = _Member(connection, session, deadline)
        idle: list[_Member] = []
        with self._lock:
            ended = bool(self._ended.get(session)) or deadline <= time.monotonic()
            if not ended:
                idle = self._enter(member)
        if ended:
            _close(connection, self._code, "session ended")
            raise SessionEnded("the session has ended; its connection is closed")
        for each in (member, *idle):
            self._wake(each)

    def unregister(self, manager: UnifiedWebSocketManager, connection_id: str) -> bool:
        """Forget a connection; it stays open. Not needed for one that ended: that is noticed."""
        connection = manager.get_connection(connection_id)
        with self._lock:
            member = None if connection is None else self._members.get(_key(connection))
            if member is None:
                return False
            self._leave(member)
        self._set(member, math.inf)
        return True

    def close_session(
        self, session_id: str, code: int | None = None, reason: str = "session ended"
    ) -> int:
        """Close every connection of a session, whichever user, thread or loop it is of; how many there were.

        :param code: the close code; by default the one given to ``Sessions``.
        :param reason: up to 123 bytes, for the client to read.
        """
        with self._lock:
            self._remember_end(session_id)
            members = list(self._by_session.get(session_id, {}).values())
            for member in members:
                self._leave(member)
        closed = 0
        for member in members:
            self._set(member, math.inf)
            closed += _close(member.connection, self._code if code is None else code, reason)
        _logger.info(
            "session closed: session_hash=%s connections=%d", hashed(session_id), closed,
            extra={"event": "session", "reason": "closed", "session_hash": hashed(session_id)},
        )  # fmt: skip
        return closed

    def refresh(self, session_id: str, expires_at: float | datetime | None) -> int:
        """Give all connections of a session a new expiry, later or sooner, without a reconnect; how many.

        A session that has ended has none: 0. An expiry in the past closes them.
        """
        deadline = _deadline(expires_at)
        with self._lock:
            members = [
                member
                for member in self._by_session.get(session_id, {}).values()
                if member.connection.is_active
            ]
        for member in members:
            self._set(member, deadline)
        return len(members)

    # -- under the lock

    def _enter(self, member: _Member) -> list[_Member]:
        """Add it; gives those to be woken, to let go of their connections."""
        idle: list[_Member] = []
        key = member.key
        before = self._members.get(key)
        if before is not None:
            before.deadline = math.inf  # its timer must not end what has a new entry
            idle.append(before)
            self._leave(before)
        self._members[key] = member
        self._by_session.setdefault(member.session_id, {})[key] = member
        # Two looks for each new one: what ended by itself is found before it doubles the table.
        for old in [each for each, _ in zip(self._members, range(2), strict=False)]:
            known = self._members[old]
            if known.connection.is_active:
                self._members.move_to_end(old)
            else:
                idle.append(known)
                self._leave(known)
        return idle

    def _leave(self, member: _Member) -> None:
        key = member.key
        if self._members.get(key) is member:
            del self._members[key]
        session = self._by_session.get(member.session_id)
        if session is not None and session.get(key) is member:
            del session[key]
            if not session:
                del self._by_session[member.session_id]

    def _remember_end(self, session_id: str) -> None:
        self._ended.expired()
        self._ended.put(session_id, True, time.monotonic() + self._remember)
        while len(self._ended) > self._max_remembered:
            self._ended.pop_first()

    # -- time

    def _set(self, member: _Member, deadline: float) -> None:
        member.deadline = deadline
        self._wake(member)

    def _wake(self, member: _Member) -> None:
        """Look at its deadline anew, on its loop; may be called from any thread."""
        try:
            member.connection.loop.call_soon_threadsafe(self._arm, member)
        except RuntimeError:  # the loop is closed, and so is the connection
            with self._lock:
                self._leave(member)

    def _arm(self, member: _Member) -> None:
        """On the loop: a timer for the deadline as it is now."""
        if member.timer is not None:
            member.timer.cancel()
            member.timer = None
        if not member.connection.is_active:
            with self._lock:
                self._leave(member)
            return
        left = member.deadline - time.monotonic()
        if left <= 0:
            self._expire(member)
        elif left < math.inf:
            # Not all the way: a connection that ends meanwhile is let go of by the next look.
            member.timer = member.connection.loop.call_later(min(left, LOOK), self._arm, member)

    def _expire(self, member: _Member) -> None:
        with self._lock:
            self._leave(member)
        if _close(member.connection, self._code, "session expired"):
            _logger.info(
                "session expired: session_hash=%s", hashed(member.session_id),
                extra={"event": "session", "reason": "expired",
                       "session_hash": hashed(member.session_id)},
            )  # fmt: skip


def _key(connection: Connection) -> _Key:
    return (connection.user_id, str(connection.connection_id), connection.generation)


def _close(connection: Connection, code: int, reason: str) -> bool:
    """Remove the connection and close its socket on its own loop; false if it was gone."""
    if not connection.is_active:
        return False
    manager = get_websocket_manager(connection.user_id)
    return manager.disconnect_user(connection.user_id, connection.websocket, code, reason).value > 0  # type: ignore[arg-type]


def _deadline(expires_at: Any) -> float:
    """Unix time or an aware datetime, as a time of the monotonic clock."""
    if expires_at is None:
        return math.inf
    if isinstance(expires_at, datetime):
        if expires_at.tzinfo is None:
            raise ValueError("expires_at is an aware datetime: give it a timezone")
        expires_at = expires_at.timestamp()
    if isinstance(expires_at, bool) or not isinstance(expires_at, (int, float)):
        raise TypeError(
            f"expires_at is Unix time in seconds or a datetime, not {type(expires_at).__name__}"
        )
    if math.isnan(expires_at):
        raise ValueError("expires_at is not a number")
    return time.monotonic() + (expires_at - time.time())
