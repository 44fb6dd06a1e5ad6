"""The class of FastAPI's tutorial, as it is called there, on top of a manager."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final
from weakref import WeakKeyDictionary

from .._wsmanager import (
    ConnectionNotFound,
    UnifiedWebSocketManager,
    get_websocket_manager,
)
from ..adapters.starlette import closing

__all__ = ["ConnectionManager"]

_TEXT: Final = "wsmanager.compat.text"


class ConnectionManager:
    """One list of WebSockets without users, and texts to one of them or to all.

    For code that follows the chapter on WebSockets of FastAPI's documentation:
    the methods, and what goes over the wire (the text as it is, no JSON around
    it), are the same. What differs is what that class has to leave out: a peer
    that is gone, slow or frozen delays nobody and raises nothing at a
    :meth:`broadcast`, it is removed; and texts may come from any thread with
    :meth:`post`.

    Every connection counts as one of the same user, who is nobody's:
    ``configure(max_connections_per_user=...)`` limits an instance, and no other
    manager reaches it. :func:`wsmanager.broadcast` does, with JSON.

    New code asks :func:`wsmanager.get_websocket_manager` for the manager of a
    user, and sends events. One process only, as the original.
    """

    def __init__(self) -> None:
        self._key = f"{_TEXT}/{secrets.token_hex(16)}"
        self._ids: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    @property
    def _manager(self) -> UnifiedWebSocketManager:
        # Asked for each time: after a fork the registry is another one.
        return get_websocket_manager(self._key)

    @property
    def active_connections(self) -> list[Any]:
        """The WebSockets that are connected, the oldest first; a copy."""
        found = sorted(
            self._manager.active_connections.values(),
            key=lambda each: each.connection_id.generation,
        )
        return [each.websocket.websocket for each in found]

    async def connect(self, websocket: Any) -> None:
        """Accept *websocket*, an object of Starlette or FastAPI, and keep it.

        :raises ConnectionLimitError: there are as many as are allowed; it is accepted then.
        """
        await websocket.accept()
        self._ids[websocket] = self._manager.add_connection(_Text(websocket))

    def disconnect(self, websocket: Any) -> None:
        """Forget *websocket*; nothing if it was not kept, or is gone already. It is not closed."""
        connection_id = self._ids.pop(websocket, None)
        if connection_id is not None:
            self._manager.remove_connection(connection_id)

    async def send_personal_message(self, message: str, websocket: Any) -> bool:
        """Send the text *message* to *websocket*; False if it is gone.

        :raises ConnectionNotFound: for one that was never given to :meth:`connect`.
        """
        connection_id = self._ids.get(websocket)
        if connection_id is None:
            raise ConnectionNotFound(
                "this WebSocket is not connected: give it to ConnectionManager.connect() first"
            )
        data = _text(message)
        try:
            return bool(await self._manager.emit_event(_TEXT, data, connection_id=connection_id))
        except ConnectionNotFound:
            return False

    async def broadcast(self, message: str) -> int:
        """Send the text *message* to all that are connected here; how many took it."""
        receipt = await self._manager.emit_event(_TEXT, _text(message))
        return receipt.sent + receipt.queued

    def post(self, message: str) -> None:
        """:meth:`broadcast` from plain code, in any thread."""
        self._manager.emit_event(_TEXT, _text(message))


def _text(message: str) -> dict[str, str]:
    if not isinstance(message, str):
        raise TypeError(f"a message is a text, not {type(message).__name__}")
    return {"text": message}


class _Text:
    """A WebSocket to which the text alone of an event is sent."""

    def __init__(self, websocket: Any) -> None:
        self.websocket = websocket

    async def send_text(self, event: str) -> None:
        await self.websocket.send_text(_bare(event))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        going = closing(self.websocket, code, reason)
        if going is not None:
            await going


def _bare(event: str) -> str:
    """The text of an event of ours, wherever the envelope has it; any other event as it is."""
    content = json.loads(event)
    if not isinstance(content, dict) or content.get("type") != _TEXT:
        return event
    for place in (content.get("payload"), content.get("data"), content):
        if isinstance(place, dict) and isinstance(place.get("text"), str):
            text: str = place["text"]
            return text
    return event
