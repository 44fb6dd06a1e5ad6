"""The bridge from an agent's work to its user's tabs: every method, every field, the order."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from support.agent import FIVE_EVENTS
from support.contexts import UserExecutionContext
from support.sockets import StarletteSocket
from support.waiting import eventually

import wsmanager
from wsmanager import InvalidUserContext, UserIsolationError, get_websocket_manager
from wsmanager.bridge import AgentWebSocketBridge, EventOrderError

SIGNATURES = {
    "notify_agent_started": ["run_id", "agent_name", "context", "trace_context", "user_context"],
    "notify_agent_thinking": [
        "run_id", "agent_name", "reasoning", "step_number", "progress_percentage",
    ],
    "notify_tool_executing": ["run_id", "tool_name", "agent_name", "parameters"],
    "notify_tool_completed": [
        "run_id", "tool_name", "result", "agent_name", "execution_time_ms",
    ],
    "notify_agent_completed": ["run_id", "agent_name", "result", "execution_time_ms"],
    "notify_agent_error": ["run_id", "agent_name", "error", "error_context"],
    "notify_progress_update": ["run_id", "agent_name", "progress"],
    "notify_custom": ["run_id", "agent_name", "notification_type", "data"],
    "emit_agent_event": ["event_type", "data", "run_id", "agent_name"],
}  # fmt: skip


class Wire:
    def __init__(self, **options: Any) -> None:
        self.socket, self.bob = StarletteSocket(), StarletteSocket()
        get_websocket_manager("bob").add_connection(self.bob)
        self.manager = get_websocket_manager({"user_id": "ann", "thread_id": "chat"})
        self.manager.add_connection(self.socket, thread_id="chat")
        self.bridge = AgentWebSocketBridge(self.manager, **options)

    @property
    def event(self) -> dict[str, Any]:
        return self.socket.events[-1]


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signatures_of_the_application(name: str) -> None:
    """Positional calls of the application's code mean what they meant."""
    parameters = list(inspect.signature(getattr(AgentWebSocketBridge, name)).parameters)[1:]
    assert parameters[: len(SIGNATURES[name])] == SIGNATURES[name]
    if name.startswith("notify_"):
        assert "user_context" in parameters


async def test_a_whole_run(wire: Wire) -> None:
    bridge = wire.bridge
    assert bridge.notify_agent_started("run-1", "researcher")
    assert bridge.notify_agent_thinking("run-1", "researcher", "hm", 1, 20.0)
    assert bridge.notify_tool_executing("run-1", "search", "researcher", {"q": "tea"})
    assert bridge.notify_tool_completed("run-1", "search", ["found"], "researcher", 12.5)
    assert bridge.notify_agent_completed("run-1", "researcher", {"answer": 42}, 99.0)
    assert tuple(wire.socket.types) == FIVE_EVENTS
    assert {event["run_id"] for event in wire.socket.events} == {"run-1"}
    assert {event["agent_name"] for event in wire.socket.events} == {"researcher"}
    assert {event["thread_id"] for event in wire.socket.events} == {"chat"}
    started, thinking, executing, completed, done = (e["payload"] for e in wire.socket.events)
    assert set(started) >= {"agent_id", "agent_type", "status", "message"}
    assert thinking["reasoning"] == "hm"
    assert (thinking["step_number"], thinking["progress_percentage"]) == (1, 20.0)
    assert executing["tool_name"] == "search"
    assert executing["parameters"] == {"q": "tea"}
    assert completed["tool_name"] == "search"
    assert completed["result"] == ["found"]
    assert completed["execution_time_ms"] == 12.5
    assert done["result"] == {"answer": 42}
    assert done["execution_time_ms"] == 99.0
    assert wire.socket.events[2]["tool_name"] == wire.socket.events[3]["tool_name"] == "search"
    assert wire.bob.texts == []


async def test_every_result_may_be_awaited(wire: Wire) -> None:
    assert await wire.bridge.notify_agent_started("r", "a")
    assert (await wire.bridge.notify_progress_update("r", "a", 50)).sent == 1
    assert wire.event["payload"]["progress_percentage"] == 50


