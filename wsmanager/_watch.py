"""Runs that go silent without a terminal event are noticed, and said.

There is no thread for it. The earliest deadline of all runs has a timer on an
event loop that is alive; where there is no such loop, or it stopped meanwhile,
the next call of any bridge looks. The heap holds runs, not users: what it
keeps of a user that is gone is one small run until its deadline.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Final

from . import _log
from .runs import Run, RunState

__all__ = ["Watch", "alive", "set_timer"]

MAX_WATCHED: Final = 65_536
"""Runs watched in this process; of more, those with the latest deadlines are not."""


def alive(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether a timer set on *loop* now is going to fire."""
    return loop is not None and loop.is_running() and not loop.is_closed()


def set_timer(
    loop: asyncio.AbstractEventLoop, seconds: float, function: Callable[[], object]
) -> bool:
    """Have *loop* call *function*, in a context of its own; false if it closed meanwhile."""
    context = contextvars.Context()
    try:
        if loop is asyncio._get_running_loop():
            loop.call_later(seconds, function, context=context)
        else:
            loop.call_soon_threadsafe(
                lambda: loop.call_later(seconds, function, context=context), context=context
            )
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


class Watch:
    """The open runs by deadline. *flag* marks one as unfinished if it is late, under its lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a leaf: nothing is called under it
        self._heap: list[tuple[float, int, Run, Callable[[Run, float], RunState | None]]] = []
        self._numbers = itertools.count()
        self._queued: dict[int, float] = {}  # id of each run in the heap, its place there
        self._compact_at = 256
        self._timer_at = float("inf")
        self._timer_loop: asyncio.AbstractEventLoop | None = None
        self.unfinished = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, run: Run) -> bool:
        return id(run) in self._queued

    def add(self, run: Run, flag: Callable[[Run, float], RunState | None]) -> None:
        """Watch *run*, whose lock is held; once is enough, it is asked again when it is due."""
        deadline = run.deadline
        if deadline is None or self._queued.get(id(run), float("inf")) <= deadline:
            return
        with self._lock:
            if len(self._heap) >= self._compact_at:
                self._compact()
            if len(self._heap) >= MAX_WATCHED:
                return
            self._queued[id(run)] = deadline
            heapq.heappush(self._heap, (deadline, next(self._numbers), run, flag))

    def tick(self, find_loop: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        """Look for late runs if any may be late, and have a timer if none is set. Call without locks."""
        heap = self._heap
        if not heap:
            return
        now = time.monotonic()
        try:
            first = heap[0][0]
        except IndexError:  # another thread took the last one
            return
        if first <= now:
            self._check(now)
        elif self._timer_at > first or not alive(self._timer_loop):
            self._arm(first, find_loop())

    def forget_all(self) -> None:
        """Watch nothing: this process has forked, and the runs are its parent's."""
        self.__init__()  # type: ignore[misc]

    def _compact(self) -> None:
        """Let go of the runs that have ended."""
        self._heap = [entry for entry in self._heap if entry[2].deadline is not None]
        heapq.heapify(self._heap)
        self._queued = {id(run): deadline for deadline, _, run, _ in reversed(self._heap)}
        self._compact_at = max(256, 2 * len(self._heap))

    def _arm(self, deadline: float, loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is None or not alive(loop):
            return
        with self._lock:
            self._timer_at, self._timer_loop = deadline, loop
        if not set_timer(loop, max(deadline - time.monotonic(), 0.0), self._fire):
            with self._lock:
                self._timer_at, self._timer_loop = float("inf"), None

    def _fire(self) -> None:
        """The timer, on its loop."""
        with self._lock:
            self._timer_at, self._timer_loop = float("inf"), None
        self._check(time.monotonic())
        self.tick(asyncio.get_running_loop)

    def _check(self, now: float) -> None:
        late = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                deadline, _, run, flag = heapq.heappop(self._heap)
                if self._queued.get(id(run)) == deadline:
                    del self._queued[id(run)]
                late.append((run, flag))
        for run, flag in late:
            state = flag(run, now)  # takes the run's own lock, and adds it again if it is not late
            if state is not None:
                self._tell(run, state, now - run.touched)

    def _tell(self, run: Run, state: RunState, silent: float) -> None:
        with self._lock:
            self.unfinished += 1
        _log.report(
            "unfinished",
            "no terminal event",
            {"user_id": state.user_id, "run_id": state.run_id, "silent_seconds": round(silent, 3)},
        )
        if run.on_unfinished is None:
            return
        try:
            run.on_unfinished(state)
        except Exception as error:  # noqa: BLE001 - it is the application's; no emitter is to see it
            _log.report("callback", "on_unfinished", {"error": error})
