"""Starlette's and FastAPI's own WebSocket, over a fake server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .asgi import FakeAsgi
from .inbox import Inbox

try:
    from starlette.websockets import WebSocket, WebSocketState
except ImportError as _missing:
    raise ImportError(
        "FakeStarlette is Starlette's own WebSocket over a fake server, and Starlette is not "
        "installed: pip install 'wsmanager[fastapi]'. FakeText needs nothing."
    ) from _missing

__all__ = ["FakeStarlette"]


class FakeStarlette(WebSocket, Inbox):
    """A ``starlette.websockets.WebSocket``: every state, method and error is the library's own.

    :param accepted: begin after ``accept()``, as a WebSocket that is given to
        a manager; false: your endpoint accepts it.

    The other parameters are those of :class:`FakeAsgi`.
    """

    def __init__(
        self,
        path: str = "/ws",
        headers: Iterable[tuple[str, str]] = (),
        query: str = "",
        subprotocols: Iterable[str] = (),
        *,
        accepted: bool = True,
        name: str | None = None,
    ) -> None:
        self.server = FakeAsgi(path, headers, query, subprotocols, accepted=accepted, name=name)
        """What is below it."""
        WebSocket.__init__(self, self.server.scope, self.server.receive, self._pass_on)
        Inbox.__init__(self, name)
        if accepted:
            self.client_state = WebSocketState.CONNECTED
            self.application_state = WebSocketState.CONNECTED

    async def _pass_on(self, message: Any) -> None:
        before = self.server.closed_with
        await self.server.send(message)
        if message["type"] == "websocket.send":
            data = message.get("bytes")
            self.take(message["text"] if data is None else data)
        elif before is None and self.server.closed_with is not None:
            self.take_close(*self.server.closed_with)

    def push(self, message: str | bytes) -> None:
        """Send a message from the client; any thread."""
        self.server.push(message)

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """The client closes, or vanishes (1006); any thread. See :meth:`FakeAsgi.disconnect`."""
        self.server.disconnect(code, reason)

    __hash__ = object.__hash__
    __repr__ = Inbox.__repr__
