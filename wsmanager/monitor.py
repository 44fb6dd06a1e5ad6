"""Finds, in a running program, the awaits of a manager that no reading of the code finds.

``wsmanager audit`` follows what is written down. A factory that comes out of a
dict, a parameter or a computed ``getattr`` shows only when it is awaited, as a
``TypeError`` that may end anywhere. Give the errors that pass by to
:func:`check`, by one of these::

    app.add_middleware(MisAwaitMiddleware)        # Starlette, FastAPI
    app = MisAwaitMiddleware(app)                 # any ASGI application
    monitor.install()                             # errors of tasks nobody awaits
    handler.addFilter(MisAwaitFilter())           # errors that the code catches and logs

An error that is a manager awaited by mistake gets a note with the remedy, is
counted by the place of its ``await``, and goes on as it was. For code in the
middle of a migration see ``configure(tolerate_await=True)`` as well, whose
awaits :func:`mis_await_totals` counts too.
"""

from __future__ import annotations

import asyncio
import builtins
import linecache
import logging
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, NamedTuple

from ._log import one_line
from ._wsmanager import UnifiedWebSocketManager, get_manager_registry_status

__all__ = [
    "MisAwait",
    "MisAwaitFilter",
    "MisAwaitMiddleware",
    "check",
    "install",
    "mis_await_totals",
    "mis_awaits",
    "reset",
]

_logger: Final = logging.getLogger("wsmanager.monitor")

MAX_SITES: Final = 1_000
"""Places that are kept apart; awaits of further ones are counted together."""

_MOST_LINKED: Final = 64  # errors looked at behind one: its causes, contexts and group members
_NOTE: Final = "wsmanager: "
_Group: Final[Any] = getattr(builtins, "BaseExceptionGroup", None)  # from 3.11 on

#: CPython to 3.13, and from 3.14 on.
_WORDINGS: Final = (
    re.compile(r"object (?P<type>[\w.]+) can't be used in 'await' expression"),
    re.compile(r"'(?P<type>[\w.]+)' object can't be awaited"),
)
#: What asyncio says of something that it cannot make a task of: none names the type.
_ASYNCIO: Final = (
    "a coroutine was expected",
    "A coroutine object is required",
    "An asyncio.Future, a coroutine or an awaitable is required",
)
_ASYNCIO_ARGUMENTS: Final = ("coro_or_future", "coro", "main", "future", "fut", "arg", "aw")
#: The names of managers, ours and those of the code that is being migrated.
_MANAGER: Final = re.compile(r"_*\w*WebSocketManager(Implementation)?")
#: Other results of ours that code awaits by mistake, and what gives them.
_RESULTS: Final = {
    "ServerMessage": ("create_server_message",),
    "ErrorMessage": ("create_error_message",),
    "dict": ("get_manager_registry_status", "create_server_message", "create_error_message"),
}
_OWN_TYPES: Final = frozenset({"ServerMessage", "ErrorMessage"})

_MANAGER_REMEDY: Final = (
    "get_websocket_manager() is a plain function and gives the manager itself. Drop this await, "
    "or await get_websocket_manager_async() instead; `wsmanager audit --fix PATH` does it for "
    "what can be read off the code."
)
_RESULT_REMEDY: Final = "{function}() is a plain function. Drop this await."
_STATUS_REMEDY: Final = (
    "get_manager_registry_status() is a plain function. Drop this await, or import it from "
    "wsmanager.compat, where it is a coroutine function."
)


class MisAwait(NamedTuple):
    """One place where something that cannot be awaited was.

    *file*, *line* and *function* are those of the ``await``, or of the call of
    asyncio that was to await; empty and 0 if the error had no traceback, and in
    the one record of all places beyond ``MAX_SITES``. *what* is the type of
    the object, *times* how often, *first* and *last* when (seconds since the epoch).
    """

    file: str
    line: int
    function: str
    what: str
    times: int
    first: float
    last: float


class _Found(NamedTuple):
    what: str
    remedy: str
    frame: FrameType | None
    line: int


