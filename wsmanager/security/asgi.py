"""A WebSocket object for applications that are written in plain ASGI."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["AsgiWebSocket"]

_Message = MutableMapping[str, Any]


class _State(enum.Enum):
    """Named as Starlette names them."""

    CONNECTING = 0
    CONNECTED = 1
    DISCONNECTED = 2


class AsgiWebSocket:
    """The three arguments of an ASGI application as one object.

    ``manager.add_connection`` takes it, and so do the helpers of this package::

        async def app(scope, receive, send):
            websocket = AsgiWebSocket(scope, receive, send)
            if not check_origin(websocket):
                return await reject(websocket)
            await websocket.accept()

    For a server's ``wsmanager.channel`` give it to ``add_connection`` by
    ``channel=``. Use it on its own loop only.
    """

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        if scope.get("type") != "websocket":
            raise ValueError(f"the scope is of type {scope.get('type')!r:.40}, not 'websocket'")
        self.scope = scope
        self._receive = receive
        self._send = send
        self._connected = False
        self.application_state = _State.CONNECTING

    async def receive(self) -> _Message:
        """The next ASGI message."""
        message = await self._receive()
        self._connected = self._connected or message["type"] == "websocket.connect"
        return message

    async def send(self, message: _Message) -> None:
        """Send one ASGI message.

        :raises RuntimeError: after a close.
        """
        if self.application_state is _State.DISCONNECTED:
            raise RuntimeError('Cannot call "send" once a close message has been sent.')
        if message["type"] == "websocket.accept":
            self.application_state = _State.CONNECTED
        elif message["type"] == "websocket.close" or (
            message["type"] == "websocket.http.response.body" and not message.get("more_body")
        ):
            self.application_state = _State.DISCONNECTED
        await self._send(message)

    async def accept(self, subprotocol: str | None = None) -> None:
        """Complete the handshake; takes the ``websocket.connect`` if nobody has yet."""
        if not self._connected:
            message = await self.receive()
            if message["type"] != "websocket.connect":
                raise RuntimeError(f"expected 'websocket.connect', but got {message['type']!r:.40}")
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def send_text(self, data: str) -> None:
        """Send one text message."""
        await self.send({"type": "websocket.send", "text": data})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason})
