"""Clients with the faults of real ones. Each is a ``send_text`` with a flaw."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable

from .plain import FakeText

__all__ = [
    "ClosingClient",
    "FailingClient",
    "HangingClient",
    "ReentrantClient",
    "SlowClient",
    "slow_client",
]


class FailingClient(FakeText):
    """Raises *error* at each send, or at the first *times* only."""

    def __init__(
        self, error: BaseException, times: int | None = None, name: str | None = None
    ) -> None:
        super().__init__(name)
        self.error = error
        self.times = times
        self.attempts = 0

    async def send_text(self, data: str) -> None:
        """Fail, or take it."""
        self.attempts += 1
        if self.times is None or self.attempts <= self.times:
            raise self.error
        await super().send_text(data)


class HangingClient(FakeText):
    """Does not return from a send before :meth:`release`; may be cancelled."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.entered = 0
        self.cancelled = 0
        self._released = threading.Event()

    async def send_text(self, data: str) -> None:
        """Hang, then take it."""
        self.entered += 1
        try:
            while not self._released.is_set():  # noqa: ASYNC110 - set by any thread
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await super().send_text(data)

    def release(self) -> None:
        """Let all sends through from now on; any thread."""
        self._released.set()


class ClosingClient(FakeText):
    """Takes *after* messages, and then is gone: each further send raises as a lost socket does."""

    def __init__(self, after: int = 0, name: str | None = None) -> None:
        super().__init__(name)
        self.after = after

    async def send_text(self, data: str) -> None:
        """Take it, or be gone."""
        if len(self.messages) >= self.after:
            raise ConnectionResetError("the client has gone")
        await super().send_text(data)


class ReentrantClient(FakeText):
    """Calls *action* from within its send, once, before it takes the message."""

    def __init__(self, action: Callable[[], object] | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.action = action

    async def send_text(self, data: str) -> None:
        """Call back, then take it."""
        action, self.action = self.action, None
        if action is not None:
            result = action()
            if inspect.isawaitable(result):
                await result
        await super().send_text(data)


class SlowClient(FakeText):
    """Takes so many bytes a second, in real time; a send lasts as long as its message needs."""

    def __init__(self, bytes_per_second: float, name: str | None = None) -> None:
        if not bytes_per_second > 0:
            raise ValueError("bytes_per_second is above 0; HangingClient takes nothing at all")
        super().__init__(name)
        self.bytes_per_second = bytes_per_second

    async def send_text(self, data: str) -> None:
        """Take it slowly."""
        await asyncio.sleep(len(data.encode()) / self.bytes_per_second)
        await super().send_text(data)


def slow_client(bytes_per_second: float, name: str | None = None) -> SlowClient:
    """A client that reads *bytes_per_second*, and no faster."""
    return SlowClient(bytes_per_second, name)
