"""Fake WebSockets in the shapes of the libraries, and with the faults of real ones.

Each keeps what it was sent, as text, in ``texts``; ``events`` gives it parsed.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Callable
from typing import Any


class WebSocketState(enum.Enum):
    """Named as Starlette names it; the core knows it by name, not by import."""

    CONNECTING = 0
    CONNECTED = 1
    DISCONNECTED = 2


class Inbox:
    """What arrived at a fake socket."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.closed_with: tuple[int, str] | None = None

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def take(self, text: object) -> None:
        assert type(text) is str, f"one str per event, not {type(text).__name__}"
        self.texts.append(text)


class StarletteSocket(Inbox):
    """``await send_text(str)``, two states, ``close(code, reason)``."""

    def __init__(self) -> None:
        super().__init__()
        self.client_state = WebSocketState.CONNECTED
        self.application_state = WebSocketState.CONNECTED

    async def send_text(self, data: str) -> None:
        self.take(data)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        self.closed_with = (code, reason or "")
        self.application_state = WebSocketState.DISCONNECTED


class WebsocketsSocket(Inbox):
    """``await send(str)``, as in the ``websockets`` library."""

    async def send(self, message: str) -> None:
        self.take(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = (code, reason)


class AiohttpSocket(Inbox):
    """``await send_str(str)`` and ``close(code=, message=)``."""

    closed = False
    __module__ = "aiohttp.web_ws"  # libraries are known by name, not by import
    __qualname__ = "WebSocketResponse"

    async def send_str(self, data: str) -> None:
        self.take(data)

    async def close(self, *, code: int = 1000, message: bytes = b"") -> None:
        self.closed_with = (code, message.decode())
        self.closed = True


class SyncSocket(Inbox):
    """A plain ``send``, as picows and ``websockets.sync`` have."""

    def send(self, message: str) -> None:
        self.take(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = (code, reason)


class JsonSocket(Inbox):
    """Only ``send_json``, as many test doubles have; it is given the parsed event."""

    async def send_json(self, data: Any) -> None:
        self.texts.append(json.dumps(data))


class CallableSocket(Inbox):
    """No method at all: the object itself is called."""

    def __call__(self, message: str) -> None:
        self.take(message)


LIBRARY_SHAPES: list[type[Inbox]] = [
    StarletteSocket,
    WebsocketsSocket,
    AiohttpSocket,
    SyncSocket,
    JsonSocket,
    CallableSocket,
]


class FailingSocket(StarletteSocket):
    """``send_text`` raises *error*, each time or only the first *times* times."""

    def __init__(self, error: BaseException, times: int | None = None) -> None:
        super().__init__()
        self.error = error
        self.times = times
        self.attempts = 0

    async def send_text(self, data: str) -> None:
        self.attempts += 1
        if self.times is None or self.attempts <= self.times:
            raise self.error
        self.take(data)


class HangingSocket(StarletteSocket):
    """``send_text`` does not return before :meth:`release`; may be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = 0
        self.cancelled = 0
        self._gate: asyncio.Event | None = None

    async def send_text(self, data: str) -> None:
        self.entered += 1
        if self._gate is None:
            self._gate = asyncio.Event()
        try:
            await self._gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.take(data)

    def release(self) -> None:
        if self._gate is None:
            self._gate = asyncio.Event()
        self._gate.set()


class SuspendingSocket(StarletteSocket):
    """``send_text`` lets the loop turn *turns* times before it takes the text."""

    def __init__(self, turns: int = 1) -> None:
        super().__init__()
        self.turns = turns
        self.running = 0
        self.most_running = 0

    async def send_text(self, data: str) -> None:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            for _ in range(self.turns):
                await asyncio.sleep(0)
            self.take(data)
        finally:
            self.running -= 1


class ReentrantSocket(StarletteSocket):
    """Calls *action* from within its own send, once, before it takes the text."""

    def __init__(self, action: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.action = action

    async def send_text(self, data: str) -> None:
        action, self.action = self.action, None
        if action is not None:
            result = action()
            if asyncio.iscoroutine(result):
                await result
        self.take(data)
