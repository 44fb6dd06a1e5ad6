"""A fake of the ``websockets`` library's connection on a server: asyncio and threaded."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ._feed import Feed
from .inbox import Inbox

try:
    from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
    from websockets.frames import Close
    from websockets.protocol import State
except ImportError as _missing:
    raise ImportError(
        "FakeWebsockets and FakeSync raise the errors of the websockets library, which is not "
        "installed: pip install websockets. FakeText needs nothing."
    ) from _missing

__all__ = ["FakeSync", "FakeWebsockets"]


class _Marked:
    """Makes the package take a fake for what it stands for: libraries are known by name."""

    __module__ = "websockets.asyncio.server"
    __qualname__ = "ServerConnection"


class _SyncMarked:
    __module__ = "websockets.sync.server"
    __qualname__ = "ServerConnection"


class _Connection(Inbox):
    """What both kinds have: state, close codes, the errors after the end."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.id = uuid.uuid4()
        self.transport = None
        self.subprotocol: str | None = None
        self._feed = Feed()
        self._sent: Close | None = None
        self._received: Close | None = None
        self._received_first = False
        self._lost = False

    @property
    def state(self) -> State:
        """OPEN or CLOSED."""
        return State.CLOSED if self._is_over() else State.OPEN

    @property
    def close_code(self) -> int | None:
        """As the library has it: 1006 if the connection was lost without a close frame."""
        if not self._is_over():
            return None
        return 1006 if self._received is None else self._received.code

    @property
    def close_reason(self) -> str | None:
        """What the client gave as its reason."""
        if not self._is_over():
            return None
        return "" if self._received is None else self._received.reason

    def push(self, message: str | bytes) -> None:
        """Send a message from the client; any thread."""
        self._feed.put(message)

    def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """The client closes; 1006: it vanishes without a close frame. Any thread."""
        if self._is_over():
            return
        if code == 1006:
            self._lost = True
        else:
            self._received = self._sent = Close(code, reason)
            self._received_first = True

    def _is_over(self) -> bool:
        return self._lost or self._received is not None

    def _error(self) -> ConnectionClosed:
        codes = {1000, 1001}
        both = (self._sent, self._received)
        good = all(close is not None and close.code in codes for close in both)
        kind = ConnectionClosedOK if good else ConnectionClosedError
        order = None if None in both else self._received_first
        return kind(self._received, self._sent, order)

    def _send(self, message: Any, text: bool | None) -> None:
        if self._is_over():
            raise self._error()
        if isinstance(message, str):
            self.take(message.encode() if text is False else message)
        elif isinstance(message, (bytes, bytearray, memoryview)):
            data = bytes(message)
            self.take(data.decode() if text is True else data)
        elif hasattr(message, "keys"):
            raise TypeError("data is a dict-like object")
        else:
            raise TypeError("data must be str, bytes, iterable, or async iterable")

    def _close(self, code: int, reason: str) -> None:
        if not self._is_over():
            self._sent = self._received = Close(int(code), reason)  # the client echoes
            self.take_close(int(code), reason)


class FakeWebsockets(_Connection, _Marked):
    """``websockets.asyncio.server.ServerConnection``: ``send``, ``recv``, ``close``, iteration."""

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        """Send a message; ConnectionClosed after the end. Fragments are not faked."""
        self._send(message, text)

    async def recv(self, decode: bool | None = None) -> Any:
        """The client's next message; ConnectionClosed after the end."""
        while (message := self._feed.take()) is ...:
            if self._is_over():
                raise self._error()
            await asyncio.sleep(0.002)
        return _decoded(message, decode)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; nothing happens when it is closed already."""
        self._close(code, reason)

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        while not self._is_over():  # noqa: ASYNC110 - set by any thread
            await asyncio.sleep(0.002)

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return


class FakeSync(_Connection, _SyncMarked):
    """``websockets.sync.server.ServerConnection``: the same with plain methods, for threads."""

    def send(self, message: Any, *, text: bool | None = None) -> None:
        """Send a message; ConnectionClosed after the end. Fragments are not faked."""
        self._send(message, text)

    def recv(self, timeout: float | None = None, decode: bool | None = None) -> Any:
        """The client's next message; TimeoutError, or ConnectionClosed after the end."""
        step = 0.05
        left = timeout
        while True:
            try:
                wait = step if left is None else min(step, max(left, 0))
                return _decoded(self._feed.get_blocking(wait), decode)
            except TimeoutError:
                if self._is_over():
                    raise self._error() from None
                if left is not None and (left := left - step) <= 0:
                    raise TimeoutError(f"timed out in {timeout:.1f}s") from None

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; nothing happens when it is closed already."""
        self._close(code, reason)

    def __iter__(self) -> Iterator[Any]:
        try:
            while True:
                yield self.recv()
        except ConnectionClosedOK:
            return


def _decoded(message: str | bytes, decode: bool | None) -> str | bytes:
    if decode is True and isinstance(message, bytes):
        return message.decode()
    if decode is False and isinstance(message, str):
        return message.encode()
    return message
