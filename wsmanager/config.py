"""Settings of this process: :func:`configure` and :func:`get_config`."""

from __future__ import annotations

import asyncio
import enum
import math
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

from . import events
from ._bounded import within
from ._hooks import core
from ._log import error_name, warn_unavailable

__all__ = ["configure", "get_config"]

AvailabilityCheck = Callable[[], Awaitable[object]]
"""An async function without arguments; a true result means the service is there."""

EnvelopeName = Literal["payload", "mixed", "data", "flat"]
EnvelopeFunction = Callable[[Mapping[str, Any]], Mapping[str, Any]]
SlowPolicy = Literal["close", "drop_oldest", "drop_newest", "coalesce"]
CoalesceKey = Callable[[str, Any], str | None]

ENVELOPES: Final = ("payload", "mixed", "data", "flat")
SLOW_POLICIES: Final = ("close", "drop_oldest", "drop_newest", "coalesce")
DEFAULT_AVAILABILITY_TIMEOUT: Final = 2.0


class _Keep(enum.Enum):
    """Tells a setting that was not given, which stays as it is, from one that is ``None``."""

    KEEP = "keep"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = _Keep.KEEP

_lock = threading.Lock()
_check: AvailabilityCheck | None = None
_timeout: float = DEFAULT_AVAILABILITY_TIMEOUT


def configure(
    *,
    availability_check: AvailabilityCheck | _Keep | None = KEEP,
    availability_timeout: float | _Keep = KEEP,
    envelope: EnvelopeName | EnvelopeFunction | _Keep = KEEP,
    max_event_bytes: int | _Keep = KEEP,
    max_users: int | _Keep = KEEP,
    max_connections_per_user: int | _Keep = KEEP,
    max_idle_users: int | _Keep = KEEP,
    idle_ttl: float | _Keep = KEEP,
    journal_max_events: int | _Keep = KEEP,
    journal_max_bytes: int | _Keep = KEEP,
    journal_max_age: float | _Keep = KEEP,
    journal_budget: int | _Keep = KEEP,
    idempotency_window: float | _Keep = KEEP,
    stray_interval: float | _Keep = KEEP,
    outbox_max_events: int | _Keep = KEEP,
    outbox_max_bytes: int | _Keep = KEEP,
    outbox_max_age: float | _Keep = KEEP,
    slow_policy: SlowPolicy | _Keep = KEEP,
    coalesce_key: CoalesceKey | _Keep | None = KEEP,
    tcp_user_timeout: float | _Keep = KEEP,
    error_limit: int | _Keep = KEEP,
    tolerate_await: bool | _Keep = KEEP,
) -> None:
    """Change settings of this process; what is not given stays as it is.

    Call it before the first connection. A later call holds for what comes
    after it. All values are checked first: if one is wrong, none is changed.

    :param availability_check: awaited by ``get_websocket_manager_async`` before
        it makes a manager; a false result, an error or a timeout makes the
        manager with ``service_available=False``, with one warning on the
        logger ``wsmanager.registry``. ``None`` (the start): nothing to wait for.
        Managers that the check itself asks for are made at once, as available.
    :param availability_timeout: seconds the check may take (2).
    :param envelope: how the data of an event is laid into its JSON:
        ``"payload"`` (the start) or ``"data"``: under that name; ``"mixed"``:
        under ``payload``, with all else that a message has at its root, and at
        the root as well; ``"flat"``: at the root only, without those of its
        fields that are named as the envelope's own (``id``, ``type``,
        ``user_id``, ``thread_id``, ``run_id``, ``timestamp``), which are not
        sent: take ``"mixed"`` or ``"payload"`` where data may have them. With
        ``"payload"``, a message that says ``data`` keeps it, beside the same as
        ``payload``: it is in the event twice, and counts twice for
        ``max_event_bytes``. Or a function from the complete default envelope, a
        mapping, to the mapping to send. It does not see ``id``: that is put in
        front of what it gives, in place of an ``id`` in it, when the event gets
        its number.
    :param max_event_bytes: the largest event, in bytes of its JSON (2 MiB);
        a larger one is an ``EventTooLarge``.
    :param max_users: the most users with a manager (2,000,000); one more is a
        ``UserLimitError``.
    :param max_connections_per_user: the most connections of one user (1,024);
        one more is a ``ConnectionLimitError``.
    :param max_idle_users: the most managers kept that have no connection and
        that nobody holds (1,000,000); the oldest goes first.
    :param idle_ttl: seconds such a manager is kept (300).
    :param journal_max_events: so many of a user's last events are kept for
        clients that come back (256); 0: none are.
    :param journal_max_bytes: the most bytes of memory they take, for one user
        (256 KiB); as many again may be held for acknowledgement, and for
        idempotency keys.
    :param journal_max_age: seconds an event is kept (120).
    :param journal_budget: the most bytes that all users' kept events take
        together (64 MiB); the user who has had no event for longest loses
        theirs first.
    :param idempotency_window: seconds in which an emit with the idempotency
        key of an earlier one is that earlier one (120); a user's last 1,024
        keys are remembered.
    :param stray_interval: seconds between two looks at connections that have
        nothing to send, for sockets that have closed without a word (5); 0:
        they are found at their next event.
    :param outbox_max_events: the most events that wait for one connection (1,024).
    :param outbox_max_bytes: the most bytes that wait for one connection (1 MiB).
    :param outbox_max_age: seconds an event may wait for one connection (10).
    :param slow_policy: what happens to a connection beyond one of these three
        limits: ``"close"`` (the start) closes it, and its client reconnects;
        ``"drop_oldest"`` and ``"drop_newest"`` drop events; ``"coalesce"``
        replaces a waiting event by a later one with the same key. The five
        agent events and other critical ones are never dropped: where only
        those are left, the connection is closed.
    :param coalesce_key: for ``"coalesce"``: a function of an event's type and
        data that gives its key, a ``str``, or ``None`` for an event not to be
        replaced. Called at the emit, in its thread.
    :param tcp_user_timeout: seconds sent bytes may stay unacknowledged before
        the kernel ends the connection (TCP_USER_TIMEOUT); 0 (the start): the
        kernel's own, which is minutes.
    :param error_limit: so many errors in a row that do not say that the peer
        is gone, and the connection is removed (3).
    :param tolerate_await: for a migration: managers made from now on may be
        awaited, and give themselves. Each call site is warned of once.
    :raises TypeError: for a value of the wrong type, or an unknown name.
    :raises ValueError: for a value out of its range.
    """
    global _check, _timeout
    # The only locals yet are the arguments, each named as its setting is.
    given = {name: value for name, value in locals().items() if value is not KEEP}
    for name, value in given.items():
        _RULES[name](name, value)
    with _lock:
        _coalesce_needs_key(given)
        check = given.pop("availability_check", _check)
        timeout = float(given.pop("availability_timeout", _timeout))
        if check is not _check or timeout != _timeout:
            given["availability_check"] = None if check is None else _bounded(check, timeout)
        if given:
            core._configure(**given)
        _check, _timeout = check, timeout
        if "max_event_bytes" in given:
            events.Limits.max_event_bytes = given["max_event_bytes"]


