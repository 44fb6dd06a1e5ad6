"""A fake of aiohttp's WebSocket on a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ._feed import Feed
from .inbox import Inbox

try:
    from aiohttp import WSCloseCode, WSMessage, WSMsgType
    from aiohttp.client_exceptions import ClientConnectionResetError
except ImportError as _missing:
    raise ImportError(
        "FakeAiohttp needs aiohttp 3.11 or later for its messages and errors: "
        "pip install aiohttp. FakeText needs nothing."
    ) from _missing

__all__ = ["FakeAiohttp"]


class _Marked:
    """Makes the package take a fake for what it stands for: libraries are known by name."""

    __module__ = "aiohttp.web_ws"
    __qualname__ = "WebSocketResponse"


class FakeAiohttp(Inbox, _Marked):
    """``aiohttp.web.WebSocketResponse`` after ``prepare()``: send, receive, close, iteration."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self._feed = Feed()
        self._closed = False
        self._gone = False
        self._code: int | None = None
        self._lost_reads = 0

    @property
    def prepared(self) -> bool:
        """It is."""
        return True

    @property
    def closed(self) -> bool:
        """Whether it is closed, as far as the application was told."""
        return self._closed

    @property
    def close_code(self) -> int | None:
        """The code of the close."""
        return self._code

    @property
    def ws_protocol(self) -> str | None:
        """No subprotocol."""
        return None

    def exception(self) -> BaseException | None:
        """No error of its own."""
        return None

    def push(self, message: str | bytes) -> None:
        """Send a message from the client; any thread."""
        kind = WSMsgType.TEXT if isinstance(message, str) else WSMsgType.BINARY
        self._feed.put(WSMessage(kind, message, None))

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """The client closes, or vanishes (1006); any thread."""
        self._gone = True
        self._feed.put(WSMessage(WSMsgType.CLOSE, code, reason))

    async def send_str(self, data: str, compress: int | None = None) -> None:
        """Send text; ClientConnectionResetError after the end."""
        if not isinstance(data, str):
            raise TypeError(f"data argument must be str ({type(data)!r})")
        self._send(data)

    async def send_bytes(self, data: bytes, compress: int | None = None) -> None:
        """Send bytes; ClientConnectionResetError after the end."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be byte-ish ({type(data)!r})")
        self._send(bytes(data))

    async def send_json(
        self, data: Any, compress: int | None = None, *, dumps: Callable[[Any], str] = json.dumps
    ) -> None:
        """Send JSON as text."""
        await self.send_str(dumps(data), compress=compress)

    async def close(
        self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True
    ) -> bool:
        """Close; false if it is closed already."""
        if self._closed:
            return False
        self._closed = True
        self._code = int(code)
        if not self._gone:
            self.take_close(int(code), bytes(message).decode())
        return True

    async def receive(self, timeout: float | None = None) -> WSMessage:
        """The client's next message; CLOSED once it is closed."""
        if self._closed:
            self._lost_reads += 1
            if self._lost_reads >= 5:
                raise RuntimeError("WebSocket connection is closed.")
            return WSMessage(WSMsgType.CLOSED, None, None)
        message: WSMessage = await self._feed.get()
        if message.type is WSMsgType.CLOSE:
            await self.close(code=message.data)
        return message

    async def receive_str(self, *, timeout: float | None = None) -> str:
        """The client's next text."""
        message = await self.receive(timeout)
        if message.type is not WSMsgType.TEXT:
            raise TypeError(
                f"Received message {message.type}:{message.data!r} is not WSMsgType.TEXT"
            )
        text: str = message.data
        return text

    def __aiter__(self) -> FakeAiohttp:
        return self

    async def __anext__(self) -> WSMessage:
        message = await self.receive()
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            raise StopAsyncIteration
        return message

    def _send(self, data: str | bytes) -> None:
        if self._closed or self._gone:
            raise ClientConnectionResetError("Cannot write to closing transport")
        self.take(data)
