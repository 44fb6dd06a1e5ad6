"""What an event looks like on the wire, in each of the envelopes."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import json
import re
from typing import Any

import pytest
from support.sockets import StarletteSocket

import wsmanager
from wsmanager import (
    UnifiedWebSocketManager,
    get_websocket_manager,
)


@pytest.fixture
async def wire() -> tuple[UnifiedWebSocketManager, StarletteSocket]:
    """A user with one socket."""
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    return manager, socket


Wire = tuple[UnifiedWebSocketManager, StarletteSocket]

# -- envelopes ------------------------------------------------------------------


async def test_the_default_envelope(wire: Wire) -> None:
    manager, socket = wire
    data = {"agent_name": "a", "tool_name": "t", "n": [1, {"x": None}]}
    before = dt.datetime.now(dt.timezone.utc)
    receipt = await manager.emit_event("tool_executing", data, thread_id="chat", run_id="run-1")
    (event,) = socket.events
    assert set(event) == {
        "id", "type", "payload", "user_id", "thread_id", "run_id", "timestamp",
        "agent_name", "tool_name",
    }  # fmt: skip
    assert event["type"] == "tool_executing"
    assert event["payload"] == data
    assert event["user_id"] == "ann"
    assert event["thread_id"] == "chat"
    assert event["run_id"] == "run-1"
    assert event["agent_name"] == "a"
    assert event["tool_name"] == "t"
    assert event["id"] == receipt.id
    assert re.fullmatch(r"[0-9a-f]{16}:[1-9][0-9]*", event["id"])
    stamp = dt.datetime.fromisoformat(event["timestamp"])
    assert stamp.utcoffset() == dt.timedelta(0)
    assert abs((stamp - before).total_seconds()) < 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", event["timestamp"])


async def test_what_was_not_given_is_null(wire: Wire) -> None:
    manager, socket = wire
    await manager.emit_event("x")
    (event,) = socket.events
    assert event["payload"] == {}
    assert event["thread_id"] is None
    assert event["run_id"] is None
    assert "agent_name" not in event
    assert "tool_name" not in event


async def test_the_id_comes_first(wire: Wire) -> None:
    """A consumer may cut it out without parsing the rest."""
    manager, socket = wire
    await manager.emit_event("x", {"id": "mine"})
    await manager.send_to_user({"type": "y", "payload": {}})
    for text in socket.texts:
        assert text.startswith('{"id":"')


async def test_ids_count_up_by_one_within_an_epoch(wire: Wire) -> None:
    manager, socket = wire
    for n in range(10):
        await manager.emit_event("x", {"n": n})
    epochs, numbers = zip(*(event["id"].split(":") for event in socket.events), strict=True)
    assert len(set(epochs)) == 1
    first = int(numbers[0])
    assert [int(number) for number in numbers] == list(range(first, first + 10))


async def test_epochs_of_users_differ() -> None:
    ids = {get_websocket_manager(f"u{n}").emit_event("x").id.split(":")[0] for n in range(50)}
    assert len(ids) == 50


ENVELOPES = {
    "payload": lambda e: e["payload"] == {"agent_name": "a", "n": 1} and "n" not in e,
    "mixed": lambda e: e["payload"] == {"agent_name": "a", "n": 1} and e["n"] == 1,
    "data": lambda e: e["data"] == {"agent_name": "a", "n": 1} and "payload" not in e,
    "flat": lambda e: e["n"] == 1 and "payload" not in e and "data" not in e,
}


@pytest.mark.parametrize("envelope", ENVELOPES)
async def test_envelopes(wire: Wire, envelope: str) -> None:
    manager, socket = wire
    wsmanager.configure(envelope=envelope)
    await manager.emit_event("x", {"agent_name": "a", "n": 1})
    await manager.send_to_user({"type": "x", "data": {"agent_name": "a", "n": 1}})
    await manager.send_to_user({"type": "x", "payload": {"agent_name": "a", "n": 1}})
    for event in socket.events:
        assert ENVELOPES[envelope](event), event
        assert event["type"] == "x"
        assert event["agent_name"] == "a"
        assert event["user_id"] == "ann"
        assert event["id"]
        assert event["timestamp"]


async def test_mixed_has_no_data_key_and_keeps_the_root_fields(wire: Wire) -> None:
    """The bridge's message for the page that reads ``payload`` and for the one that reads the root."""
    manager, socket = wire
    wsmanager.configure(envelope="mixed")
    await manager.send_to_user(
        {
            "type": "tool_completed",
            "run_id": "run-7",
            "agent_name": "researcher",
            "tool_name": "search",
            "timestamp": "2026-01-01T00:00:00+00:00",
            "results": [1],
            "data": {"tool_name": "search", "result": [1], "execution_time_ms": 3},
        }
    )
    (event,) = socket.events
    assert "data" not in event
    assert event["payload"]["tool_name"] == "search"
    assert event["payload"]["result"] == [1]
    assert event["tool_name"] == "search"
    assert event["execution_time_ms"] == 3
    assert event["run_id"] == "run-7"
    assert event["results"] == [1]
    assert event["timestamp"] == "2026-01-01T00:00:00+00:00"


