"""Waiting for foreign code no longer than agreed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def within(seconds: float, awaitable: Awaitable[_T]) -> asyncio.Future[_T] | None:
    """The finished future of *awaitable*, or ``None`` if it takes longer than *seconds*.

    It runs in a task of its own. One that is late, or whose waiter is
    cancelled, is cancelled and left alone: unlike ``asyncio.wait_for``, this
    returns in time even if the task ignores its cancellation.
    """
    future = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait({future}, timeout=seconds)
    except asyncio.CancelledError:
        _abandon(future)
        raise
    if not done:
        _abandon(future)
        return None
    return future


def _abandon(future: asyncio.Future[_T]) -> None:
    """Cancel it, and take its error from it, so that asyncio does not report one as lost."""
    future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    future.cancel()