async def test_the_page_no_longer_shows_unknown_tool() -> None:
    """With envelope="mixed", both a page that reads ``payload`` and one that reads the root work."""
    wsmanager.configure(envelope="mixed")
    wire = Wire()
    wire.bridge.notify_tool_completed("r", "search", {"n": 1}, "researcher", 5)
    event = wire.event
    assert event["tool_name"] == event["payload"]["tool_name"] == "search"
    assert event["result"] == event["payload"]["result"] == {"n": 1}
    assert "data" not in event
    assert event["run_id"] == "r"


async def test_errors_progress_custom_and_any_event(wire: Wire) -> None:
    bridge = wire.bridge
    bridge.notify_agent_error("r", "a", ValueError("it broke"), {"step": 2})
    assert wire.event["type"] == "agent_error"
    assert wire.event["payload"]["error"] == "it broke"
    assert wire.event["payload"]["error_type"] == "ValueError"
    assert wire.event["payload"]["error_context"] == {"step": 2}
    bridge.notify_progress_update("r", "a", {"done": 3, "of": 9})
    assert wire.event["payload"]["done"] == 3
    bridge.notify_custom("r", "a", "my_event", {"x": 1})
    assert wire.event["type"] == "my_event"
    assert wire.event["payload"]["x"] == 1
    bridge.emit_agent_event("agent_thinking", {"run_id": "r2", "agent_name": "b", "reasoning": "?"})
    assert (wire.event["run_id"], wire.event["agent_name"]) == ("r2", "b")


async def test_the_callers_dicts_are_not_changed(wire: Wire) -> None:
    context, data, parameters = {"agent_id": "7"}, {"x": 1}, {"q": 1}
    wire.bridge.notify_agent_started("r", "a", context)
    wire.bridge.notify_custom("r", "a", "e", data)
    wire.bridge.notify_tool_executing("r", "t", "a", parameters)
    wire.bridge.emit_agent_event("e", data, "r", "a")
    assert (context, data, parameters) == ({"agent_id": "7"}, {"x": 1}, {"q": 1})


async def test_a_bridge_is_its_users_only(wire: Wire) -> None:
    with pytest.raises(UserIsolationError):
        wire.bridge.notify_agent_started("r", "a", user_context={"user_id": "bob"})
    assert wire.bridge.notify_agent_started("r", "a", user_context={"user_id": "ann"})
    assert wire.bob.texts == []


async def test_a_bridge_for_nobody_goes_by_the_context_of_the_call() -> None:
    wire = Wire()
    bridge = AgentWebSocketBridge()
    context = UserExecutionContext("ann", "chat", "run-9")
    assert bridge.notify_agent_started("r", "a", user_context=context)
    assert wire.socket.types == ["agent_started"]
    assert wire.event["user_id"] == "ann"
    assert wire.bob.texts == []


NAMELESS: list[Callable[[AgentWebSocketBridge], Any]] = [
    lambda b: b.notify_agent_started("r", "a"),
    lambda b: b.notify_agent_error("r", "a", "broke"),
    lambda b: b.emit_agent_event("e"),
    lambda b: b.notify_text_delta("r", "a token"),
]


@pytest.mark.parametrize("number", range(len(NAMELESS)))
async def test_a_bridge_for_nobody_refuses_a_call_that_names_nobody(number: int) -> None:
    """An event without a user would reach nobody and be kept for nobody."""
    wire = Wire()
    for bridge in (AgentWebSocketBridge(), AgentWebSocketBridge(user_context=None)):
        with pytest.raises(InvalidUserContext, match="give the call a user_context"):
            NAMELESS[number](bridge)
        assert bridge.runs == ()
    assert wire.socket.texts == wire.bob.texts == []


