"""The assertions for plain functions, whose clients are on a loop of another thread (``wsm_loop``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from ._checks import STEP, Check, arrival, isolation, order, silence
from .inbox import Inbox

__all__ = ["assert_event", "assert_events_in_order", "assert_isolated", "assert_no_event"]


def assert_event(
    client: Inbox,
    type: str | None = None,
    /,
    *,
    timeout: float | None = None,
    where: Callable[[Mapping[str, Any]], object] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """As :func:`wsmanager.testing.assert_event`, from a thread without a loop."""
    __tracebackhide__ = True
    found: dict[str, Any] = _wait(arrival(client, type, timeout, where, fields))
    return found


def assert_no_event(
    client: Inbox,
    type: str | None = None,
    /,
    *,
    within: float | None = None,
    where: Callable[[Mapping[str, Any]], object] | None = None,
    **fields: Any,
) -> None:
    """As :func:`wsmanager.testing.assert_no_event`, from a thread without a loop."""
    __tracebackhide__ = True
    _wait(silence(client, type, within, where, fields))


def assert_events_in_order(
    client: Inbox, *types: str, timeout: float | None = None, exact: bool = False
) -> list[dict[str, Any]]:
    """As :func:`wsmanager.testing.assert_events_in_order`, from a thread without a loop."""
    __tracebackhide__ = True
    found: list[dict[str, Any]] = _wait(order(client, types, timeout, exact))
    return found


def assert_isolated(
    a: Inbox, b: Inbox, *, timeout: float | None = None, within: float | None = None
) -> None:
    """As :func:`wsmanager.testing.assert_isolated`, from a thread without a loop."""
    __tracebackhide__ = True
    _wait(isolation(a, b, timeout, within))


def _wait(check: Check) -> Any:
    __tracebackhide__ = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(
            "this waits in the thread of a running loop, which then delivers nothing: "
            "await the assertion of the same name from wsmanager.testing"
        )
    while True:
        try:
            next(check)
        except StopIteration as end:
            return end.value
        time.sleep(STEP)