TOOL = {
    "type": "tool_completed", "run_id": "r", "user_id": "ann", "agent_name": "A",
    "tool_name": "search", "results": {"n": 1}, "timestamp": "t",
}  # fmt: skip
SENDS = {
    "send_to_user": lambda m, message: m.send_to_user(message),
    "send_to_thread": lambda m, message: m.send_to_thread("chat", message),
    "send_message": lambda m, message: m.send_message("c-1", message),
    "broadcast": lambda m, message: m.broadcast(message),
    "wsmanager.broadcast": lambda m, message: wsmanager.broadcast(message),
}


@pytest.fixture
async def chat() -> Wire:
    """The same, with an id and a thread for the connection."""
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket, "c-1", thread_id="chat")
    return manager, socket


@pytest.mark.parametrize("under", ["data", "payload"])
@pytest.mark.parametrize("send", SENDS)
async def test_a_mixed_payload_is_complete(chat: Wire, send: str, under: str) -> None:
    """What a message has at its root, a page that reads ``payload`` has as well."""
    manager, socket = chat
    wsmanager.configure(envelope="mixed")
    data = {"execution_time_ms": 5, "tool_name": "of the data", "type": "kept"}
    message = {**TOOL, under: data}
    before = copy.deepcopy(message)
    SENDS[send](manager, message)
    (event,) = socket.events
    assert event["payload"] == {
        "agent_name": "A", "results": {"n": 1}, **data,
    }  # fmt: skip
    assert event["tool_name"] == "search"
    assert event["execution_time_ms"] == 5
    assert (event["run_id"], event["timestamp"]) == ("r", "t")
    assert "data" not in event
    assert message == before
    assert message[under] is data


@pytest.mark.parametrize("data", [[1, 2], "text", 5])
async def test_a_mixed_payload_that_is_no_object_stays_what_it_is(chat: Wire, data: Any) -> None:
    manager, socket = chat
    wsmanager.configure(envelope="mixed")
    await manager.send_to_user({"type": "x", "data": data, "more": 1})
    (event,) = socket.events
    assert (event["payload"], event["more"]) == (data, 1)


async def test_the_default_keeps_data_and_adds_payload(wire: Wire) -> None:
    """A page of before reads ``data``; both count for the size of the event."""
    manager, socket = wire
    message = {"type": "x", "data": {"text": "x" * 600}}
    await manager.send_to_user(message)
    (event,) = socket.events
    assert event["payload"] == event["data"] == message["data"]
    wsmanager.configure(max_event_bytes=1000)
    with pytest.raises(wsmanager.EventTooLarge):
        manager.send_to_user(message)
    await manager.send_to_user({"type": "x", "payload": message["data"]})
    assert len(socket.texts) == 2


