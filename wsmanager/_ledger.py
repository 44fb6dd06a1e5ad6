"""What all users' tables of runs take together, and who gives some of it back when it is too much."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from typing import Final, Protocol

__all__ = ["Ledger", "Noted"]

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes all tables of runs may hold together, about."""


class Noted(Protocol):
    """One user's part: *noted* is what the ledger has counted of it."""

    number: int
    noted: int

    @property
    def weight(self) -> int: ...

    def shed(self, ended_only: bool) -> int:
        """Forget runs, unless the user is busy just now; the bytes that are left."""
        ...

    def reset(self) -> None:
        """Start anew in a forked child."""


class Ledger:
    """The bytes of all tables, and the tables, the one that changed longest ago first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # nothing is called under it
        self._tables: OrderedDict[int, weakref.ref[Noted]] = OrderedDict()
        self.returned: deque[tuple[int, int]] = deque()
        self.bytes = 0

    def note(self, part: Noted) -> None:
        with self._lock:
            while self.returned:
                number, gone = self.returned.popleft()
                if self._tables.pop(number, None) is not None:
                    self.bytes -= gone
            self.bytes += part.weight - part.noted
            part.noted = part.weight
            self._tables[part.number] = weakref.ref(part)
            self._tables.move_to_end(part.number)
            over = self.bytes > MAX_BYTES
        if over:
            self._shed()

    def alive(self) -> list[Noted]:
        with self._lock:
            references = list(self._tables.values())
        return [part for reference in references if (part := reference()) is not None]

    def _shed(self) -> None:
        """Forget runs, ended ones before open ones, until there is some room again."""
        parts = self.alive()
        for ended_only in (True, False):
            for part in parts:
                if self.bytes <= MAX_BYTES * 9 // 10:
                    return
                table_bytes = part.shed(ended_only)
                with self._lock:
                    self.bytes += table_bytes - part.noted
                    part.noted = table_bytes

    def reset(self) -> None:
        parts = [s for reference in list(self._tables.values()) if (s := reference()) is not None]
        self._lock = threading.Lock()
        self.bytes = 0
        for part in parts:
            part.reset()
