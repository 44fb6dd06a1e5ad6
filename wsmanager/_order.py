"""Which agent event may follow which, for the bridge's strict mode."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ._wsmanager import WebSocketManagerError

__all__ = ["EventOrderError", "RunOrder"]

MAX_RUNS = 4096
"""Runs remembered per user; the one longest without an event is forgotten first."""

_TOOLS = ("tool_executing", "tool_completed")
_WORK = ("agent_thinking", *_TOOLS, "progress_update", "text_delta")
_ENDS = {"agent_completed": "completed", "agent_error": "failed"}


class EventOrderError(WebSocketManagerError, ValueError):
    """An agent event that cannot come now, such as a tool completed that was never started."""


class _Run:
    """What is going on in one run."""

    __slots__ = ("agents", "tools")

    def __init__(self) -> None:
        self.agents: dict[str | None, str] = {}  # "started", "failed" or "completed"
        self.tools: dict[str, int] = {}  # how many of that name are executing


class RunOrder:
    """The order of events per run of one user; its owner has the lock.

    The rules: an agent starts before it thinks, uses a tool, makes progress,
    writes text or completes; once it has completed, nothing more of it comes in that run,
    and once it has failed, only a new start. A tool completes as often as it
    was started. An event that names no agent is of the one at work. Events of
    types of the application's own may come before the start.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def enter(
        self, event: str, run_id: str | None, agent: str | None, tool: str | None
    ) -> Callable[[], None]:
        """Note an event before it is sent; call the result if it could not be sent.

        :raises EventOrderError: if it cannot come now; nothing is noted then.
        """
        if run_id is None:
            raise EventOrderError(f"{event} names no run: in strict mode give its run_id")
        run = self._runs.get(run_id)
        if run is None:
            run = _Run()
        undo = _step(run, event, run_id, agent, tool)
        self._runs[run_id] = run
        self._runs.move_to_end(run_id)
        while len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        return undo


def _step(
    run: _Run, event: str, run_id: str, agent: str | None, tool: str | None
) -> Callable[[], None]:
    if event == "agent_started":
        return _start(run, run_id, agent)
    working = [name for name, state in run.agents.items() if state == "started"]
    early = event not in _WORK and event != "agent_completed"
    if early and (agent not in run.agents if agent is not None else not run.agents):
        # An agent may fail before it ever starts.
        return _set(run, agent, "failed") if event == "agent_error" else _nothing
    if agent is None and None not in run.agents:
        agent = _only(working, event, run_id)
    elif run.agents.get(agent) != "started":
        state = run.agents.get(agent, "not started")
        raise EventOrderError(f"{event}: {_who(agent)} has {state} in run {run_id!r}")
    if event in _ENDS:
        return _set(run, agent, _ENDS[event])
    return _use(run, event, run_id, tool) if event in _TOOLS else _nothing


def _start(run: _Run, run_id: str, agent: str | None) -> Callable[[], None]:
    state = run.agents.get(agent)
    if state in ("started", "completed"):
        raise EventOrderError(f"agent_started: {_who(agent)} has {state} already in run {run_id!r}")
    return _set(run, agent, "started")


def _only(working: list[str | None], event: str, run_id: str) -> str | None:
    """The agent meant by an event that names none."""
    if not working:
        raise EventOrderError(f"{event}: no agent is at work in run {run_id!r}")
    if event in _ENDS and len(working) > 1:
        raise EventOrderError(
            f"{event}: name the agent, {len(working)} are at work in run {run_id!r}"
        )
    return working[0]


def _use(run: _Run, event: str, run_id: str, tool: str | None) -> Callable[[], None]:
    if tool is None:
        raise EventOrderError(f"{event} names no tool: in strict mode give its tool_name")
    step = 1 if event == "tool_executing" else -1
    if run.tools.get(tool, 0) + step < 0:
        raise EventOrderError(f"tool_completed: tool {tool!r} is not executing in run {run_id!r}")

    def move(by: int) -> None:
        count = run.tools.get(tool, 0) + by
        if count:
            run.tools[tool] = count
        else:
            run.tools.pop(tool, None)

    move(step)
    return lambda: move(-step)


def _set(run: _Run, agent: str | None, state: str) -> Callable[[], None]:
    before = run.agents.get(agent)
    run.agents[agent] = state

    def undo() -> None:
        if before is None:
            run.agents.pop(agent, None)
        else:
            run.agents[agent] = before

    return undo


def _nothing() -> None:
    pass


def _who(agent: str | None) -> str:
    return "the agent" if agent is None else f"agent {agent!r}"
