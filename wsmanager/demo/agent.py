"""An agent that works in a thread and tells its user what it does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsmanager import AgentWebSocketBridge, get_websocket_manager

AGENT = "word counter"
TOOL = "count_words"


@dataclass(frozen=True)
class User:
    """Whom the agent works for; what an application's own context object is."""

    user_id: str
    thread_id: str | None = None


LINE = "2,000 characters of a line weigh enough to fill what a kernel keeps for a socket. ".ljust(
    2000, "."
)
LINES_A_SECOND = 600


def answer(run_id: str, user: User, question: str, pace: float) -> None:
    """Answer *question* with the five events of a run, *pace* seconds apart.

    Plain code, run in a thread of a pool: no event loop, no await.
    """
    bridge = AgentWebSocketBridge(get_websocket_manager(user), strict=True)
    started = time.monotonic()

    def trace() -> dict[str, Any]:
        """For whom and when an event was emitted, so that a client can check both."""
        return {"owner": user.user_id, "emitted_ns": time.monotonic_ns()}

    try:
        about = {"agent_type": "demo", "question": question}
        bridge.notify_agent_started(run_id, AGENT, about, trace())
        time.sleep(pace)
        bridge.notify_agent_thinking(
            run_id, AGENT, "I have to count the words", 1, 50.0, trace(), total_steps=2
        )
        time.sleep(pace)
        bridge.notify_tool_executing(run_id, TOOL, AGENT, {"text": question}, trace())
        time.sleep(pace)
        counted = count_words(question)
        took = _ms_since(started)
        bridge.notify_tool_completed(run_id, TOOL, counted, AGENT, took, trace())
        time.sleep(pace)
        result = f"{counted['words']} words, {counted['characters']} characters"
        bridge.notify_agent_completed(
            run_id, AGENT, result, _ms_since(started), trace(), metrics={"tools": 1}
        )
    except Exception as error:
        bridge.notify_agent_error(run_id, AGENT, error)
        raise


def stream(run_id: str, user: User, lines: int) -> None:
    """Send *lines* events to the user's tabs, ``LINES_A_SECOND`` of them a second."""
    manager = get_websocket_manager(user)
    started = time.monotonic()
    for line in range(1, lines + 1):
        manager.emit_event("line", {"line": line, "of": lines, "text": LINE}, run_id=run_id)
        ahead = line / LINES_A_SECOND - (time.monotonic() - started)
        if ahead > 0:
            time.sleep(ahead)


def count_words(text: str) -> Mapping[str, int]:
    """The agent's only tool."""
    return {"words": len(text.split()), "characters": len(text)}


def _ms_since(start: float) -> float:
    return round((time.monotonic() - start) * 1000, 3)
