"""What the bridges of one user share: their order, the table of runs, and text that waits.

One lock a user makes an event and its place in the table one step, so that a
snapshot says exactly what was sent before it, and no event overtakes text. It
is held while the manager hands an event to its connections, and never while
code of a payload's classes runs: payloads are made plain before.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from . import _log, events
from ._ledger import Ledger
from ._order import RunOrder
from ._plain import settled
from ._watch import Watch, alive, set_timer
from ._wsmanager import Delivery, EventTooLarge, UnifiedWebSocketManager
from .deltas import MERGED_BYTES, Merged, TextDelta, utf8
from .runs import MAX_TEXT_BYTES, OnUnfinished, Run, RunState, RunTable

__all__ = ["Stage", "Terms", "flush_text", "run_totals", "stage_of"]

_NOTED_BYTES: Final = 4096  # smaller changes of a table wait before they are added up

watch = Watch()


class Terms(NamedTuple):
    """What a bridge was made with."""

    strict: bool
    delta_interval: float
    unfinished_after: float | None
    on_unfinished: OnUnfinished | None


class _Undo:
    """Takes back what was noted, the last first, if the body fails."""

    __slots__ = ("_notes",)

    def __enter__(self) -> _Undo:
        self._notes: list[Callable[[], None]] = []
        return self

    def add(self, take_back: Callable[[], None]) -> None:
        self._notes.append(take_back)

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None:
            for take_back in reversed(self._notes):
                take_back()


class Stage:
    """The shared part of one user's bridges. It never holds the manager, but while text waits."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an event sent from within a send is the same thread's
        self._waiting: dict[str, Merged] = {}  # by run
        self._loop: asyncio.AbstractEventLoop | None = None  # last seen running
        self._timer_at = float("inf")
        self._timer_loop: asyncio.AbstractEventLoop | None = None
        self.number = next(_numbers)
        self.noted = 0  # bytes of the table in the ledger
        self.order = RunOrder()
        self.table = RunTable()
        self.unfinished = self.text_events = self.text_pieces = self.text_failed = 0

    def __del__(self) -> None:
        # At any moment, in any thread: the ledger takes it up later.
        ledger.returned.append((self.number, self.noted))

    def reset(self) -> None:
        """Start anew in a forked child: what waits is the parent's to send."""
        self._lock = threading.RLock()
        self._waiting = {}
        self._timer_at, self._timer_loop, self._loop = float("inf"), None, None
        self.order = RunOrder()
        self.table.forget_all()
        self.noted = 0

    # -- events -----------------------------------------------------------------

    def send(
        self,
        manager: Any,
        event: str,
        data: dict[str, Any],
        names: dict[str, Any],
        agent: str | None,
        terms: Terms,
    ) -> Delivery:
        """Send an event after the text that waits, as one step with what is known of its run."""
        if isinstance(manager, UnifiedWebSocketManager):
            data = settled(data, "payload", events.Limits.max_event_bytes)
        run_id = names.get("run_id")
        strict = terms.strict and (run_id is not None or event in events.AGENT_EVENTS)
        with self._lock, _Undo() as undo:
            if strict:
                undo.add(self.order.enter(event, run_id, agent, data.get("tool_name")))
            self.flush()
            if run_id is not None:
                run, take_back = self.table.enter(
                    event, run_id, _user_of(manager), agent, names.get("thread_id"), data
                )
                undo.add(take_back)
                self._watch(run, terms)
            delivery: Delivery = manager.emit_event(event, data, **names)
        self._after(manager)
        return delivery

    def send_text(
        self,
        manager: Any,
        run_id: str,
        text: str,
        kind: str,
        agent: str | None,
        thread_id: str | None,
        terms: Terms,
    ) -> TextDelta:
        """Send *text*, with what waits of the same run and kind, or leave it to wait for more."""
        encoded = utf8(text)
        with self._lock:
            answer = self._take_more(run_id, text, encoded, kind, agent, thread_id, terms)
        if answer is not None:
            return answer
        with self._lock, _Undo() as undo:
            if terms.strict:
                undo.add(self.order.enter("text_delta", run_id, agent, None))
            user, data = _user_of(manager), {"text": text}
            run, take_back = self.table.enter("text_delta", run_id, user, agent, thread_id, data)
            undo.add(take_back)
            assert run is not None
            self._watch(run, terms)
            if text:
                agent = agent or run.agent_name
                merged = self._merged(manager, run_id, kind, agent, thread_id, len(encoded), terms)
                self._take(merged, run, text, encoded, terms)
                answer = merged.answer
            else:
                answer = TextDelta(manager)
        self._after(manager)
        return answer

    def snapshot(self, manager: Any, run_id: str, connection_id: str | None) -> Delivery:
        """Send what is known of a run: all that was sent of it before, and nothing else."""
        names: dict[str, Any] = {"run_id": run_id, "critical": True}
        if connection_id is not None:
            names["connection_id"] = connection_id
        with self._lock:
            self.flush()
            run = self.table.find(run_id)
            if run is None:
                data = {"found": False, "run_id": run_id, "status": "unknown"}
                delivery: Delivery = manager.emit_event("run_snapshot", data, **names)
                return delivery
            if run.thread_id is not None:
                names["thread_id"] = run.thread_id
            text_bytes = MAX_TEXT_BYTES
            while True:
                data = run.state(text_bytes).payload()
                try:
                    sent: Delivery = manager.emit_event("run_snapshot", data, **names)
                except EventTooLarge:
                    if not text_bytes:
                        raise
                    text_bytes = text_bytes // 2 if text_bytes > 256 else 0
                else:
                    return sent

    def snapshot_open(self, manager: Any, connection_id: str | None) -> tuple[Delivery, ...]:
        """A snapshot of every open run; of none, one that says so."""
        with self._lock:
            found = [run.run_id for run in self.table if run.status in ("running", "unfinished")]
            if found:
                return tuple(self.snapshot(manager, run_id, connection_id) for run_id in found)
            names = {} if connection_id is None else {"connection_id": connection_id}
            data = {"found": False, "run_id": None, "status": "unknown"}
            return (manager.emit_event("run_snapshot", data, critical=True, **names),)

    def states(self) -> tuple[RunState, ...]:
        with self._lock:
            return tuple(run.state() for run in self.table)

    def state(self, run_id: str) -> RunState | None:
        with self._lock:
            run = self.table.find(run_id)
            return None if run is None else run.state()

    def stats(self) -> dict[str, int]:
        with self._lock:
            open_runs = sum(run.is_open for run in self.table)
            return {
                "runs_open": open_runs,
                "runs_ended": len(self.table) - open_runs,
                "runs_unfinished_total": self.unfinished,
                "runs_forgotten_total": self.table.forgotten,
                "run_bytes": self.table.bytes,
                "text_pieces_total": self.text_pieces,
                "text_events_total": self.text_events,
                "text_failed_total": self.text_failed,
                "text_waiting": sum(len(merged.pieces) for merged in self._waiting.values()),
            }

    @property
    def weight(self) -> int:
        """Bytes of the table of runs, about."""
        return self.table.bytes

    def shed(self, ended_only: bool) -> int:
        """Forget runs, unless the user is busy just now; the bytes of the table then."""
        if self._lock.acquire(blocking=False):
            try:
                while self.table.shed_one(ended_only=ended_only):
                    pass
            finally:
                self._lock.release()
        return self.table.bytes

    # -- text that waits ----------------------------------------------------------

    def flush(self) -> None:
        """Send the text that waits, of every run; the lock is held."""
        while self._waiting:
            self._flush(next(iter(self._waiting.values())))

    def flush_now(self) -> None:
        with self._lock:
            self.flush()

    def _take_more(
        self,
        run_id: str,
        text: str,
        encoded: bytes,
        kind: str,
        agent: str | None,
        thread_id: str | None,
        terms: Terms,
    ) -> TextDelta | None:
        """Take one more piece of text that waits already, which is what most are."""
        merged = self._waiting.get(run_id)
        if merged is None or terms.strict:
            return None
        run = self.table.find(run_id)
        if run is None or not merged.takes(kind, agent or run.agent_name, thread_id, len(encoded)):
            return None
        self._take(merged, run, text, encoded, terms)
        return merged.answer

    def _merged(
        self,
        manager: Any,
        run_id: str,
        kind: str,
        agent: str | None,
        thread_id: str | None,
        size: int,
        terms: Terms,
    ) -> Merged:
        """The event that a piece belongs to: one that waits, or a new one behind that."""
        waiting = self._waiting.get(run_id)
        if waiting is not None and not waiting.takes(kind, agent, thread_id, size):
            self._flush(waiting)
            waiting = self._waiting.get(run_id)  # of a nested call, if any
        if waiting is not None and waiting.takes(kind, agent, thread_id, size):
            return waiting
        due = time.monotonic() + terms.delta_interval
        return Merged(manager, run_id, kind, agent, thread_id, due)

    def _take(self, merged: Merged, run: Run, text: str, encoded: bytes, terms: Terms) -> None:
        """Add a piece to *merged*, and send that now if it cannot wait."""
        kind = merged.kind
        if not merged.pieces:
            merged.place = self.table.place(run, kind)
        merged.add(text, len(encoded))
        self.text_pieces += 1
        if merged.waits or self._may_wait(merged, terms.delta_interval):
            self.table.add_text(run, kind, text, encoded)
            run.touched = time.monotonic()
            if run.touched >= merged.due:  # its timer's loop is late, or gone
                self._flush(merged)
            return
        small = len(encoded) <= MERGED_BYTES  # a larger one pushes out what was there
        if small:
            self.table.add_text(run, kind, text, encoded)
        try:
            merged.emit()
        except BaseException:
            self.text_pieces -= 1
            if small:
                self.table.take_text_back(run, kind, text, encoded)
            raise
        if not small:
            self.table.add_text(run, kind, text, encoded)
        self.text_events += 1

    def _flush(self, merged: Merged) -> None:
        if self._waiting.get(merged.run_id) is not merged:
            return
        del self._waiting[merged.run_id]
        merged.waits = False
        if not self._waiting:
            _with_text.discard(self)
        try:
            merged.emit()
        except Exception as error:  # noqa: BLE001 - not the error of the event that waits behind it
            merged.answer.failed(error)
            self.text_failed += len(merged.pieces)
            _log.report("text", "emit failed", {"run_id": merged.run_id, "error": error})
        else:
            self.text_events += 1

    def _may_wait(self, merged: Merged, interval: float) -> bool:
        """Leave *merged* to a timer, if there is a loop for one and it fits into an event."""
        if interval <= 0 or merged.bytes > merged.limit:
            return False
        loop = self._find_loop(merged.manager)
        if loop is None:
            return False
        late = self._timer_at < time.monotonic()
        if late or self._timer_at > merged.due or not alive(self._timer_loop):
            if not set_timer(loop, interval, self._fire):
                return False
            self._timer_at, self._timer_loop = merged.due, loop
        self._waiting[merged.run_id] = merged
        merged.waits = True
        _with_text.add(self)
        return True

    def _fire(self) -> None:
        with self._lock:
            self._timer_at, self._timer_loop = float("inf"), None
            self.flush()

    def _find_loop(self, manager: Any) -> asyncio.AbstractEventLoop | None:
        """A loop that is alive: the one of this thread, the last seen here, or a connection's."""
        running = asyncio._get_running_loop()
        if running is not None:
            self._loop = running
            return running
        if alive(self._loop):
            return self._loop
        self._loop = None
        connections = getattr(manager, "active_connections", None)
        if isinstance(connections, Mapping):
            for connection in connections.values():
                loop = getattr(connection, "loop", None)
                if isinstance(loop, asyncio.AbstractEventLoop) and alive(loop):
                    self._loop = loop
                    return loop
        return None

    # -- runs without an end --------------------------------------------------------

    def _watch(self, run: Run | None, terms: Terms) -> None:
        if run is None:
            return
        run.on_unfinished = terms.on_unfinished
        if run.limit != terms.unfinished_after or run not in watch:
            run.limit = terms.unfinished_after
            watch.add(run, self._flag)

    def _flag(self, run: Run, now: float) -> RunState | None:
        """The state of *run* if it is late, which it is from now on; else have it watched on."""
        with self._lock:
            deadline = run.deadline
            if deadline is None:
                return None
            if deadline > now:
                watch.add(run, self._flag)
                return None
            run.status = "unfinished"
            self.unfinished += 1
            return run.state()

    def _after(self, manager: Any) -> None:
        if self._lock._is_owned():  # type: ignore[attr-defined]  # a nested call: not yet
            return
        if abs(self.table.bytes - self.noted) >= _NOTED_BYTES:
            ledger.note(self)
        watch.tick(lambda: self._find_loop(manager))