def get_config() -> dict[str, Any]:
    """The settings as they are, by the names of :func:`configure`; a copy."""
    with _lock:
        settings: dict[str, Any] = dict(core._settings())
        settings["availability_check"] = _check
        settings["availability_timeout"] = _timeout
    return settings


def _coalesce_needs_key(given: Mapping[str, Any]) -> None:
    if "slow_policy" not in given and "coalesce_key" not in given:
        return
    now = {**core._settings(), **given}
    if now["slow_policy"] == "coalesce" and now["coalesce_key"] is None:
        raise ValueError('slow_policy="coalesce" needs a coalesce_key')


def _bounded(check: AvailabilityCheck, timeout: float) -> Callable[[], Awaitable[bool]]:
    """*check* as the core calls it: bounded in time, and never an error."""

    async def available() -> bool:
        core._checking.set(True)  # of this task and of all that it starts
        finished = await within(timeout, _called(check))
        if finished is None:
            warn_unavailable(f"took longer than {timeout:g} seconds")
            return False
        return _outcome(finished)

    return available


async def _called(check: AvailabilityCheck) -> bool:
    return bool(await check())


def _outcome(finished: asyncio.Future[bool]) -> bool:
    if finished.cancelled():
        warn_unavailable("was cancelled from within")
        return False
    error = finished.exception()
    if isinstance(error, Exception):
        warn_unavailable(f"failed with {error_name(error)}", error)
        return False
    if not finished.result():
        warn_unavailable("said no")
        return False
    return True


def _is_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {type(value).__name__}")


def _is_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {type(value).__name__}")
    if not 0 < value < 1 << 62:
        raise ValueError(f"{name} is at least 1, not {value}")


def _is_count_or_zero(name: str, value: object) -> None:
    if value != 0 or isinstance(value, (bool, float)):
        _is_count(name, value)


def _is_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is a number of seconds above 0, not {value}")


def _is_seconds_or_zero(name: str, value: object) -> None:
    if value != 0 or isinstance(value, bool):
        _is_seconds(name, value)


def _is_callable_or_none(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} is a function or None, not {type(value).__name__}")


def _is_slow_policy(name: str, value: object) -> None:
    if value not in SLOW_POLICIES:
        raise ValueError(f"{name} is one of {', '.join(SLOW_POLICIES)}, not {value!r:.60}")


def _is_envelope(name: str, value: object) -> None:
    if not callable(value) and value not in ENVELOPES:
        raise ValueError(
            f"{name} is one of {', '.join(ENVELOPES)}, or a function, not {value!r:.60}"
        )


_RULES: Final[Mapping[str, Callable[[str, object], None]]] = {
    "availability_check": _is_callable_or_none,
    "availability_timeout": _is_seconds,
    "envelope": _is_envelope,
    "max_event_bytes": _is_count,
    "max_users": _is_count,
    "max_connections_per_user": _is_count,
    "max_idle_users": _is_count_or_zero,
    "idle_ttl": _is_seconds_or_zero,
    "journal_max_events": _is_count_or_zero,
    "journal_max_bytes": _is_count,
    "journal_max_age": _is_seconds,
    "journal_budget": _is_count,
    "idempotency_window": _is_seconds,
    "stray_interval": _is_seconds_or_zero,
    "outbox_max_events": _is_count,
    "outbox_max_bytes": _is_count,
    "outbox_max_age": _is_seconds,
    "slow_policy": _is_slow_policy,
    "coalesce_key": _is_callable_or_none,
    "tcp_user_timeout": _is_seconds_or_zero,
    "error_limit": _is_count,
    "tolerate_await": _is_bool,
}
