"""Waiting for something to become true, with an end: never a fixed sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP = 0.002  # seconds between two looks


async def eventually(predicate: Callable[[], object], timeout: float = 5.0, what: str = "") -> None:
    """Let the running loop turn until *predicate* is true; AssertionError after *timeout* s."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout} s: {what or predicate}")
        await asyncio.sleep(STEP)


def eventually_sync(predicate: Callable[[], object], timeout: float = 5.0, what: str = "") -> None:
    """The same from a thread without a loop."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout} s: {what or predicate}")
        time.sleep(STEP)


async def turns(count: int = 5) -> None:
    """Let the running loop turn *count* times."""
    for _ in range(count):
        await asyncio.sleep(0)
