"""How late each event loop runs, read from any thread.

A loop that owns connections gets a heartbeat, a callback that comes back every
quarter of a second and notes how late it was. A reader compares the clock with
the moment the next one is due: so a loop that is stuck is seen from another
thread while it is stuck. Where nobody reads, the heartbeats stop by themselves.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from dataclasses import dataclass
from typing import Final

from ._hooks import core

__all__ = ["INTERVAL", "LoopLag", "loop_lags", "worst_lag"]

INTERVAL: Final = 0.25
"""Seconds between two heartbeats of a loop."""

UNREAD_SECONDS: Final = 180.0
"""Heartbeats go on for so long after the last reading; a scrape may come once a minute."""


@dataclass(frozen=True)
class LoopLag:
    """One event loop: how many connections it owns and how late it is, in seconds."""

    connections: int
    seconds: float


class _Heart:
    """The heartbeat of one loop. ``due`` and ``late`` are written on its thread, read on any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.late = 0.0
        self.due = 0.0
        self.read_at = 0.0
        self.beating = False

    def ask(self, now: float) -> None:
        """See that it beats; called under the lock of :class:`_Hearts`."""
        self.read_at = now
        if self.loop.is_closed():
            self.beating = False  # not late, but over: its connections go by themselves
            return
        if self.beating:
            return
        # From now on the loop owes us a beat: a stuck one is late with it at once.
        self.beating, self.due, self.late = True, now, 0.0
        try:
            self.loop.call_soon_threadsafe(self._beat, context=contextvars.Context())
        except RuntimeError:
            self.beating = False  # it has closed just now

    def _beat(self) -> None:
        now = time.monotonic()
        self.late = max(0.0, now - self.due)
        if now - self.read_at > UNREAD_SECONDS or self.loop.is_closed():
            self.beating = False
            return
        self.due = now + INTERVAL
        self.loop.call_later(INTERVAL, self._beat, context=contextvars.Context())

    def lag(self, now: float) -> float:
        if not self.beating:
            return 0.0
        return max(self.late, now - self.due, 0.0)


class _Hearts:
    """The hearts of all loops that own connections."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hearts: dict[int, _Heart] = {}

    def read(self) -> list[LoopLag]:
        loops = core._loops()
        with self.lock:
            now = time.monotonic()
            # A heart keeps its loop, so an address in here is not another loop's.
            self.hearts = {id(loop): self.hearts.get(id(loop)) or _Heart(loop) for loop, _ in loops}
            lags = []
            for loop, connections in loops:
                heart = self.hearts[id(loop)]
                heart.ask(now)
                lags.append(LoopLag(connections, heart.lag(now)))
            return lags

    def forget(self) -> None:
        """In the child of a fork: the loops are the parent's."""
        self.lock = threading.Lock()
        self.hearts = {}


_hearts = _Hearts()
os.register_at_fork(after_in_child=_hearts.forget)


def loop_lags() -> list[LoopLag]:
    """Each loop that owns connections; never waits for one. Any thread.

    The first reading starts the heartbeats: what it says of a loop that was
    stuck before is 0, and the truth from the second reading on.
    """
    return _hearts.read()


def worst_lag() -> float:
    """The seconds by which the latest of those loops is late; 0 without any."""
    return max((lag.seconds for lag in loop_lags()), default=0.0)
