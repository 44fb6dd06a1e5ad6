"""Ending a process without losing events and without a crowd at the next one's door.

``await wsmanager.drain()`` refuses new connections, turns readiness off, lets
the outboxes empty and closes the connections one after the other, each with a
reason that says when to come back. Browser clients come back to another
process, or the next one, and resume.

uvicorn runs an application's lifespan shutdown only after it has closed all
connections at once, so a drain there comes too late. :func:`install_drain`
drains between the signal and the server's own shutdown::

    @asynccontextmanager
    async def lifespan(app):
        with install_drain(deadline=10.0):
            yield

It works with whatever installs its handlers by ``signal.signal`` before it
starts the application: uvicorn from its command line, its worker processes,
``uvicorn.run`` and gunicorn's uvicorn workers. With aiohttp, whose
``on_shutdown`` runs in time, await :func:`drain` there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Final

from . import adapters
from ._bounded import within
from ._hooks import core
from ._log import error_name
from ._stage import flush_text
from ._wsmanager import Connection, get_websocket_manager
from .close_codes import close_reason, may_send

__all__ = ["DrainSummary", "InstalledDrain", "drain", "install_drain"]

_STEP: Final = 0.01  # seconds between two looks at an outbox that is not empty
_RESERVE: Final = 0.2  # the part of the deadline kept for the last closing handshakes
_logger: Final = logging.getLogger("wsmanager.drain")


@dataclass(frozen=True)
class DrainSummary:
    """What a drain did.

    :param connections: how many there were when it began, or came while it ran.
    :param closed: how many were closed with the code.
    :param cut: how many could not be closed so in time, and were cut off: the
        client sees 1006, comes back, and resumes.
    :param left: how many went by themselves meanwhile.
    :param unsent: events that were still in an outbox when its connection was
        closed or cut; the journal has those it has room for.
    :param seconds: how long it took.
    """

    connections: int
    closed: int
    cut: int
    left: int
    unsent: int
    seconds: float


class _Tally:
    """The counts of a drain under way; written by several loops' threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seen: set[tuple[str, int]] = set()
        names = ("connections", "closed", "cut", "left", "unsent")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)

    def add(self, name: str, count: int = 1) -> None:
        with self._lock:
            self.counts[name] += count


@dataclass(frozen=True)
class _Plan:
    """When and how the connections are closed; the times are of ``time.monotonic``."""

    start: float
    end: float
    spread: float
    code: int
    reason: str


_lock: Final = threading.Lock()
_last: Final[list[concurrent.futures.Future[DrainSummary]]] = []  # the drain under way, or done
_tasks: Final[set[asyncio.Task[DrainSummary]]] = set()  # a loop alone would not keep them


async def drain(
    deadline: float = 10.0,
    jitter: float = 5.0,
    code: int = 1012,
    retry_after: float | None = 1.0,
) -> DrainSummary:
    """Close every connection of this process in good order, and take no more.

    From the call on ``add_connection`` raises ``ServerDraining``, and the
    readiness route says so. Each connection is closed at its own moment within
    *jitter*, once its outbox is empty, on its own event loop; emits meanwhile
    go out or into the journal as ever. What is not closed by the deadline is
    cut off. Text that bridges hold back to merge it is sent first. There is no
    way back: the process is expected to end.

    May be called from any loop and any number of times: a call during or after
    a drain waits for that one, with its settings, and gives its summary. A
    caller that is cancelled does not stop it.

    :param deadline: seconds it may take in all. Keep it below what the server
        and the platform allow: Kubernetes kills 30 s after SIGTERM by default,
        uvicorn's ``timeout_graceful_shutdown`` begins after it.
    :param jitter: seconds over which the closes are spread, at most 0.8 of the
        deadline; 0: all at once.
    :param code: the close code (RFC 6455, 7.4); 1012 is service restart.
    :param retry_after: seconds after which the clients are to come back, said
        in the close reason; ``None``: not said.
    :raises ValueError: for a value out of its range, or a code that may not be sent.
    :raises TypeError: for one that is no number.
    """
    plan = _plan(deadline, jitter, code, retry_after)
    mine, result = _claim()
    if mine:
        core._drain(True)
        flush_text()
        task = asyncio.ensure_future(_run(plan))
        _tasks.add(task)
        task.add_done_callback(lambda done: _settle(result, done))
    return await asyncio.shield(asyncio.wrap_future(result))


