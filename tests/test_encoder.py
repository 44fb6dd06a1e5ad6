"""What can be in an event and how it is written; what cannot is refused before a byte is sent."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import re
import sys
import threading
import types
import uuid
from typing import Any

import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.loops import LoopThread
from support.sockets import StarletteSocket, SyncSocket

import wsmanager
from wsmanager import (
    EncodeError,
    EventTooLarge,
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

# -- values ---------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


class Model(pydantic.BaseModel):
    name: str
    at: dt.date


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Color.RED, "red"),
        (Size.BIG, 3),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (decimal.Decimal("1.50"), "1.50"),
        (dt.timedelta(seconds=90), 90.0),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), "2026-01-02T03:04:05"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (Model(name="m", at=dt.date(2026, 1, 2)), {"name": "m", "at": "2026-01-02"}),
        ({3}, [3]),
        (frozenset({3}), [3]),
        ((1, (2,)), [1, [2]]),
        (collections.OrderedDict(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (2**53, 2**53),
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
        (10**30, 10**30),
        (1.5e300, 1.5e300),
        (-0.0, -0.0),
        ("\u2028</script>\x7f\u0000\"\\", "\u2028</script>\x7f\u0000\"\\"),
        ("𝒂é界", "𝒂é界"),
    ],
    ids=repr,
)  # fmt: skip
async def test_values_that_applications_send(wire: Wire, value: Any, expected: Any) -> None:
    manager, socket = wire
    await manager.emit_event("x", {"value": value, "nested": [{"value": value}]})
    (event,) = socket.events
    got = event["payload"]["value"]
    assert event["payload"]["nested"][0]["value"] == got
    if isinstance(value, dt.datetime):
        assert got.startswith(expected)
    else:
        assert got == expected


@pytest.mark.parametrize(
    "data",
    [Point(1, [2]), Model(name="m", at=dt.date(2026, 1, 2)), collections.UserDict(x=1)],
    ids=lambda data: type(data).__name__,
)
async def test_data_may_be_any_mapping_like_object(wire: Wire, data: Any) -> None:
    manager, socket = wire
    await manager.emit_event("x", data)
    (event,) = socket.events
    assert event["payload"] in ({"x": 1, "y": [2]}, {"name": "m", "at": "2026-01-02"}, {"x": 1})


@pytest.mark.parametrize("data", [5, "text", [1, {"a": 2}], True, 1.5])
async def test_data_that_is_no_mapping_is_the_payload_as_it_is(wire: Wire, data: Any) -> None:
    manager, socket = wire
    await manager.emit_event("x", data)
    (event,) = socket.events
    assert event["payload"] == data


@pytest.mark.parametrize("data", [b"x", object(), int, math.nan])
async def test_data_that_is_no_json_says_what_is_expected(wire: Wire, data: Any) -> None:
    manager, socket = wire
    with pytest.raises(EncodeError, match="payload"):
        manager.emit_event("x", data)
    assert socket.texts == []


# -- B4: what cannot be encoded is refused before a byte is sent ----------------


def cyclic() -> dict[str, Any]:
    data: dict[str, Any] = {}
    data["self"] = [data]
    return data


def deep(levels: int) -> dict[str, Any]:
    data: Any = "bottom"
    for _ in range(levels):
        data = [data]
    return {"deep": data}


BAD_PAYLOADS: dict[str, tuple[Any, str | None]] = {
    "object": ({"tool": {"args": [1, 2, object()]}}, "payload.tool.args[2]"),
    "nan": ({"a": {"score": math.nan}}, "payload.a.score"),
    "inf": ({"a": [0, math.inf]}, "payload.a[1]"),
    "-inf": ({"x": -math.inf}, "payload.x"),
    "lambda": ({"callback": lambda: None}, "payload.callback"),
    "bytes in a list": ({"blob": [b"\xff\xfe"]}, None),
    "lone surrogate": ({"text": "a\ud800"}, None),
    "surrogate key": ({"\udfff": 1}, None),
    "cycle": (cyclic(), None),
    "100,000 deep": (deep(100_000), None),
    "key that is an object": ({"a": {object(): 1}}, None),
    "key that is a tuple": ({"a": {(1, 2): 1}}, None),
    "generator": ({"stream": (n for n in range(3))}, "payload.stream"),
    "coroutine function": ({"f": cyclic}, "payload.f"),
    "class": ({"type_": int}, "payload.type_"),
}


@pytest.mark.parametrize("name", BAD_PAYLOADS)
async def test_bad_payloads_reach_nobody(name: str) -> None:
    data, path = BAD_PAYLOADS[name]
    manager = get_websocket_manager("ann")
    sockets = [SyncSocket() for _ in range(3)]
    for socket in sockets:
        manager.add_connection(socket)
    calls = [
        lambda: manager.emit_event("x", data),
        lambda: manager.emit_critical_event("agent_started", data),
        lambda: manager.send_to_user({"type": "x", "payload": data}),
        lambda: wsmanager.broadcast({"type": "x", "payload": data}),
    ]
    for call in calls:
        with pytest.raises(EncodeError) as caught:
            call()
        if path is not None:
            assert path in str(caught.value)
        assert len(str(caught.value)) < 2000
    assert [socket.texts for socket in sockets] == [[], [], []]
    await manager.emit_event("good", {})
    assert [socket.types for socket in sockets] == [["good"]] * 3


async def test_the_error_is_raised_at_the_call_in_the_callers_thread(
    loop_thread: LoopThread,
) -> None:
    """Not in the loop of the connection, where nobody who could mend it would see it."""
    manager = get_websocket_manager("ann")
    manager.add_connection(SyncSocket(), loop=loop_thread.loop)
    with pytest.raises(EncodeError):
        manager.emit_event("x", {"bad": object()})


async def test_an_error_of_the_payload_itself_is_named(wire: Wire) -> None:
    class Broken(pydantic.BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        thing: object

    manager, socket = wire
    with pytest.raises(EncodeError, match=re.escape("payload.model")):
        manager.emit_event("x", {"model": Broken(thing=object())})
    assert socket.texts == []


async def test_too_large_is_a_named_refusal(wire: Wire) -> None:
    manager, socket = wire
    wsmanager.configure(max_event_bytes=10_000)
    with pytest.raises(EventTooLarge, match=r"10,?_?000"):
        manager.emit_event("x", {"text": "a" * 10_000})
    with pytest.raises(EventTooLarge):
        manager.emit_event("x", {"text": "界" * 4_000})
    assert socket.texts == []
    await manager.emit_event("x", {"text": "a" * 9_000})
    assert len(socket.texts) == 1


async def test_64_mib_is_refused_by_default(wire: Wire) -> None:
    manager, socket = wire
    with pytest.raises(EventTooLarge):
        manager.emit_event("x", {"text": "a" * (64 << 20)})
    assert socket.texts == []


async def test_encoding_happens_at_emit(wire: Wire) -> None:
    """What the caller does with its dict afterwards changes nothing."""
    manager, _ = wire
    from support.sockets import HangingSocket

    late = HangingSocket()
    manager.add_connection(late)
    data = {"n": [1]}
    manager.emit_event("first", data)
    delivery = manager.emit_event("second", data)
    data["n"].append(2)
    data["n2"] = [3]
    late.release()
    await delivery.flushed(5)
    assert [event["payload"] for event in late.events] == [{"n": [1]}, {"n": [1]}]


async def test_encoded_once_for_all_recipients() -> None:
    """n connections of a user share one text: the very same object."""
    manager = get_websocket_manager("ann")
    sockets = [SyncSocket() for _ in range(10)]
    for socket in sockets:
        manager.add_connection(socket)
    await manager.emit_event("x", {"text": "a" * 1000})
    assert len({id(socket.texts[0]) for socket in sockets}) == 1


def test_a_payload_that_is_changed_meanwhile(loop_thread: LoopThread, fast_switches: None) -> None:
    """Another thread mutates the dict: an event is valid JSON, or is refused; never a crash."""
    manager = get_websocket_manager("ann")
    socket = SyncSocket()
    manager.add_connection(socket, loop=loop_thread.loop)
    data: dict[str, Any] = {"rows": [], "map": {}}
    stop = threading.Event()

    def mutate() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            data["rows"].append("x" * (n % 50))
            data["map"][f"k{n % 97}"] = {"n": n}
            if n % 7 == 0:
                data["rows"].clear()
                data["map"].clear()

    thread = threading.Thread(target=mutate)
    thread.start()
    sent = 0
    for _ in range(500):
        try:
            manager.emit_event("x", data)
            sent += 1
        except EncodeError:
            continue
        except RuntimeError as error:
            assert "changed size" in str(error)
    stop.set()
    thread.join()
    loop_thread.call(lambda: None)
    from support.waiting import eventually_sync

    eventually_sync(lambda: len(socket.texts) == sent)
    assert all(event["type"] == "x" for event in socket.events)


async def test_a_value_that_emits_while_it_is_encoded(wire: Wire) -> None:
    """An encoder hook that comes back in: both events whole, the inner one first."""
    manager, socket = wire

    class Chatty(collections.UserDict):  # type: ignore[type-arg]
        def keys(self) -> Any:
            manager.emit_event("inner", {})
            return super().keys()

        def __iter__(self) -> Any:
            return super().__iter__()

    await manager.emit_event("outer", {"value": Chatty(a=1)})
    assert socket.types[-1] == "outer"
    assert set(socket.types) <= {"inner", "outer"}


# -- Hypothesis: whatever JSON can carry arrives as it was ----------------------

json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**64), 2**64), st.text(max_size=20),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.dictionaries(st.text(max_size=8), json_values, max_size=5))
@example(data={"": ""})
@example(data={"a\0b": "\x1f\x7f\x80\uffff\U0010ffff"})
@example(data={"type": 1, "payload": {}, "user_id": 2, "timestamp": 3})
def test_any_json_arrives_as_it_was(data: dict[str, Any]) -> None:
    import asyncio

    async def main() -> None:
        wsmanager.reset_manager_registry()
        manager = get_websocket_manager("ann")
        socket = StarletteSocket()
        manager.add_connection(socket)
        await manager.emit_event("x", data)
        (event,) = socket.events
        assert event["payload"] == data
        assert event["type"] == "x"
        assert event["user_id"] == "ann"

    asyncio.run(main())


garbage = st.recursive(
    st.one_of(
        st.none(), st.integers(), st.text(max_size=5), st.binary(max_size=5), st.floats(),
        st.characters(), st.complex_numbers(), st.datetimes(), st.just(object()), st.just(...),
        st.decimals(), st.fractions(), st.uuids(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
    ),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(data=st.dictionaries(st.text(max_size=3), garbage, max_size=3))
def test_garbage_is_valid_json_or_a_named_refusal(data: dict[str, Any]) -> None:
    import asyncio

    async def main() -> None:
        wsmanager.reset_manager_registry()
        manager = get_websocket_manager("ann")
        socket = StarletteSocket()
        manager.add_connection(socket)
        try:
            await manager.emit_event("x", data)
        except EncodeError:
            assert socket.texts == []
        else:
            text = socket.texts[0]
            text.encode("utf-8")
            json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    asyncio.run(main())


@pytest.mark.parametrize("encoder", ["msgspec", "orjson", "json"])
def test_every_encoder_says_the_same(encoder: str, isolated: Any) -> None:
    """With msgspec, with orjson and with neither: equal events and equal refusals."""
    hidden = {"msgspec": [], "orjson": ["msgspec"], "json": ["msgspec", "orjson"]}[encoder]
    outcome = isolated("encoders.py", *hidden)
    assert outcome.out.strip().endswith("ok"), outcome.out


def test_the_depth_limit_is_no_recursion_limit() -> None:
    """Moderately deep data is fine; the refusal of very deep data leaves the stack as it was."""
    limit = sys.getrecursionlimit()
    with pytest.raises(EncodeError):
        get_websocket_manager("ann").emit_event("x", deep(200_000))
    get_websocket_manager("ann").emit_event("x", deep(30))
    assert sys.getrecursionlimit() == limit