async def test_flat_leaves_out_data_named_as_the_envelope_is(wire: Wire) -> None:
    manager, socket = wire
    data = {
        "id": 1, "type": 2, "user_id": 3, "thread_id": "t", "run_id": "r", "timestamp": 6, "n": 7,
    }  # fmt: skip
    for envelope in ("flat", "mixed", "payload"):
        wsmanager.configure(envelope=envelope)
        await manager.emit_event("x", data, thread_id="chat", run_id="run")
    flat, *others = socket.events
    assert flat["n"] == 7
    assert (flat["type"], flat["user_id"]) == ("x", "ann")
    assert (flat["thread_id"], flat["run_id"]) == ("chat", "run")
    assert flat["id"] != 1
    assert flat["timestamp"] != 6
    assert [event["payload"] for event in others] == [data, data]


@pytest.mark.parametrize("envelope", ["mixed", "flat"])
async def test_data_cannot_forge_the_envelope(wire: Wire, envelope: str) -> None:
    """Fields of the data named as those of the envelope do not replace them."""
    manager, socket = wire
    wsmanager.configure(envelope=envelope)
    await manager.emit_event("x", {"type": "forged", "id": "forged", "user_id": "mallory"})
    (event,) = socket.events
    assert event["type"] == "x"
    assert event["id"] != "forged"
    assert event["user_id"] == "ann"
    (text,) = socket.texts
    keys = [key for key, _ in json.loads(text, object_pairs_hook=list)]
    assert len(keys) == len(set(keys)), "a key twice: parsers disagree on what it means"


# -- whose an event is -----------------------------------------------------------


@pytest.mark.parametrize("envelope", ["payload", "mixed", "data", "flat", dict])
@pytest.mark.parametrize("send", SENDS)
async def test_a_message_is_labelled_as_whom_it_goes_to(
    chat: Wire, send: str, envelope: Any
) -> None:
    manager, socket = chat
    wsmanager.configure(envelope=envelope)
    SENDS[send](manager, {"type": "x", "user_id": "bob", "payload": {"user_id": "carl"}})
    (event,) = socket.events
    assert event["user_id"] == "ann"
    if "payload" in event:
        assert event["payload"] == {"user_id": "carl"}


async def test_a_message_to_everyone_is_labelled_for_each() -> None:
    sockets = {name: StarletteSocket() for name in ("ann", "bob")}
    for name, socket in sockets.items():
        get_websocket_manager(name).add_connection(socket)
    wsmanager.broadcast({"type": "x", "user_id": "bob"})
    for name, socket in sockets.items():
        assert [event["user_id"] for event in socket.events] == [name]


async def test_nobodys_manager_labels_by_whom_it_names(wire: Wire) -> None:
    _, socket = wire
    nobody = get_websocket_manager(None)
    own = StarletteSocket()
    nobody.add_connection(own)
    await nobody.send_to_user("ann", {"type": "x", "user_id": "bob"})
    await nobody.send_to_user({"type": "x", "user_id": "said"})
    await nobody.send_to_user({"type": "x"})
    assert [event["user_id"] for event in socket.events] == ["ann"]
    assert [event["user_id"] for event in own.events] == ["said", None]


async def test_the_thread_is_that_of_the_call_else_of_the_message(chat: Wire) -> None:
    manager, socket = chat
    message = {"type": "x", "thread_id": "other", "payload": {}}
    await manager.send_to_thread("chat", message)
    await manager.send_to_thread("chat", {"type": "x", "payload": {"thread_id": "of the data"}})
    await manager.send_to_thread("chat", {"type": "x"})
    await manager.send_to_user(message)
    assert [event["thread_id"] for event in socket.events] == ["chat", "chat", "chat", "other"]
    assert message == {"type": "x", "thread_id": "other", "payload": {}}


# -- envelopes of one's own ------------------------------------------------------