def _plan(deadline: float, jitter: float, code: int, retry_after: float | None) -> _Plan:
    """The plan of a drain that begins now; it raises what :func:`drain` says of its settings."""
    settings = {"deadline": deadline, "jitter": jitter, "code": code, "retry_after": retry_after}
    for name, value in settings.items():
        known = int if name == "code" else (int, float)
        if not (isinstance(value, known) or (value is None and name == "retry_after")):
            raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if not 0 < deadline < float("inf"):
        raise ValueError(f"deadline is a number of seconds above 0, not {deadline}")
    if not 0 <= jitter < float("inf"):
        raise ValueError(f"jitter is a number of seconds, 0 or more, not {jitter}")
    if not may_send(code):
        raise ValueError(f"{code} is no close code that may be sent (RFC 6455, 7.4)")
    now = time.monotonic()
    return _Plan(
        start=now,
        end=now + deadline,
        spread=min(jitter, deadline * (1 - _RESERVE)),
        code=code,
        reason=close_reason("service restart" if code == 1012 else "draining", retry_after),
    )


def _claim() -> tuple[bool, concurrent.futures.Future[DrainSummary]]:
    """The drain under way or done, or a new one, which is the caller's then."""
    with _lock:
        # One whose effect was taken back, as reset_manager_registry() does, is over.
        if _last and (not _last[0].done() or core._draining()):
            return False, _last[0]
        _last[:] = [concurrent.futures.Future()]
        return True, _last[0]


def _settle(
    result: concurrent.futures.Future[DrainSummary], task: asyncio.Task[DrainSummary]
) -> None:
    _tasks.discard(task)
    if task.cancelled():
        result.cancel()
        return
    error = task.exception()
    if error is None:
        result.set_result(task.result())
    else:
        result.set_exception(error)


async def _run(plan: _Plan) -> DrainSummary:
    tally = _Tally()
    while time.monotonic() < plan.end:
        # Again, for one whose add_connection had begun before it was refused.
        connections = core._connections()
        if not connections:
            break
        await _pass(plan, connections, tally)
        await asyncio.sleep(_STEP)
    for connection in core._connections():
        _cut(connection, tally)
    summary = DrainSummary(**tally.counts, seconds=time.monotonic() - plan.start)
    _logger.info("drained: %s", summary, extra={"event": "drained"})
    return summary