async def test_the_manager_of_none_has_connections_of_its_own() -> None:
    manager = get_websocket_manager(None)
    socket = StarletteSocket()
    manager.add_connection(socket)
    assert AgentWebSocketBridge(manager).notify_agent_started("r", "a")
    assert socket.types == ["agent_started"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: AgentWebSocketBridge({"user_id": "ann"}),
        lambda: AgentWebSocketBridge(user_context={"user_id": "ann"}),
        lambda: AgentWebSocketBridge(user_context=UserExecutionContext("ann", "t", "r")),
        lambda: AgentWebSocketBridge("ann"),
    ],
    ids=["positional context", "user_context", "dataclass", "text"],
)
async def test_ways_to_make_a_bridge(wire: Wire, make: Callable[[], AgentWebSocketBridge]) -> None:
    bridge = make()
    assert bridge.manager is wire.manager
    assert bridge.user_id == "ann"
    bridge.notify_agent_started("r", "a")
    assert wire.socket.types == ["agent_started"]


async def test_from_a_worker_thread(wire: Wire) -> None:
    import asyncio

    def work() -> None:
        wire.bridge.notify_agent_started("r", "a")
        wire.bridge.notify_agent_completed("r", "a")

    await asyncio.to_thread(work)
    await eventually(lambda: wire.socket.types == ["agent_started", "agent_completed"])


async def test_a_mocked_manager_is_taken_as_it_is() -> None:
    from unittest.mock import MagicMock

    mock = MagicMock()
    AgentWebSocketBridge(mock).notify_agent_started("r", "a")
    assert mock.emit_event.call_args.args[0] == "agent_started"


# -- strict ---------------------------------------------------------------------

Step = Callable[[AgentWebSocketBridge], Any]
STEPS: dict[str, Step] = {
    "start": lambda b: b.notify_agent_started("r", "a"),
    "think": lambda b: b.notify_agent_thinking("r", "a", "hm"),
    "tool": lambda b: b.notify_tool_executing("r", "t", "a"),
    "tool done": lambda b: b.notify_tool_completed("r", "t", 1, "a"),
    "other tool done": lambda b: b.notify_tool_completed("r", "other", 1, "a"),
    "done": lambda b: b.notify_agent_completed("r", "a"),
    "fail": lambda b: b.notify_agent_error("r", "a", "broke"),
    "other run": lambda b: b.notify_agent_started("r2", "a"),
}
IMPOSSIBLE = [
    ["think"], ["tool"], ["done"], ["tool done"],
    ["start", "tool done"], ["start", "tool", "other tool done"],
    ["start", "tool", "tool done", "tool done"],
    ["start", "done", "think"], ["start", "done", "done"], ["start", "done", "tool"],
    ["start", "fail", "think"], ["start", "other run", "done", "think"],
]  # fmt: skip
POSSIBLE = [
    ["start", "think", "tool", "tool done", "done"],
    ["start", "done", "other run"],
    ["start", "tool", "tool", "tool done", "tool done", "done"],
    ["start", "fail", "start", "done"],
]  # fmt: skip


@pytest.mark.parametrize("steps", IMPOSSIBLE, ids=" > ".join)
async def test_strict_refuses_an_impossible_order(steps: list[str]) -> None:
    wire = Wire(strict=True)
    for step in steps[:-1]:
        STEPS[step](wire.bridge)
    before = list(wire.socket.texts)
    with pytest.raises(EventOrderError) as caught:
        STEPS[steps[-1]](wire.bridge)
    assert isinstance(caught.value, ValueError)
    assert wire.socket.texts == before, "a refused event was sent"


@pytest.mark.parametrize("steps", POSSIBLE, ids=" > ".join)
async def test_strict_lets_a_possible_order_through(steps: list[str]) -> None:
    wire = Wire(strict=True)
    for step in steps:
        assert STEPS[step](wire.bridge)
    assert len(wire.socket.texts) == len(steps)


@pytest.mark.parametrize("steps", IMPOSSIBLE, ids=" > ".join)
async def test_control_not_strict_sends_the_same_order(steps: list[str]) -> None:
    wire = Wire()
    for step in steps:
        STEPS[step](wire.bridge)
    assert len(wire.socket.texts) == len(steps)


async def test_a_refused_payload_does_not_count_in_the_order() -> None:
    wire = Wire(strict=True)
    with pytest.raises(wsmanager.EncodeError):
        wire.bridge.notify_agent_started("r", "a", {"bad": object()})
    wire.bridge.notify_agent_started("r", "a")
    assert wire.socket.types == ["agent_started"]