class _Table:
    """The places, counted. Any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sites: dict[tuple[str, int, str, str], MisAwait] = {}
        self.total = 0
        self.unlisted = 0

    def add(self, found: _Found) -> tuple[MisAwait, bool]:
        """Count one; also whether its place is new."""
        now = time.time()
        file, function = "", ""
        if found.frame is not None:
            code = found.frame.f_code
            file, function = code.co_filename, _name(code)
        key = (file, found.line, function, found.what)
        with self.lock:
            self.total += 1
            known = self.sites.get(key)
            if known is None and len(self.sites) >= MAX_SITES:
                self.unlisted += 1
                key = ("", 0, "", "")
                known = self.sites.get(key)
            first = now if known is None else known.first
            times = 1 if known is None else known.times + 1
            record = self.sites[key] = MisAwait(*key, times, first, now)
        return record, known is None

    def clear(self) -> None:
        with self.lock:
            self.sites.clear()
            self.total = self.unlisted = 0


_table: Final = _Table()
if hasattr(os, "register_at_fork"):  # a thread that counted may not exist in the child

    def _renew() -> None:
        _table.lock = threading.Lock()
        _table.clear()

    os.register_at_fork(after_in_child=_renew)


def mis_awaits() -> list[MisAwait]:
    """What was awaited by mistake so far in this process, the most frequent place first; a copy."""
    with _table.lock:
        found = list(_table.sites.values())
    return sorted(found, key=lambda record: (-record.times, record.file, record.line))


def mis_await_totals() -> dict[str, int]:
    """Numbers for metrics, since the start of the process.

    ``raised``: awaits that were errors and passed by here; ``sites``: their
    places; ``unlisted``: those of them beyond the ``MAX_SITES`` places that are
    kept apart; ``tolerated``: awaits that ``configure(tolerate_await=True)``
    let work, which no error tells of.
    """
    tolerated = get_manager_registry_status().get("tolerated_awaits", 0)
    with _table.lock:
        return {
            "raised": _table.total,
            "sites": len(_table.sites),
            "unlisted": _table.unlisted,
            "tolerated": tolerated,
        }


def reset() -> None:
    """Forget all places and counts; for tests."""
    _table.clear()


def check(error: BaseException | None) -> bool:
    """Whether *error* is, or was caused by, the await of a manager by mistake.

    If so, the error gets a note with the remedy (PEP 678; before Python 3.11
    the same list is put into ``__notes__``) and its place is counted, once
    however often the error passes by. Causes, contexts and members of
    exception groups are looked at as well. Nothing else of an error is changed,
    and nothing of its classes' code is run. Any thread; never raises.
    """
    matched = False
    for each in _linked(error):
        if type(each) not in (TypeError, ValueError):
            continue
        notes = getattr(each, "__notes__", None)
        if isinstance(notes, list) and any(
            isinstance(note, str) and note.startswith(_NOTE) for note in notes
        ):
            matched = True
            continue
        found = _recognised(each)
        if found is None:
            continue
        matched = True
        _annotate(each, _NOTE + found.remedy)
        record, new = _table.add(found)
        if new:
            _logger.warning(
                "%s awaited by mistake at %s:%d in %s",
                one_line(record.what) or "further places",
                one_line(record.file),
                record.line,
                one_line(record.function),
                extra={"event": "mis_await", "reason": "raised"},
            )
    return matched


def _linked(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came from, and what it is a group of; each once."""
    pending = [error]
    seen: set[int] = set()
    while pending and len(seen) < _MOST_LINKED:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        pending += [each.__cause__, each.__context__]
        if _Group is not None and issubclass(type(each), _Group):
            pending += _Group.exceptions.__get__(each)
        else:  # the backport that anyio brings to Python 3.10
            members = each.__dict__.get("_exceptions")
            if isinstance(members, (list, tuple)):
                pending += [item for item in members if isinstance(item, BaseException)]


def _recognised(error: BaseException) -> _Found | None:
    text = error.args[0] if error.args else None
    if type(text) is not str:
        return None
    for wording in _WORDINGS:
        match = wording.fullmatch(text)
        if match is not None:
            return _awaited(match["type"].rpartition(".")[2], error.__traceback__)
    if text.startswith(_ASYNCIO):
        return _scheduled(error.__traceback__)
    return None