_numbers = itertools.count()
_making = threading.Lock()
_stages: weakref.WeakKeyDictionary[Any, Stage] = weakref.WeakKeyDictionary()
_with_text: set[Stage] = set()
ledger = Ledger()


def stage_of(manager: Any) -> Stage:
    """The shared part of the bridges of *manager*, a weakly referable object."""
    stage = _stages.get(manager)
    if stage is None:
        with _making:
            stage = _stages.get(manager)
            if stage is None:
                stage = _stages[manager] = Stage()
                ledger.note(stage)
    return stage


def flush_text() -> None:
    """Send all text that bridges of this process hold back to merge it; also done at exit."""
    for stage in list(_with_text):
        stage.flush_now()


def run_totals() -> dict[str, int]:
    """Of all users of this process: tables, their bytes, runs watched, runs found unfinished."""
    return {
        "run_users": len(_stages),
        "run_bytes": ledger.bytes,
        "runs_watched": len(watch),
        "runs_unfinished_total": watch.unfinished,
    }


def _user_of(manager: Any) -> str | None:
    user = manager.user_id
    return user if isinstance(user, str) else None


def _after_fork() -> None:
    """In the child: no lock is held, no text waits, no run is known; all are the parent's."""
    global _making  # noqa: PLW0603 - another thread may have held it
    _making = threading.Lock()
    _with_text.clear()
    ledger.reset()
    watch.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush_text)
