"""A fake ASGI server's end of one WebSocket: scope, receive and send, as uvicorn gives them."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from ._feed import Feed
from .inbox import Inbox

__all__ = ["FakeAsgi"]

_Message = MutableMapping[str, Any]
_BEFORE: Final = "'websocket.accept', 'websocket.close' or 'websocket.http.response.start'"
_OPEN: Final = "'websocket.send' or 'websocket.close'"


class FakeAsgi(Inbox):
    """Drive an ASGI application with it: ``await app(fake.scope, fake.receive, fake.send)``.

    It also has the ``send_text`` and ``close`` by which plain ASGI
    applications put their WebSocket into a manager. It answers and refuses
    as uvicorn does: the wrong message at the wrong time is a ``RuntimeError``,
    a send to a client that has gone a ``ClientDisconnected`` (an ``OSError``).

    :param path: of the URL.
    :param headers: of the handshake.
    :param query: what follows the ``?``.
    :param subprotocols: what the client asks for.
    :param accepted: begin after the handshake.
    """

    def __init__(
        self,
        path: str = "/ws",
        headers: Iterable[tuple[str, str]] = (),
        query: str = "",
        subprotocols: Iterable[str] = (),
        *,
        accepted: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        protocols = list(subprotocols)
        pairs = [("host", "testserver"), *headers]
        if protocols:
            pairs.append(("sec-websocket-protocol", ", ".join(protocols)))
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": ("testserver", 80),
            "client": ("testclient", 50000),
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in pairs
            ],
            "subprotocols": protocols,
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }
        self.accepted = accepted
        self.subprotocol: str | None = None
        """What the application accepted with."""
        self.status: int | None = None
        """The HTTP status of a handshake that was refused."""
        self.body = b""
        """The body of a denial response."""
        self._closed = False
        self._gone = False
        self._farewell: _Message | None = None
        self._feed = Feed()
        if not accepted:
            self._feed.put({"type": "websocket.connect"})

    # -- the client's side

    def push(self, message: str | bytes) -> None:
        """Send a message from the client; any thread."""
        key = "text" if isinstance(message, str) else "bytes"
        self._feed.put({"type": "websocket.receive", key: message})

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """The client closes, or vanishes (1006); any thread.

        Sends fail from now on; before the accept, as part of a script of what
        the client will do: from when the application has read of it.
        """
        self._gone = self.accepted
        self._farewell = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._feed.put(self._farewell)

    # -- the application's side

    async def receive(self) -> _Message:
        """The next ASGI message."""
        message: _Message = await self._feed.get()
        self._gone = self._gone or message is self._farewell
        return message

    async def send(self, message: _Message) -> None:
        """Take one ASGI message."""
        kind = message["type"]
        if self._gone:
            raise _client_disconnected()
        if self._closed:
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}', after sending 'websocket.close'."
            )
        if self.status is not None:
            self._take_denial(kind, message)
        elif not self.accepted:
            self._take_answer(kind, message)
        elif kind == "websocket.send":
            data = message.get("bytes")
            self.take(message["text"] if data is None else data)
        elif kind == "websocket.close":
            self._close(message.get("code", 1000), message.get("reason") or "")
        else:
            raise RuntimeError(f"Expected ASGI message {_OPEN}, but got '{kind}'.")

    async def send_text(self, data: str) -> None:
        """Send one text message, as a plain ASGI application's own socket object does."""
        await self.send({"type": "websocket.send", "text": data})

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close it."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason or ""})

    def _take_answer(self, kind: str, message: _Message) -> None:
        if kind == "websocket.accept":
            self.accepted = True
            self.subprotocol = message.get("subprotocol")
        elif kind == "websocket.close":
            # HTTP 403: no close code reaches the client.
            self.status = 403
            self._close(1006, "")
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        else:
            raise RuntimeError(f"Expected ASGI message {_BEFORE} but got '{kind}'.")

    def _take_denial(self, kind: str, message: _Message) -> None:
        if kind != "websocket.http.response.body":
            raise RuntimeError(
                f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'."
            )
        self.body += message.get("body", b"")
        if not message.get("more_body", False):
            self._close(1006, "")

    def _close(self, code: int, reason: str) -> None:
        self._closed = True
        self.take_close(code, reason)
        self._feed.put({"type": "websocket.disconnect", "code": code, "reason": reason})


def _client_disconnected() -> OSError:
    """uvicorn's own error where it is installed."""
    try:
        from uvicorn.protocols.utils import ClientDisconnected
    except ImportError:
        return ConnectionError("the client has disconnected")
    return ClientDisconnected()
