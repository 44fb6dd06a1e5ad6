"""Clients of users, and what each user saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from .._wsmanager import ConnectionId, get_websocket_manager
from .inbox import Inbox, describe
from .loops import LoopThread
from .plain import FakeText

__all__ = ["Recorder"]

_C = TypeVar("_C", bound=Inbox)


class Recorder:
    """Connects fake clients to users' managers and tells what arrived, by user.

    In a coroutine a client is connected on the running loop; in a plain
    function, on a loop in a thread of its own, which is made when it is
    first needed and ends with :meth:`close`.
    """

    def __init__(self, loop_thread: Callable[[], LoopThread] | None = None) -> None:
        self._clients: list[tuple[str, Inbox, ConnectionId]] = []
        self._given = loop_thread
        self._thread: LoopThread | None = None

    def connect(self, user: Any, client: _C | None = None, **options: Any) -> _C:
        """Add a connection of *user*, and return its client.

        :param user: what ``get_websocket_manager`` takes.
        :param client: a fake, or any of your own that is an ``Inbox``;
            ``None``: a :class:`FakeText`.
        :param options: for ``add_connection``: ``thread_id``, ``connection_id``, ``resume``.
        """
        manager = get_websocket_manager(user)
        if manager.user_id is None:
            raise ValueError("connect() is for one user; None names none")
        taken: Any = FakeText() if client is None else client
        taken.user_id = manager.user_id
        identity: ConnectionId
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            identity = self._loop().call(manager.add_connection, taken, **options)
        else:
            identity = manager.add_connection(taken, **options)
        self._clients.append((manager.user_id, taken, identity))
        found: _C = taken
        return found

    def disconnect(self, client: Inbox) -> bool:
        """Remove a client's connection, as the handler does at its end; what came stays recorded."""
        for user_id, known, identity in self._clients:
            if known is client:
                return bool(get_websocket_manager(user_id).remove_connection(identity))
        raise ValueError(f"{client!r} was not connected here")

    @property
    def users(self) -> list[str]:
        """The users that had a connection, in the order of their first."""
        return list(dict.fromkeys(user for user, _, _ in self._clients))

    @property
    def events(self) -> dict[str, list[dict[str, Any]]]:
        """By user, what arrived at the user's connections, each connection after the other."""
        found: dict[str, list[dict[str, Any]]] = {user: [] for user in self.users}
        for user, client, _ in self._clients:
            found[user] += client.events
        return found

    @property
    def types(self) -> dict[str, list[str]]:
        """The same, the types only."""
        return {
            user: [str(event.get("type")) for event in events]
            for user, events in self.events.items()
        }

    def clients(self, user_id: str | None = None) -> list[Inbox]:
        """The clients, of one user or of all."""
        return [client for user, client, _ in self._clients if user_id in (None, user)]

    def describe(self) -> str:
        """What arrived, in words."""
        return (
            "\n".join(describe(client) for client in self.clients()) or "(no client is connected)"
        )

    def close(self) -> None:
        """Remove all connections; end the loop, if this made one."""
        for user, _, identity in self._clients:
            get_websocket_manager(user).remove_connection(identity)
        if self._given is None and self._thread is not None:
            self._thread.close()
        self._thread = None

    def _loop(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread().__enter__() if self._given is None else self._given()
        return self._thread