async def test_an_envelope_of_ones_own(wire: Wire) -> None:
    manager, socket = wire

    def envelope(event: dict[str, Any]) -> dict[str, Any]:
        return {"kind": event["type"], "body": event["payload"], "v": 2}

    wsmanager.configure(envelope=envelope)
    await manager.emit_event("x", {"n": 1})
    (event,) = socket.events
    assert event["kind"] == "x"
    assert event["body"] == {"n": 1}
    assert event["v"] == 2
    assert event["id"]


async def test_the_dict_an_envelope_gives_is_not_changed(wire: Wire) -> None:
    manager, socket = wire
    given: dict[str, Any] = {"kind": "k", "id": "its own", "body": {"id": 1}}
    wsmanager.configure(envelope=lambda event: given)
    receipt = await manager.emit_event("x", {})
    await manager.emit_event("x", {})
    assert given == {"kind": "k", "id": "its own", "body": {"id": 1}}
    assert socket.events[0] == {**given, "id": receipt.id}


async def test_an_envelope_does_not_see_the_id(wire: Wire) -> None:
    """The event has no number yet; it is put in front when it gets one."""
    manager, socket = wire
    seen: list[dict[str, Any]] = []

    def envelope(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(event)
        return event

    wsmanager.configure(envelope=envelope)
    await manager.emit_event("x", {"n": 1})
    await manager.send_to_user({"type": "x", "id": "mine"})
    assert all("id" not in event for event in seen)
    assert all(text.startswith('{"id":"') for text in socket.texts)


async def test_an_envelope_that_raises_sends_nothing(wire: Wire) -> None:
    manager, socket = wire

    def envelope(event: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("bug in the envelope")

    wsmanager.configure(envelope=envelope)
    with pytest.raises(LookupError):
        manager.emit_event("x", {})
    assert socket.texts == []


@pytest.mark.parametrize("wrong", ["no-such", 5, None, ""])
def test_an_unknown_envelope_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        wsmanager.configure(envelope=wrong)


# -- messages and types ----------------------------------------------------------


async def test_a_message_keeps_its_own_id_fields_where_given(wire: Wire) -> None:
    manager, socket = wire
    await manager.send_to_user(
        {"type": "x", "payload": {}, "thread_id": "t9", "run_id": "r9", "extra": {"a": 1}}
    )
    (event,) = socket.events
    assert (event["thread_id"], event["run_id"]) == ("t9", "r9")
    assert event["extra"] == {"a": 1}
    assert event["user_id"] == "ann"


async def test_a_message_whose_other_fields_are_its_data(wire: Wire) -> None:
    manager, socket = wire
    await manager.send_to_user({"type": "notice", "text": "hello", "level": 2})
    (event,) = socket.events
    assert event["type"] == "notice"
    assert event["payload"] == {"text": "hello", "level": 2}


@pytest.mark.parametrize(
    "message", [{}, {"payload": {}}, {"type": None}, {"type": 5}, {"type": ""}, [], "text", None, 5]
)
async def test_a_message_without_a_type_is_refused(wire: Wire, message: Any) -> None:
    manager, socket = wire
    with pytest.raises((TypeError, ValueError)):
        manager.send_to_user(message)
    with pytest.raises((TypeError, ValueError)):
        wsmanager.broadcast(message)
    assert socket.texts == []


@pytest.mark.parametrize("event_type", ["", None, 5, b"x", ["x"]])
async def test_event_types_are_text(wire: Wire, event_type: Any) -> None:
    manager, socket = wire
    with pytest.raises((TypeError, ValueError)):
        manager.emit_event(event_type, {})
    assert socket.texts == []


async def test_an_enum_as_event_type(wire: Wire) -> None:
    class Kind(str, enum.Enum):
        STARTED = "agent_started"

    manager, socket = wire
    await manager.emit_event(Kind.STARTED, {})
    assert socket.types == ["agent_started"]
