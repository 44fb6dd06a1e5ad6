"""What a fake client sends: put in by any thread, taken out by a coroutine or by a thread."""

from __future__ import annotations

import asyncio
import collections
import threading
import time
from typing import Any, Final

_STEP: Final = 0.002  # seconds between two looks


class Feed:
    """A queue that belongs to no loop; what is put after the end is never read."""

    def __init__(self) -> None:
        self._items: collections.deque[Any] = collections.deque()
        self._lock = threading.Lock()

    def put(self, item: Any) -> None:
        """Add to the end."""
        with self._lock:
            self._items.append(item)

    def take(self) -> Any:
        """The next item, or ``...`` if there is none yet."""
        with self._lock:
            return self._items.popleft() if self._items else ...

    async def get(self) -> Any:
        """The next item, when there is one; may be cancelled."""
        await asyncio.sleep(0)
        while (item := self.take()) is ...:  # noqa: ASYNC110 - set by any thread
            await asyncio.sleep(_STEP)
        return item

    def get_blocking(self, timeout: float | None) -> Any:
        """The same for a thread; TimeoutError after *timeout* seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (item := self.take()) is ...:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("timed out waiting for a message")
            time.sleep(_STEP)
        return item
