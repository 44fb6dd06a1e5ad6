"""Whether this process should get traffic, and if not, why: for readiness gates.

::

    readiness = check_ready()          # any thread, never waits
    readiness = await validate_startup()  # once, before the first request

Both give a :class:`Readiness`, true if all is well, with the reasons if not.
``OperationsApp`` serves the first as ``/ready``.
"""

from __future__ import annotations

import asyncio
import inspect
import resource
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from . import config
from ._bounded import within
from ._hooks import core
from ._log import error_name, one_line
from ._probe import INTERVAL, loop_lags
from ._wsmanager import get_websocket_manager

__all__ = [
    "Readiness",
    "add_check",
    "check_ready",
    "is_draining",
    "remove_check",
    "validate_startup",
]

Check = Callable[[], "str | None"]
"""A function without arguments: why this process is not ready, or ``None``."""

MAX_LOOP_LAG: Final = 2.0
"""Seconds an event loop may be late before the process is not ready."""

STALL_GRACE: Final = 5.0
"""Seconds over ``outbox_max_age`` after which a connection should long have been closed."""

_checks: dict[str, Check] = {}
_checks_lock = threading.Lock()


@dataclass(frozen=True)
class Readiness:
    """The verdict: true if there is no reason against it.

    :param reasons: one line each, without ids; empty if all is well.
    """

    reasons: tuple[str, ...] = field(default=())

    @property
    def ready(self) -> bool:
        return not self.reasons

    def __bool__(self) -> bool:
        return self.ready


def is_draining() -> bool:
    """Whether this process takes no new connections because it is about to end."""
    return bool(core._draining())


def add_check(name: str, check: Check) -> None:
    """Let *check* have a say in :func:`check_ready`, replacing an older one of that *name*.

    :param check: a plain function, called in the thread of whoever asks; gives a
        line that says why not, or ``None``. It must not block. One that raises
        counts as a no.
    :raises TypeError: if *check* cannot be called, or has to be awaited.
    """
    given: object = check
    if not callable(given) or inspect.iscoroutinefunction(given):
        what = "async def" if callable(given) else type(given).__name__
        raise TypeError(f"a check is a function that gives a str or None, not {what}")
    with _checks_lock:
        _checks[name] = check


def remove_check(name: str) -> bool:
    """Take a check out again; whether there was one."""
    with _checks_lock:
        return _checks.pop(name, None) is not None


def check_ready(*, max_loop_lag: float = MAX_LOOP_LAG) -> Readiness:
    """Whether to send this process new connections just now. Any thread; never waits.

    Not while it is draining; not while an event loop that owns connections has
    not turned for *max_loop_lag* seconds; not while a connection waits for its
    transport longer than ``outbox_max_age`` and some seconds more, by when
    its loop should have closed it; nor if a check of :func:`add_check` says
    no. A client that does not read is none of these: it is closed in time.
    """
    reasons: list[str] = []
    if is_draining():
        reasons.append("draining: no new connections")
    lags = loop_lags()
    for number, lag in enumerate(lags, 1):
        if lag.seconds > max_loop_lag:
            reasons.append(
                f"event loop {number} of {len(lags)} ({lag.connections} connections) "
                f"has been stuck for {lag.seconds:.1f} s"
            )
    most = float(core._settings()["outbox_max_age"]) + STALL_GRACE
    longest = float(core._counters()["longest_wait"])
    if longest > most:
        reasons.append(f"a writer has waited {longest:.1f} s for its transport (limit {most:g} s)")
    with _checks_lock:
        checks = list(_checks.items())
    for name, check in checks:
        why = _asked(check)
        if why is not None:
            reasons.append(f"{one_line(name)}: {why}")
    return Readiness(tuple(reasons))


def _asked(check: Check) -> str | None:
    try:
        why = check()
    except Exception as error:  # noqa: BLE001 -- a check that fails is a no, and says so
        return f"the check failed with {error_name(error)}"
    return None if why is None else one_line(str(why))


async def validate_startup(
    *, timeout: float = 10.0, expected_connections: int | None = None
) -> Readiness:
    """Look once, at startup, at what would else be found out under load.

    The core works, this event loop turns, the ``availability_check`` that is
    configured says yes, there are file descriptors for *expected_connections*
    (if given), and :func:`check_ready` has nothing against it.

    :param timeout: seconds all of it may take.
    :raises ValueError: if *timeout* is not above 0.
    """
    if not timeout > 0:
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout}")
    reasons: list[str] = []
    deadline = asyncio.get_running_loop().time() + timeout
    reasons += _core_works()
    reasons += await _loop_turns()
    reasons += await _service_is_available(deadline)
    reasons += _descriptors_suffice(expected_connections)
    reasons += check_ready().reasons
    return Readiness(tuple(dict.fromkeys(reasons)))


def _core_works() -> list[str]:
    manager = get_websocket_manager(None)
    if get_websocket_manager(None) is manager:
        return []
    return ["the registry gives two managers for one key"]


async def _loop_turns() -> list[str]:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(INTERVAL)
    late = loop.time() - before - INTERVAL
    return [f"this event loop is {late:.1f} s late"] if late > MAX_LOOP_LAG else []


async def _service_is_available(deadline: float) -> list[str]:
    check = config.get_config()["availability_check"]
    if check is None:
        return []
    left = max(deadline - asyncio.get_running_loop().time(), 0.001)
    try:
        finished = await within(left, check())
        if finished is None:
            return ["the availability check took too long"]
        available = bool(finished.result())
    except Exception as error:  # noqa: BLE001 -- the application's own, told by its type
        return [f"the availability check failed with {error_name(error)}"]
    return [] if available else ["the availability check said no"]


def _descriptors_suffice(expected: int | None) -> list[str]:
    if expected is None:
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or expected + 64 <= soft:
        return []
    return [f"{expected} connections are expected and only {soft} files may be open (ulimit -n)"]