async def _pass(plan: _Plan, connections: Iterable[Connection], tally: _Tally) -> None:
    """Close these, each loop its own, until the deadline at the latest."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Connection]] = defaultdict(list)
    for connection in connections:
        identity = (str(connection.connection_id), connection.generation)
        if identity not in tally.seen:
            tally.seen.add(identity)
            tally.add("connections")
        by_loop[connection.loop].append(connection)
    here = asyncio.get_running_loop()
    waits: list[asyncio.Future[None]] = []
    for loop, own in by_loop.items():
        if loop is not here and not loop.is_running():
            continue  # nothing can be sent there any more; cut off below
        work = _close_all(plan, own, tally)
        if loop is here:
            waits.append(asyncio.ensure_future(work))
            continue
        try:
            waits.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop)))
        except RuntimeError:  # closed meanwhile, and its connections with it
            work.close()
    if not waits:
        return
    done, late = await asyncio.wait(waits, timeout=max(0.0, plan.end - time.monotonic()))
    for wait in late:  # a loop that does not turn; what it has is cut off below
        wait.cancel()
    for wait in done:
        if not wait.cancelled():
            wait.result()


async def _close_all(plan: _Plan, connections: list[Connection], tally: _Tally) -> None:
    """Close connections of the running loop, at even distances in a random order."""
    random.shuffle(connections)
    left = max(0.0, plan.spread - (time.monotonic() - plan.start))
    begun = time.monotonic()
    tasks: list[asyncio.Task[None]] = []
    try:
        for index, connection in enumerate(connections):
            moment = begun + left * (index + random.random()) / len(connections)
            await asyncio.sleep(moment - time.monotonic())
            tasks.append(asyncio.ensure_future(_close(plan, connection, tally)))
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _close(plan: _Plan, connection: Connection, tally: _Tally) -> None:
    """Close one as soon as its outbox is empty, or when there is no more time to wait for that."""
    # The last part of the time is for the closing handshake.
    flush_by = plan.end - (plan.end - plan.start) * _RESERVE / 2
    await _flushed(connection, flush_by)
    if not connection.is_active:
        tally.add("left")
        return
    # It stays registered until then: to remove it would end a send under way.
    websocket, unsent = connection.websocket, connection.queued
    rest = max(0.0, plan.end - time.monotonic())
    finished = await within(rest, adapters.close(websocket, plan.code, plan.reason))
    if finished is None:
        adapters.cut(websocket)
    in_time = finished is not None and not finished.cancelled() and finished.result()
    if connection.is_active:
        unsent = connection.queued
    get_websocket_manager(connection.user_id).remove_connection(connection)
    tally.add("unsent", unsent)
    tally.add("closed" if in_time else "cut")


async def _flushed(connection: Connection, until: float) -> None:
    """Return when its outbox is empty, it has left, or the time is up."""
    while time.monotonic() < until and connection.is_active and connection.queued:  # noqa: ASYNC110
        # Nothing tells of a single outbox; most are empty at the first look.
        await asyncio.sleep(_STEP)


def _cut(connection: Connection, tally: _Tally) -> None:
    """Remove one whose time is up, and abort its transport; from any thread."""
    websocket, unsent = connection.websocket, connection.queued
    if not get_websocket_manager(connection.user_id).remove_connection(connection):
        return
    tally.add("cut")
    tally.add("unsent", unsent)
    try:
        connection.loop.call_soon_threadsafe(adapters.cut, websocket)
    except RuntimeError:
        pass  # the loop is closed, and so is the transport


# -- between the signal and the server ------------------------------------------


def install_drain(
    *,
    signals: Iterable[int] = (signal.SIGTERM,),
    deadline: float = 10.0,
    jitter: float = 5.0,
    code: int = 1012,
    retry_after: float | None = 1.0,
) -> InstalledDrain:
    """Drain on the first of *signals*, then call the handler that was there before.

    Call it in the application's startup, on the loop that is to run the drain.
    A second signal does not wait for the drain. Only the main thread can have
    signal handlers (:mod:`signal`), and a loop's own ``add_signal_handler``
    cannot be delayed: in another thread, as of a test client, and for a signal
    that the loop handles, nothing is installed, ``installed`` is false, and a
    record on the logger ``wsmanager.drain`` says so.

    :param signals: whose handlers are put off; add ``SIGINT`` to drain at Ctrl-C.
    :param deadline: as of :func:`drain`, like the rest.
    :returns: what takes it away again, by ``uninstall()`` or as a context manager.
    :raises ValueError: for a setting that :func:`drain` refuses, before anything is installed.
    :raises TypeError: likewise.
    :raises RuntimeError: without a running event loop.
    """
    _plan(deadline, jitter, code, retry_after)
    loop = asyncio.get_running_loop()
    options = {"deadline": deadline, "jitter": jitter, "code": code, "retry_after": retry_after}
    return InstalledDrain(loop, tuple(signals), options)


class InstalledDrain:
    """The handlers of :func:`install_drain`, to be taken away again."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, signals: tuple[int, ...], options: dict[str, Any]
    ) -> None:
        self._loop = loop
        self._options = options
        self._before: dict[int, Any] = {}
        self._begun = False
        self._task: asyncio.Task[None] | None = None
        if threading.current_thread() is not threading.main_thread():
            _logger.info("not the main thread: no signal begins a drain")
            return
        for number in signals:
            before = signal.getsignal(number)
            module = getattr(before, "__module__", None) or ""
            if before is None or module.partition(".")[0] in ("asyncio", "uvloop"):
                _logger.warning(
                    "%s is handled by the event loop itself: it does not begin a drain; "
                    "await drain() where this server shuts down",
                    signal.Signals(number).name,
                )
                continue
            self._before[number] = before
            signal.signal(number, self._handle)

    @property
    def installed(self) -> bool:
        """Whether a signal begins a drain."""
        return bool(self._before)

    def uninstall(self) -> None:
        """Put back the handlers that were there, where ours is still in place."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
        self._before.clear()

    def __enter__(self) -> InstalledDrain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstall()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Runs between two bytecodes of the main thread: it takes no lock.
        if self._begun or self._loop.is_closed():
            self._pass_on(number, frame)
            return
        self._begun = True
        self._loop.call_soon_threadsafe(self._start, number)

    def _start(self, number: int) -> None:
        self._task = self._loop.create_task(self._drain(number))

    async def _drain(self, number: int) -> None:
        try:
            await drain(**self._options)
        except Exception as error:
            _logger.exception("the drain failed with %s", error_name(error))
        finally:
            self._pass_on(number, None)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number, signal.SIG_DFL)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
