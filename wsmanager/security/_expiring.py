"""A table whose entries end at a time of their own."""

from __future__ import annotations

import heapq
import time
from typing import Generic, TypeVar

__all__ = ["Expiring"]

_K = TypeVar("_K", str, bytes)
_V = TypeVar("_V")


class Expiring(Generic[_K, _V]):
    """Values by key, each until a deadline of ``time.monotonic()``; not thread-safe.

    An entry past its deadline is as good as absent at once; its memory goes
    with a later ``expired()``. The heap beside the table holds no more than
    twice its entries: what was removed early is dropped by a rebuild.
    """

    __slots__ = ("_count", "_heap", "_table")

    def __init__(self) -> None:
        self._table: dict[_K, tuple[float, int, _V]] = {}
        self._heap: list[tuple[float, int, _K]] = []
        self._count = 0  # makes entries of one key, and of one time, differ

    def __len__(self) -> int:
        return len(self._table)

    def put(self, key: _K, value: _V, deadline: float) -> None:
        """Enter or replace."""
        self._count += 1
        self._table[key] = (deadline, self._count, value)
        heapq.heappush(self._heap, (deadline, self._count, key))
        if len(self._heap) > 2 * len(self._table) + 64:
            self._heap = [(end, count, at) for at, (end, count, _) in self._table.items()]
            heapq.heapify(self._heap)

    def get(self, key: _K) -> _V | None:
        """The value, if it has not ended."""
        found = self._table.get(key)
        return None if found is None or found[0] <= time.monotonic() else found[2]

    def pop(self, key: _K) -> _V | None:
        """The same, and remove it."""
        value = self.get(key)
        self._table.pop(key, None)
        return value

    def expired(self) -> list[tuple[_K, _V]]:
        """Remove what has ended, and give it."""
        now = time.monotonic()
        gone: list[tuple[_K, _V]] = []
        while self._heap and self._heap[0][0] <= now:
            _, count, key = heapq.heappop(self._heap)
            found = self._table.get(key)
            if found is not None and found[1] == count:
                del self._table[key]
                gone.append((key, found[2]))
        return gone

    def pop_first(self) -> None:
        """Remove the entry that would end first, if there is one."""
        while self._heap:
            _, count, key = heapq.heappop(self._heap)
            found = self._table.get(key)
            if found is not None and found[1] == count:
                del self._table[key]
                return
