"""Assertions wait, end in time, and say what did arrive; each is shown what it must catch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.loops import LoopThread as Other

from wsmanager import configure, get_config, get_manager_registry_status, get_websocket_manager
from wsmanager.testing import (
    FakeStarlette,
    FakeText,
    HangingClient,
    Inbox,
    LoopThread,
    Recorder,
    assert_event,
    assert_events_in_order,
    assert_isolated,
    assert_no_event,
    blocking,
    isolated_registry,
)


def connected(user: str, client: Any = None) -> Any:
    return Recorder().connect(user, client)


async def fails(awaitable: Awaitable[object]) -> str:
    """The text of the failure."""
    with pytest.raises(AssertionError) as failure:
        await awaitable
    return str(failure.value)


async def test_an_event_that_has_come_and_one_that_comes_later() -> None:
    ann = connected("ann")
    manager = get_websocket_manager("ann")
    manager.emit_event("agent_started", {"agent_name": "x", "n": 1})
    event = await assert_event(ann, "agent_started", agent_name="x", n=1)
    assert event["payload"]["n"] == 1
    asyncio.get_running_loop().call_later(0.05, manager.emit_event, "later", {"n": 2})
    assert (await assert_event(ann, "later"))["payload"] == {"n": 2}
    assert (await assert_event(ann, where=lambda e: e["payload"].get("n") == 2))["type"] == "later"
    ann.clear()
    await assert_no_event(ann)


async def test_an_event_from_another_thread() -> None:
    ann = connected("ann")
    await asyncio.gather(
        assert_event(ann, "from_thread"),
        asyncio.to_thread(lambda: get_websocket_manager("ann").emit_event("from_thread", {})),
    )


async def test_control_no_event_fails_in_time_and_says_what_came() -> None:
    ann = connected("ann", FakeText("tab 1"))
    get_websocket_manager("ann").emit_event("agent_thinking", {"thought": "hm"})
    began = time.monotonic()
    text = await fails(assert_event(ann, "agent_completed", timeout=0.1, agent_name="x"))
    assert 0.1 <= time.monotonic() - began < 5
    assert "agent_completed" in text and "agent_name='x'" in text and "0.1 s" in text
    assert "tab 1" in text and "agent_thinking" in text and "hm" in text
    assert "nothing arrived" in await fails(assert_event(FakeText(), timeout=0.01))


async def test_control_fields_of_another_value_do_not_fit() -> None:
    ann = connected("ann")
    get_websocket_manager("ann").emit_event("step", {"n": 1})
    await fails(assert_event(ann, "step", n=2, timeout=0.02))
    await fails(assert_event(ann, "step", missing=None, timeout=0.02))
    await fails(assert_event(ann, "step", where=lambda event: False, timeout=0.02))


async def test_control_an_event_breaks_the_silence_at_once() -> None:
    ann = connected("ann")
    await assert_no_event(ann, within=0.02)
    loop = asyncio.get_running_loop()
    loop.call_later(0.02, get_websocket_manager("ann").emit_event, "noise", {"n": 1})
    began = time.monotonic()
    text = await fails(assert_no_event(ann, "noise", within=30))
    assert time.monotonic() - began < 10
    assert "noise" in text
    await assert_no_event(ann, "other", within=0.01)
    await assert_no_event(ann, n=2, within=0.01)


async def test_order() -> None:
    ann = connected("ann")
    for kind in ("agent_started", "agent_thinking", "tool_executing", "agent_completed"):
        get_websocket_manager("ann").emit_event(kind, {"tool_name": "t"})
    found = await assert_events_in_order(ann, "agent_started", "tool_executing", "agent_completed")
    assert [event["type"] for event in found] == [
        "agent_started",
        "tool_executing",
        "agent_completed",
    ]
    await assert_events_in_order(ann, *ann.types, exact=True)


async def test_control_order() -> None:
    ann = connected("ann")
    for kind in ("a", "b", "c"):
        get_websocket_manager("ann").emit_event(kind, {})
    text = await fails(assert_events_in_order(ann, "b", "a", timeout=0.02))
    assert "b < a" in text and "0: a" in text and "2: c" in text
    assert "exactly" in await fails(assert_events_in_order(ann, "a", "c", timeout=0.02, exact=True))
    with pytest.raises(TypeError, match="name the types"):
        await assert_events_in_order(ann)


async def test_isolation() -> None:
    ann, bob = connected("ann"), connected("bob", FakeStarlette())
    get_websocket_manager("ann").emit_event("secret", {"n": 1})
    await assert_isolated(ann, bob)
    assert (ann.types, bob.types) == (["secret"], [])
    with pytest.raises(ValueError, match="two users"):
        await assert_isolated(ann, ann)
    with pytest.raises(ValueError, match="two users"):
        await assert_isolated(ann, FakeText())


async def test_control_isolation_sees_each_kind_of_leak() -> None:
    """By user id, by the event's identity, by a probe that goes both ways; and a silent connection."""
    ann, bob = connected("ann"), connected("bob")
    manager = get_websocket_manager("ann")
    await manager.emit_event("secret", {"n": 1})
    bob.take(ann.messages[0])
    text = await fails(assert_isolated(ann, bob))
    assert "event of 'ann'" in text and "arrived at both" in text and "secret" in text

    class Leaking(FakeText):
        async def send_text(self, data: str) -> None:
            await super().send_text(data)
            eve.take(data)

    carl, eve = connected("carl", Leaking("carl's")), connected("eve", FakeText("eve's"))
    assert "got the probe of 'carl'" in await fails(assert_isolated(carl, eve))
    mute, heard = connected("mute", HangingClient()), connected("heard")
    assert "did not arrive" in await fails(assert_isolated(mute, heard, timeout=0.05))


