"""The message builders: what they give, what they refuse, and that the refusal shows the right call."""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
from typing import Any

import pytest
from support.sockets import StarletteSocket

from wsmanager import create_error_message, create_server_message, get_websocket_manager


class Kind(str, enum.Enum):
    DONE = "job_done"


def check_time(text: str) -> None:
    stamp = dt.datetime.fromisoformat(text)
    assert stamp.utcoffset() == dt.timedelta(0), "a naive time"
    assert abs((dt.datetime.now(dt.timezone.utc) - stamp).total_seconds()) < 5


@pytest.mark.parametrize(
    "message",
    [
        lambda: create_server_message("job_done", {"job": 7}),
        lambda: create_server_message({"type": "job_done", "data": {"job": 7}}),
        lambda: create_server_message({"type": "job_done", "payload": {"job": 7}}),
        lambda: create_server_message({"type": "job_done", "job": 7}),
        lambda: create_server_message(Kind.DONE, {"job": 7}),
    ],
    ids=["two arguments", "mapping data", "mapping payload", "flat mapping", "enum"],
)
def test_server_messages(message: Any) -> None:
    built = message()
    assert built.type == built["type"] == "job_done"
    assert built.data == built["data"] == {"job": 7}
    assert built.timestamp == built["timestamp"]
    assert built.server_id == built["server_id"]
    assert built.correlation_id is built["correlation_id"] is None
    check_time(built.timestamp)
    json.dumps(built)


def test_a_correlation_id() -> None:
    assert create_server_message("x", {}, "c-1").correlation_id == "c-1"
    assert create_server_message("x", {}, correlation_id="c-2")["correlation_id"] == "c-2"
    assert create_server_message({"type": "x", "correlation_id": "c-3"}).correlation_id == "c-3"


def test_one_server_id_a_process() -> None:
    assert create_server_message("x", {}).server_id == create_server_message("y", {}).server_id


def test_error_messages() -> None:
    built = create_error_message("QUOTA", "used up", {"left": 0}, ["wait"])
    assert built.type == built["type"] == "error_message"
    assert built.error_code == built["error_code"] == "QUOTA"
    assert built.error_message == built["error_message"] == "used up"
    assert built.details == built["details"] == {"left": 0}
    assert built.recovery_suggestions == built["recovery_suggestions"] == ["wait"]
    check_time(built.timestamp)
    bare = create_error_message("QUOTA", "used up")
    assert (bare.details, bare.recovery_suggestions) == ({}, [])


SERVER_WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), (("",), {}), ((None,), {}), ((5, {}), {}), (({},), {}), (({"data": {}},), {}),
    (("x", {}, "c", "extra"), {}), (("x", {}), {"unknown": 1}), (({"type": 5},), {}),
]  # fmt: skip
ERROR_WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), (("CODE",), {}), (("", "text"), {}), (("CODE", ""), {}), ((None, "text"), {}),
    ((5, "text"), {}), (("CODE", None), {}), (("CODE", "text", "details"), {}),
    (("CODE", "text", {}, "suggestion"), {}), (("CODE", "text"), {"unknown": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("args", "kwargs"), SERVER_WRONG, ids=repr)
def test_wrong_calls_of_the_server_builder(args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError, match=re.escape("create_server_message(")):
        create_server_message(*args, **kwargs)


@pytest.mark.parametrize(("args", "kwargs"), ERROR_WRONG, ids=repr)
def test_wrong_calls_of_the_error_builder(args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError, match=re.escape("create_error_message(")):
        create_error_message(*args, **kwargs)


async def test_built_messages_are_sendable() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    await manager.send_to_user(create_server_message("job_done", {"job": 7}, "c-1"))
    await manager.send_to_user(create_error_message("QUOTA", "used up", {"left": 0}))
    job, error = socket.events
    assert job["type"] == "job_done"
    assert job["payload"] == {"job": 7}
    assert job["correlation_id"] == "c-1"
    assert error["type"] == "error_message"
    assert "used up" in socket.texts[1]
    assert "QUOTA" in socket.texts[1]
    assert job["user_id"] == error["user_id"] == "ann"
