"""What the assertions look for; how they wait is in ``asserts`` and ``blocking``.

A check is a generator: each step looks once and yields, and its return ends
the wait. It raises AssertionError when its time is over, with what did arrive.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, TypeAlias

from .._wsmanager import get_websocket_manager
from .inbox import PROBE, Inbox, describe, field

__all__ = ["Check", "Waits", "arrival", "isolation", "order", "silence"]

Event: TypeAlias = dict[str, Any]
Where: TypeAlias = Callable[[Mapping[str, Any]], object]


class Waits:
    """Seconds the assertions wait unless told otherwise; set by the plugin's ini options."""

    timeout: float = 2.0
    quiet: float = 0.05


Check: TypeAlias = Generator[None, None, Any]
STEP: Final = 0.002
"""Seconds between two looks."""


def arrival(
    inbox: Inbox, type: str | None, timeout: float | None, where: Where | None, fields: Event
) -> Check:
    """The first event that fits, once it is there."""
    __tracebackhide__ = True
    for _ in _until(timeout):
        found = _first(inbox, type, where, fields)
        if found is not None:
            return found
        yield
    raise AssertionError(
        f"no {_wanted(type, where, fields)} within {_seconds(timeout)} s; what arrived:\n{describe(inbox)}"
    )


def silence(
    inbox: Inbox, type: str | None, within: float | None, where: Where | None, fields: Event
) -> Check:
    """Nothing that fits, now and for *within* seconds."""
    __tracebackhide__ = True
    seconds = Waits.quiet if within is None else within
    for _ in _until(seconds):
        found = _first(inbox, type, where, fields)
        if found is not None:
            raise AssertionError(
                f"no {_wanted(type, where, fields)} was to arrive, but one did; "
                f"what arrived:\n{describe(inbox)}"
            )
        yield
    return None


def order(inbox: Inbox, types: tuple[str, ...], timeout: float | None, exact: bool) -> Check:
    """Events of these types, in this order; others may be between them unless *exact*."""
    __tracebackhide__ = True
    if not types:
        raise TypeError("name the types of the events to expect")
    for _ in _until(timeout):
        found = _exactly(inbox, types) if exact else _in_order(inbox, types)
        if found is not None:
            return found
        yield
    how = "exactly " if exact else ""
    raise AssertionError(
        f"not {how}{' < '.join(types)} within {_seconds(timeout)} s; what arrived:\n{describe(inbox)}"
    )


def isolation(a: Inbox, b: Inbox, timeout: float | None, within: float | None) -> Check:
    """Each of two users' clients gets its own user's probe, and nothing of the other's."""
    __tracebackhide__ = True
    if a.user_id is None or b.user_id is None or a.user_id == b.user_id:
        raise ValueError(
            "assert_isolated is for the clients of two users: connect them by "
            f"Recorder.connect, or set user_id (they are of {a.user_id!r} and {b.user_id!r})"
        )
    sides = [(a, a.user_id, secrets.token_hex(16)), (b, b.user_id, secrets.token_hex(16))]
    for _, user_id, token in sides:
        get_websocket_manager(user_id).emit_event(PROBE, {"token": token})
    for _ in _until(timeout):
        if all(_has_probe(inbox, token) for inbox, _, token in sides):
            break
        yield
    else:
        late = [inbox for inbox, _, token in sides if not _has_probe(inbox, token)]
        raise AssertionError(
            f"a probe to its own user did not arrive within {_seconds(timeout)} s, so "
            "isolation cannot be told; what arrived:\n" + "\n".join(map(describe, late))
        )
    seconds = Waits.quiet if within is None else within
    for _ in _until(seconds):
        _no_leak(a, b, [token for _, _, token in sides])
        yield
    return None


def _no_leak(a: Inbox, b: Inbox, tokens: list[str]) -> None:
    __tracebackhide__ = True
    leaks = []
    for inbox, other, foreign in ((a, b, tokens[1]), (b, a, tokens[0])):
        if _has_probe(inbox, foreign):
            leaks.append(f"{inbox!r} got the probe of {other.user_id!r}")
        named = [event for event in inbox.events if event.get("user_id") == other.user_id]
        leaks += [f"{inbox!r} got an event of {other.user_id!r}: {str(e)[:200]}" for e in named]
    ids = {event["id"] for event in a.events if event.get("id")}
    both = [event["id"] for event in b.events if event.get("id") in ids]
    leaks += [f"the event {identity!r} arrived at both" for identity in both]
    if leaks:
        raise AssertionError("\n".join([*leaks, "what arrived:", describe(a), describe(b)]))


def _has_probe(inbox: Inbox, token: str) -> bool:
    return any(token in probe for probe in inbox.probes())


def _until(timeout: float | None) -> Generator[None, None, None]:
    """Looks until the time is over; one more after it, for a waiter that was late itself."""
    deadline = time.monotonic() + _seconds(timeout)
    while time.monotonic() < deadline:
        yield
    yield


def _seconds(timeout: float | None) -> float:
    return Waits.timeout if timeout is None else timeout


def _first(inbox: Inbox, type: str | None, where: Where | None, fields: Event) -> Event | None:
    return next((event for event in inbox.events if _fits(event, type, where, fields)), None)


def _fits(event: Event, type: str | None, where: Where | None, fields: Event) -> bool:
    return (
        (type is None or event.get("type") == type)
        and all(field(event, name) == value for name, value in fields.items())
        and (where is None or bool(where(event)))
    )


def _in_order(inbox: Inbox, types: tuple[str, ...]) -> list[Event] | None:
    found: list[Event] = []
    for event in inbox.events:
        if len(found) < len(types) and event.get("type") == types[len(found)]:
            found.append(event)
    return found if len(found) == len(types) else None


def _exactly(inbox: Inbox, types: tuple[str, ...]) -> list[Event] | None:
    events = inbox.events
    return events if [event.get("type") for event in events] == list(types) else None


def _wanted(type: str | None, where: Where | None, fields: Event) -> str:
    words = ["event" if type is None else f"event {type!r}"]
    if fields:
        words.append("with " + ", ".join(f"{name}={value!r:.80}" for name, value in fields.items()))
    if where is not None:
        words.append("that fits where=")
    return " ".join(words)
