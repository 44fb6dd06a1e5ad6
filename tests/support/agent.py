"""The agent of the demo story: works in a thread, emits the five events, awaits nothing."""

from __future__ import annotations

from typing import Any

from wsmanager import get_websocket_manager

FIVE_EVENTS = (
    "agent_started",
    "agent_thinking",
    "tool_executing",
    "tool_completed",
    "agent_completed",
)


def five_payloads(mark: str) -> list[tuple[str, dict[str, Any]]]:
    """The five events in order; *mark* is in each payload, to see whose they are."""
    return [
        ("agent_started", {"agent_name": "researcher", "status": "started", "mark": mark}),
        ("agent_thinking", {"agent_name": "researcher", "reasoning": "hm", "mark": mark}),
        (
            "tool_executing",
            {
                "agent_name": "researcher",
                "tool_name": "search",
                "parameters": {"q": "x"},
                "mark": mark,
            },
        ),
        (
            "tool_completed",
            {
                "agent_name": "researcher",
                "tool_name": "search",
                "result": ["found"],
                "execution_time_ms": 12,
                "mark": mark,
            },
        ),
        ("agent_completed", {"agent_name": "researcher", "result": "done", "mark": mark}),
    ]


def run_agent(user_id: str, run_id: str = "run-1", mark: str | None = None) -> None:
    """Run the agent for a user; meant for a worker thread, where no event loop runs."""
    manager = get_websocket_manager({"user_id": user_id, "thread_id": "chat"})
    for event_type, data in five_payloads(mark or user_id):
        manager.emit_event(event_type, data, run_id=run_id)
