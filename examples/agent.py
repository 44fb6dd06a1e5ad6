"""An agent as many backends have one: plain code, run in a thread, that tells the user's tabs."""

from __future__ import annotations

from wsmanager import get_websocket_manager


def run_agent(user_id: str) -> None:
    """Emit the five agent events, in order, from whatever thread this is called in."""
    manager = get_websocket_manager(user_id)
    manager.emit_event("agent_started", {"agent_name": "researcher"})
    manager.emit_event("agent_thinking", {"agent_name": "researcher", "reasoning": "let me see"})
    manager.emit_event("tool_executing", {"tool_name": "search", "parameters": {"q": "weather"}})
    manager.emit_event("tool_completed", {"tool_name": "search", "result": "sunny"})
    manager.emit_event("agent_completed", {"agent_name": "researcher", "result": "It is sunny."})
