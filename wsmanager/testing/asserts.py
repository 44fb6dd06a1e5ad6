"""Assertions on what arrives, for coroutines; each waits, and no longer than told.

``wsmanager.testing.blocking`` has the same for plain functions. A failure
says what did arrive. An event counts if it has come already: call ``clear()``
on the client first to ask for a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ._checks import STEP, Check, arrival, isolation, order, silence
from .inbox import Inbox

__all__ = ["assert_event", "assert_events_in_order", "assert_isolated", "assert_no_event"]


async def assert_event(
    client: Inbox,
    type: str | None = None,
    /,
    *,
    timeout: float | None = None,
    where: Callable[[Mapping[str, Any]], object] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Wait for an event, and return it.

    :param type: its type; ``None``: any.
    :param timeout: seconds; ``None``: the ini option ``wsmanager_timeout`` (2).
    :param where: a function of the event that is true for the one meant.
    :param fields: values the event has, at its root or in its payload.
    :raises AssertionError: if none comes in time.
    """
    __tracebackhide__ = True
    found: dict[str, Any] = await _wait(arrival(client, type, timeout, where, fields))
    return found


async def assert_no_event(
    client: Inbox,
    type: str | None = None,
    /,
    *,
    within: float | None = None,
    where: Callable[[Mapping[str, Any]], object] | None = None,
    **fields: Any,
) -> None:
    """Nothing that fits has come, and none comes for *within* seconds.

    :param within: ``None``: the ini option ``wsmanager_quiet`` (0.05).
    :raises AssertionError: as soon as one comes.
    """
    __tracebackhide__ = True
    await _wait(silence(client, type, within, where, fields))


async def assert_events_in_order(
    client: Inbox, *types: str, timeout: float | None = None, exact: bool = False
) -> list[dict[str, Any]]:
    """Wait for events of these types in this order, and return them.

    :param exact: these and no others.
    :raises AssertionError: if they do not come in time.
    """
    __tracebackhide__ = True
    found: list[dict[str, Any]] = await _wait(order(client, types, timeout, exact))
    return found


async def assert_isolated(
    a: Inbox, b: Inbox, *, timeout: float | None = None, within: float | None = None
) -> None:
    """The clients of two users get nothing of each other's.

    It sends a probe to each user: it must arrive at that user's client, so a
    connection that is silent is no success, and not at the other's for
    *within* seconds. What came before is looked through as well. Probes do
    not show among the events of a client.

    :raises AssertionError: for a leak, or a probe that does not arrive.
    :raises ValueError: if the two are not of two users.
    """
    __tracebackhide__ = True
    await _wait(isolation(a, b, timeout, within))


async def _wait(check: Check) -> Any:
    __tracebackhide__ = True
    await asyncio.sleep(0)  # what is on its way in this loop turn
    while True:
        try:
            next(check)
        except StopIteration as end:
            return end.value
        await asyncio.sleep(STEP)