def _awaited(what: str, traceback: TracebackType | None) -> _Found | None:
    """For the interpreter's own error: it is raised in the frame that has the await.

    From 3.12 on that may be one of asyncio's, as wait_for() awaits what it is given.
    """
    frame, line = None, 0
    for entry in _entries(traceback):
        if frame is None or not _of_asyncio(entry.tb_frame):
            frame, line = entry.tb_frame, entry.tb_lineno
    if _MANAGER.fullmatch(what):
        return _Found(what, _MANAGER_REMEDY, frame, line)
    functions = _RESULTS.get(what, ())
    if not functions:
        return None
    source = linecache.getline(frame.f_code.co_filename, line) if frame is not None else ""
    named = [name for name in functions if re.search(rf"\b{name}\b", source)]
    if not named and what not in _OWN_TYPES:
        return None  # a dict may come from anywhere
    function = named[0] if named else functions[0]
    if function == "get_manager_registry_status":
        return _Found(what, _STATUS_REMEDY, frame, line)
    return _Found(what, _RESULT_REMEDY.format(function=function), frame, line)


def _scheduled(traceback: TracebackType | None) -> _Found | None:
    """For asyncio's: the frame that refused has the object, the last one outside called it."""
    frame, line = None, 0
    manager = None
    for entry in _entries(traceback):
        if _of_asyncio(entry.tb_frame):
            here = entry.tb_frame.f_locals
            for argument in _ASYNCIO_ARGUMENTS:
                # Not isinstance(): that asks the object, whose code may be anyone's.
                if issubclass(type(here.get(argument)), UnifiedWebSocketManager):
                    manager = type(here[argument]).__name__
        else:
            frame, line = entry.tb_frame, entry.tb_lineno
    return None if manager is None else _Found(manager, _MANAGER_REMEDY, frame, line)


def _of_asyncio(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and name.partition(".")[0] in ("asyncio", "uvloop")


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _name(code: CodeType) -> str:
    name: str = getattr(code, "co_qualname", code.co_name)  # the longer one from 3.11 on
    return name


def _annotate(error: BaseException, note: str) -> None:
    add_note = getattr(error, "add_note", None)
    if add_note is not None:
        add_note(note)
    elif isinstance(getattr(error, "__notes__", None), list):
        error.__notes__.append(note)  # type: ignore[attr-defined,unused-ignore]
    else:
        error.__notes__ = [note]  # type: ignore[attr-defined,unused-ignore]


# -- where errors pass by -------------------------------------------------------

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
LoopHandler = Callable[[asyncio.AbstractEventLoop, "dict[str, Any]"], object]


class MisAwaitMiddleware:
    """ASGI middleware, for scopes of all types: every error of *app* is given to :func:`check` and goes on.

    What an exception handler inside *app* turns into a response does not get
    here; for what is caught and logged see :class:`MisAwaitFilter`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            check(error)
            raise


class MisAwaitFilter(logging.Filter):
    """A logging filter that lets every record pass and gives its error to :func:`check`.

    For the handler of the root logger: then ``logger.exception(...)`` in an
    ``except`` that swallows the error counts as well, and the record that is
    written has the note.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        info = record.exc_info
        if isinstance(info, tuple):
            check(info[1])
        return True


class _Hook:
    """The exception handler of one loop; hands on to the one that was there before."""

    def __init__(self, before: LoopHandler | None) -> None:
        self.before = before
        self.active = True

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.active:
            error = context.get("exception")
            check(error if isinstance(error, BaseException) else None)
        if self.before is None:
            loop.default_exception_handler(context)
        else:
            self.before(loop, context)


def install(loop: asyncio.AbstractEventLoop | None = None) -> Callable[[], None]:
    """Give the errors that reach the exception handler of *loop* to :func:`check`.

    These are the errors of tasks that nobody awaits, of callbacks and of
    transports. The handler that was set before is called as it was, or the
    loop's default one. A second call for a loop changes nothing.

    :param loop: the running loop if not given. Call it on the loop's thread,
        or before it runs.
    :returns: a function that takes the hook out again.
    :raises RuntimeError: without *loop*, if no loop is running.
    """
    loop = asyncio.get_running_loop() if loop is None else loop
    current = loop.get_exception_handler()
    if isinstance(current, _Hook):
        hook = current
        hook.active = True
    else:
        hook = _Hook(current)
        loop.set_exception_handler(hook)
    target = loop

    def uninstall() -> None:
        hook.active = False  # enough where another handler now chains to ours
        if target.get_exception_handler() is hook:
            target.set_exception_handler(hook.before)

    return uninstall