def test_the_same_for_plain_functions() -> None:
    with LoopThread() as thread:
        recorder = Recorder(lambda: thread)
        ann, bob = recorder.connect("ann"), recorder.connect("bob", FakeStarlette())
        manager = get_websocket_manager("ann")
        manager.emit_event("one", {"n": 1})
        manager.emit_event("two", {"n": 2})
        assert blocking.assert_event(ann, "two", n=2)["payload"] == {"n": 2}
        blocking.assert_events_in_order(ann, "one", "two", exact=True)
        blocking.assert_no_event(bob)
        blocking.assert_isolated(ann, bob)
        assert recorder.types == {"ann": ["one", "two"], "bob": []}
        with pytest.raises(AssertionError, match="what arrived"):
            blocking.assert_event(bob, "one", timeout=0.02)
        assert recorder.disconnect(bob)
        recorder.close()
        assert len(manager) == 0


async def test_blocking_where_it_would_stop_the_loop_is_refused() -> None:
    call: Callable[..., object] = blocking.assert_event
    with pytest.raises(RuntimeError, match="await the assertion"):
        call(FakeText(), "x")


def test_a_recorder_makes_and_ends_its_own_loop() -> None:
    recorder = Recorder()
    ann = recorder.connect({"user_id": "ann"}, thread_id="t")
    get_websocket_manager("ann").send_to_thread("t", {"type": "hi"})
    blocking.assert_event(ann, "hi")
    assert recorder.users == ["ann"] and recorder.clients("bob") == []
    assert "hi" in recorder.describe()
    recorder.close()
    with pytest.raises(ValueError, match="None names none"):
        recorder.connect(None)
    with pytest.raises(ValueError, match="not connected"):
        recorder.disconnect(FakeText())


def test_a_failure_shows_the_last_of_many_and_cuts_the_long() -> None:
    inbox = Inbox("many")
    for number in range(100):
        inbox.take(f'{{"type": "n{number}", "pad": "{"x" * 500}"}}')
    with pytest.raises(AssertionError) as failure:
        blocking.assert_event(inbox, "missing", timeout=0.01)
    text = str(failure.value)
    assert "n99" in text and "n3:" not in text and "first 80 are left out" in text
    assert len(text) < 8000
    with pytest.raises(TypeError, match="str or bytes"):
        inbox.take({})


def test_the_registry_inside_is_empty_and_the_settings_come_back() -> None:
    before = get_config()
    keep = get_websocket_manager("outside")
    with isolated_registry(max_event_bytes=1000):
        assert get_manager_registry_status()["total_registered_managers"] == 0
        assert get_config()["max_event_bytes"] == 1000
        configure(outbox_max_events=3)
        get_websocket_manager("inside")
    assert get_config() == before
    assert get_manager_registry_status()["total_registered_managers"] == 0
    assert get_websocket_manager("outside") is not keep
    with pytest.raises(TypeError), isolated_registry(no_such_setting=1):
        pass
    assert get_config() == before


def test_a_loop_thread_refuses_to_wait_for_itself() -> None:
    with LoopThread() as thread:

        async def inner() -> None:
            pass

        def from_within() -> None:
            coroutine = inner()
            try:
                thread.run(coroutine)
            finally:
                coroutine.close()

        with pytest.raises(RuntimeError, match="own thread"):
            thread.call(from_within)
        with pytest.raises(TimeoutError, match="longer than"):
            thread.run(asyncio.sleep(30), timeout=0.02)
    thread.close()


async def test_a_client_on_one_loop_is_read_from_another(loop_thread: Other) -> None:
    ann = loop_thread.call(connected, "ann")
    get_websocket_manager("ann").emit_event("across", {})
    await assert_event(ann, "across")
