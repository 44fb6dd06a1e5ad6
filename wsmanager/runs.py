"""What is known of a user's agent runs: a bounded table, kept up by the bridge.

The table holds what a tab that comes late needs to show a run at once, not
what it was told along the way: no parameters, no results, the text only within
:data:`MAX_TEXT_BYTES`. It is of one user, and within :data:`MAX_RUNS` runs and
:data:`MAX_USER_BYTES` bytes; a run that has ended is kept :data:`KEPT_SECONDS`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, Literal

from . import events

__all__ = ["OpenTool", "RunState", "RunText", "UsedTool"]

MAX_RUNS: Final = 64
"""Runs kept of one user. Ended ones go first, then the one longest without an event."""

MAX_USER_BYTES: Final = 512 * 1024
"""Bytes the table of one user may hold, about."""

MAX_TEXT_BYTES: Final = 64 * 1024
"""UTF-8 bytes of text kept of a run and kind: the last ones."""

MAX_KINDS: Final = 4
"""Kinds of text kept of one run; text of more kinds is sent, and not kept."""

MAX_PROGRESS_BYTES: Final = 8 * 1024
"""A larger ``progress_update`` is sent, and not kept."""

MAX_ERROR_CHARACTERS: Final = 2048
MAX_TOOLS: Final = 128
"""Open tools, and completed tools, kept of one run: the last ones."""

MAX_AGENTS: Final = 64
KEPT_SECONDS: Final = 900.0
"""Seconds a run is kept after it ended."""

RunStatus = Literal["running", "completed", "failed", "unfinished"]
OnUnfinished = Callable[["RunState"], object]

_RUN_BYTES: Final = 1024  # of an empty run with its names
_TOOL_BYTES: Final = 256
_WORK: Final = frozenset({*events.AGENT_EVENTS, "agent_error", "progress_update", "text_delta"})
"""The events that make a run known; others only tell that a known one is alive."""


@dataclass(frozen=True)
class OpenTool:
    """A tool that was called and has not completed."""

    tool_name: str
    agent_name: str | None
    started_at: datetime


@dataclass(frozen=True)
class UsedTool:
    """A tool that completed; *execution_time_ms* is as the bridge was told, else as it measured."""

    tool_name: str
    agent_name: str | None
    execution_time_ms: float | None


@dataclass(frozen=True)
class RunText:
    """The text of one kind so far: its end, which begins at character *offset* of *length*."""

    kind: str
    text: str
    offset: int
    length: int


@dataclass(frozen=True)
class RunState:
    """One run as it stood at one moment.

    *status* is ``"running"``; ``"completed"`` or ``"failed"`` once no agent is
    at work in it; ``"unfinished"`` when it went silent without either, until
    its next event. Times are aware and in UTC. *steps* counts the
    ``agent_thinking`` events, *tools_completed* all tools, of which
    *completed_tools* are the last. A length and an offset count characters
    (code points).
    """

    run_id: str
    user_id: str | None
    thread_id: str | None
    status: RunStatus
    agent_name: str | None
    agents: Mapping[str, str]
    started_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    steps: int
    step_number: int | None
    total_steps: int | None
    open_tools: tuple[OpenTool, ...]
    completed_tools: tuple[UsedTool, ...]
    tools_completed: int
    texts: tuple[RunText, ...]
    progress: Mapping[str, Any] | None
    error: str | None

    def payload(self) -> dict[str, Any]:
        """The payload of its ``run_snapshot``."""
        return {
            "found": True,
            "run_id": self.run_id,
            "status": self.status,
            "agent_name": self.agent_name,
            "agents": dict(self.agents),
            "started_at": self.started_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "ended_at": None if self.ended_at is None else self.ended_at.isoformat(),
            "steps": self.steps,
            "step_number": self.step_number,
            "total_steps": self.total_steps,
            "open_tools": [
                {
                    "tool_name": tool.tool_name,
                    "agent_name": tool.agent_name,
                    "started_at": tool.started_at.isoformat(),
                }
                for tool in self.open_tools
            ],
            "completed_tools": [dict(vars(tool)) for tool in self.completed_tools],
            "tools_completed": self.tools_completed,
            "texts": [dict(vars(text)) for text in self.texts],
            "progress": None if self.progress is None else dict(self.progress),
            "error": self.error,
        }


class Text:
    """The text of one kind: its last bytes, in UTF-8, and how many characters there were."""

    __slots__ = ("cut", "length", "tail")

    def __init__(self) -> None:
        self.tail = bytearray()
        self.cut = 0  # characters no longer kept, all of them before the tail
        self.length = 0

    def add(self, encoded: bytes, characters: int) -> bool:
        """Add text; whether it only grew by that."""
        self.tail += encoded
        self.length += characters
        if len(self.tail) <= MAX_TEXT_BYTES + MAX_TEXT_BYTES // 4:
            return True
        self.cut += _cut_head(self.tail, MAX_TEXT_BYTES)  # seldom, so it costs little
        return False

    def shown(self, kind: str, limit: int) -> RunText:
        tail = bytearray(self.tail)
        cut = self.cut + _cut_head(tail, limit)
        return RunText(kind, tail.decode(), cut, self.length)


def _cut_head(text: bytearray, limit: int) -> int:
    """Leave the last characters of *text* that fit into *limit* bytes; how many went."""
    start = len(text) - limit
    if start <= 0:
        return 0
    while start < len(text) and text[start] & 0xC0 == 0x80:  # not within a character
        start += 1
    characters = len(text[:start].decode())
    del text[:start]
    return characters


@dataclass(frozen=True)
class _Open:
    shown: OpenTool
    since: float  # monotonic


class Run:
    """One run of a user. Its fields but ``texts`` are replaced, never changed in place."""

    def __init__(self, run_id: str, user_id: str | None, now: float) -> None:
        self.run_id = run_id
        self.user_id = user_id
        self.thread_id: str | None = None
        self.status: RunStatus = "running"
        self.agent_name: str | None = None
        self.agents: dict[str | None, str] = {}
        self.started_at = self.updated_at = time.time()
        self.ended_at: float | None = None
        self.touched = now  # monotonic, when the last event was
        self.steps = 0
        self.step_number: int | None = None
        self.total_steps: int | None = None
        self.open_tools: tuple[_Open, ...] = ()
        self.completed_tools: tuple[UsedTool, ...] = ()
        self.tools_completed = 0
        self.texts: dict[str, Text] = {}
        self.progress: bytes | None = None
        self.error: str | None = None
        self.limit: float | None = None  # seconds it may be silent
        self.on_unfinished: OnUnfinished | None = None
        self.bytes = _RUN_BYTES + len(run_id)
        self.forgotten = False

    @property
    def is_open(self) -> bool:
        return self.status == "running"

    @property
    def deadline(self) -> float | None:
        """When it is unfinished unless something comes (monotonic); ``None``: never."""
        if self.limit is None or not self.is_open or self.forgotten:
            return None
        return self.touched + self.limit

    def weigh(self) -> int:
        """How much larger it is than when last weighed, in bytes."""
        before = self.bytes
        self.bytes = (
            _RUN_BYTES
            + len(self.run_id)
            + sum(len(text.tail) for text in self.texts.values())
            + _TOOL_BYTES * (len(self.open_tools) + len(self.completed_tools))
            + len(self.progress or b"")
            + len(self.error or "")
        )
        return self.bytes - before

    def state(self, text_bytes: int = MAX_TEXT_BYTES) -> RunState:
        return RunState(
            run_id=self.run_id,
            user_id=self.user_id,
            thread_id=self.thread_id,
            status=self.status,
            agent_name=self.agent_name,
            agents={name: state for name, state in self.agents.items() if name is not None},
            started_at=_utc(self.started_at),
            updated_at=_utc(self.updated_at),
            ended_at=None if self.ended_at is None else _utc(self.ended_at),
            steps=self.steps,
            step_number=self.step_number,
            total_steps=self.total_steps,
            open_tools=tuple(tool.shown for tool in self.open_tools),
            completed_tools=self.completed_tools,
            tools_completed=self.tools_completed,
            texts=tuple(text.shown(kind, text_bytes) for kind, text in self.texts.items()),
            progress=None if self.progress is None else events.decode(self.progress),
            error=self.error,
        )

    # -- what an event changes -------------------------------------------------

    def enter(self, event: str, agent: str | None, data: Mapping[str, Any], now: float) -> None:
        self.touched = now
        self.updated_at = time.time()
        if self.status == "unfinished":
            self.status = "running"
        if event in _WORK and agent is not None:
            self.agent_name = agent[:256]
        change = _CHANGES.get(event)
        if change is not None:
            change(self, agent, data)

    def _started(self, agent: str | None, data: Mapping[str, Any]) -> None:
        if len(self.agents) < MAX_AGENTS or agent in self.agents:
            self.agents = {**self.agents, agent: "started"}
        self.status = "running"
        self.ended_at = None

    def _thought(self, agent: str | None, data: Mapping[str, Any]) -> None:
        self.steps += 1
        for name in ("step_number", "total_steps"):
            if type(data.get(name)) is int:
                setattr(self, name, data[name])

    def _tool_executing(self, agent: str | None, data: Mapping[str, Any]) -> None:
        shown = OpenTool(_short(data.get("tool_name")), self._of(agent), _utc(self.updated_at))
        self.open_tools = (*self.open_tools, _Open(shown, self.touched))[-MAX_TOOLS:]

    def _tool_completed(self, agent: str | None, data: Mapping[str, Any]) -> None:
        name, took = _short(data.get("tool_name")), data.get("execution_time_ms")
        if isinstance(took, bool) or not isinstance(took, (int, float)):
            took = None
        for place, tool in enumerate(self.open_tools):
            if tool.shown.tool_name == name:
                if took is None:
                    took = round((self.touched - tool.since) * 1000, 3)
                agent = agent or tool.shown.agent_name
                self.open_tools = self.open_tools[:place] + self.open_tools[place + 1 :]
                break
        used = UsedTool(name, self._of(agent), took)
        self.completed_tools = (*self.completed_tools, used)[-MAX_TOOLS:]
        self.tools_completed += 1

    def _progress(self, agent: str | None, data: Mapping[str, Any]) -> None:
        fields = {name: value for name, value in data.items() if name not in _NAMES}
        encoded = events.encode_any(fields)
        if len(encoded) <= MAX_PROGRESS_BYTES:
            self.progress = encoded

    def _completed(self, agent: str | None, data: Mapping[str, Any]) -> None:
        self._end(agent, "completed")

    def _failed(self, agent: str | None, data: Mapping[str, Any]) -> None:
        error = data.get("error")
        self.error = str(error)[:MAX_ERROR_CHARACTERS] if error is not None else "failed"
        self._end(agent, "failed")

    def _end(self, agent: str | None, how: Literal["completed", "failed"]) -> None:
        """One agent ended, or where none is named all of them; with the last one ends the run."""
        if agent is None and None not in self.agents:
            self.agents = {
                name: how if state == "started" else state for name, state in self.agents.items()
            }
        else:
            self.agents = {**self.agents, agent: how}
        if "started" not in self.agents.values():
            self.status = how
            self.ended_at = self.updated_at
            self.open_tools = ()

    def _of(self, agent: str | None) -> str | None:
        return self.agent_name if agent is None else agent[:256]


_GROWING: Final = frozenset(
    ("tool_executing", "tool_completed", "progress_update", "agent_completed", "agent_error")
)
_NAMES: Final = frozenset(("agent_name", "trace_context"))
_CHANGES: Final[Mapping[str, Callable[[Run, str | None, Mapping[str, Any]], None]]] = {
    "agent_started": Run._started,
    "agent_thinking": Run._thought,
    "tool_executing": Run._tool_executing,
    "tool_completed": Run._tool_completed,
    "progress_update": Run._progress,
    "agent_completed": Run._completed,
    "agent_error": Run._failed,
}


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _short(found: object) -> str:
    return found[:256] if isinstance(found, str) else ""


class RunTable:
    """The runs of one user, the one longest without an event first; its owner has the lock."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self.bytes = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._runs.values()))

    def find(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def enter(
        self,
        event: str,
        run_id: str,
        user_id: str | None,
        agent: str | None,
        thread_id: str | None,
        data: Mapping[str, Any],
    ) -> tuple[Run | None, Callable[[], None]]:
        """Note an event that is about to be sent; call the second result if it was not."""
        run = self._runs.get(run_id)
        if run is None and event not in _WORK:
            return None, _nothing
        now, new = time.monotonic(), run is None
        if run is None:
            run = self._runs[run_id] = Run(run_id, user_id, now)
            self.bytes += run.bytes
        before = dict(vars(run))
        self._runs.move_to_end(run_id)

        def undo(run: Run = run) -> None:
            if self._runs.get(run_id) is not run:
                return  # forgotten meanwhile
            if new:
                self._forget(run)
                return
            self.bytes -= run.bytes
            vars(run).update(before)
            self.bytes += run.bytes

        try:
            run.enter(event, agent, data, now)
        except BaseException:
            undo()
            raise
        run.thread_id = thread_id or run.thread_id
        if event in _GROWING:
            self.bytes += run.weigh()
        self._shed(run, now)
        return run, undo

    def place(self, run: Run, kind: str) -> int:
        """Where the next text of *kind* begins, or -1 if text of that kind is not kept."""
        found = run.texts.get(kind)
        if found is not None:
            return found.length
        return 0 if len(run.texts) < MAX_KINDS else -1

    def add_text(self, run: Run, kind: str, text: str, encoded: bytes) -> None:
        found = run.texts.get(kind)
        if found is None:
            if len(run.texts) >= MAX_KINDS:
                return
            found = run.texts[kind] = Text()
        if found.add(encoded, len(text)) and self.bytes < MAX_USER_BYTES - len(encoded):
            run.bytes += len(encoded)
            if not run.forgotten:
                self.bytes += len(encoded)
        else:
            self._grew(run)

    def take_text_back(self, run: Run, kind: str, text: str, encoded: bytes) -> None:
        """Undo the last :meth:`add_text`, but for what it pushed out at the other end."""
        found = run.texts.get(kind)
        if found is not None:
            del found.tail[len(found.tail) - len(encoded) :]
            found.length -= len(text)
            if not found.length:
                del run.texts[kind]
            self._grew(run)

    def _grew(self, run: Run) -> None:
        grown = run.weigh()
        if not run.forgotten:  # by a nested call
            self.bytes += grown
            self._shed(run, run.touched)

    def forget_all(self) -> None:
        """Keep nothing: this process has forked, and the runs are its parent's."""
        self._runs.clear()
        self.bytes = 0

    def shed_one(self, keep: Run | None = None, ended_only: bool = False) -> bool:
        """Forget the run that is missed least, an ended one if there is one; whether there was any."""
        others = [run for run in self._runs.values() if run is not keep]
        ended = next((run for run in others if not run.is_open), None)
        if ended is None and (ended_only or not others):
            return False
        self._forget(others[0] if ended is None else ended)
        self.forgotten += 1
        return True

    def _shed(self, keep: Run, now: float) -> None:
        if now - next(iter(self._runs.values())).touched >= KEPT_SECONDS:
            for run in self:
                if now - run.touched < KEPT_SECONDS:
                    break  # and so are all after it
                if run is not keep and not run.is_open:
                    self._forget(run)
        while len(self._runs) > MAX_RUNS or self.bytes > MAX_USER_BYTES:
            if not self.shed_one(keep):
                break

    def _forget(self, run: Run) -> None:
        run.forgotten = True
        del self._runs[run.run_id]
        self.bytes -= run.bytes


def _nothing() -> None:
    pass
