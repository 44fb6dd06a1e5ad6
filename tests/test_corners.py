"""Ways into the core that ordinary use seldom takes, and that coverage showed nobody had tried."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.loops import loop_factories
from support.sockets import SuspendingSocket
from support.waiting import eventually
from support.wire import Line, events

import wsmanager
from wsmanager import ConnectionId, get_websocket_manager, get_websocket_manager_async
from wsmanager._wsmanager import Answer, Channel, frame

Main = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_gap_is_told_on_the_direct_way(run: Main, policy: Any) -> None:
    """The peer reads nothing for a while: what was dropped is marked where it is missing."""
    wsmanager.configure(slow_policy=policy, outbox_max_events=4)

    async def main() -> None:
        line = await Line.open(4096)
        manager = get_websocket_manager("ann")
        manager.add_connection(line, channel=Channel(line.transport))
        blocking = frame(b"A" * 400_000)
        line.transport.write(blocking)
        assert line.transport.get_write_buffer_size() > 0
        for n in range(20):
            manager.emit_event("x", {"n": n})
        assert await line.read(len(blocking), 20) == blocking
        await eventually(lambda: line.transport.get_write_buffer_size() == 0)
        data = b""

        async def got(count: int) -> None:
            nonlocal data
            for _ in range(5000):
                data += line.read_now()
                if data.count(b'"type"') >= count:
                    return
                await asyncio.sleep(0.001)

        await got(5)
        manager.emit_event("x", {"n": 20})
        await got(6)
        found = events(data)
        gaps = [event["payload"] for event in found if event["type"] == "gap"]
        numbers = [event["payload"]["n"] for event in found if event["type"] == "x"]
        assert sum(gap["dropped"] for gap in gaps) + len(numbers) == 21
        assert numbers == sorted(set(numbers))
        assert gaps
        dropped = sorted(set(range(21)) - set(numbers))
        first = int(gaps[0]["first"].split(":")[1])
        assert first == dropped[0] + 1  # the numbering begins at 1
        place = next(i for i, event in enumerate(found) if event["type"] == "gap")
        assert all(event["payload"]["n"] < dropped[0] for event in found[:place])
        await line.shut()

    run(main)


def python_task(loop: Any, coro: Any, **options: Any) -> Any:
    """asyncio's task as it is written in Python: it drives by send(), throw() and close()."""
    from asyncio.tasks import _PyTask  # type: ignore[attr-defined]

    options.pop("eager_start", None)
    return _PyTask(coro, loop=loop, **options)


async def test_a_send_that_suspends_under_a_task_written_in_python() -> None:
    """Task factories of debuggers and tracers make such tasks."""
    asyncio.get_running_loop().set_task_factory(python_task)
    manager = get_websocket_manager("ann")
    socket = SuspendingSocket(turns=3)
    manager.add_connection(socket)
    for n in range(20):
        manager.emit_event("x", {"n": n})
    assert await manager.emit_event("x", {"n": 20}).flushed(5)
    assert [event["payload"]["n"] for event in socket.events] == list(range(21))
    assert socket.most_running == 1


async def test_every_awaitable_under_a_task_written_in_python() -> None:
    asyncio.get_running_loop().set_task_factory(python_task)

    async def ready() -> bool:
        await asyncio.sleep(0)
        return True

    wsmanager.configure(availability_check=ready)
    manager = await asyncio.ensure_future(get_websocket_manager_async("ann"))
    assert manager is get_websocket_manager("ann")
    connection_id = manager.add_connection(SuspendingSocket())
    receipt = await asyncio.create_task(manager.emit_event("x", {}))  # type: ignore[arg-type]
    assert receipt.sent + receipt.queued == 1
    removed = await asyncio.create_task(manager.remove_connection(connection_id))  # type: ignore[arg-type]
    assert removed is True


@pytest.mark.parametrize("factory", loop_factories())
def test_a_loop_that_ends_with_a_send_under_way(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Its task is cancelled, or closed: the connection goes, and nothing is said of a lost task."""
    loop = factory()
    manager = get_websocket_manager("ann")

    async def begin() -> None:
        manager.add_connection(SuspendingSocket(turns=1_000_000))
        manager.emit_event("x", {})
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    loop.run_until_complete(begin())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert not manager.is_connection_active()


def test_an_answer_is_like_the_value_it_holds() -> None:
    manager = get_websocket_manager("ann")
    none, zero = manager.remove_connection("nobody"), manager.remove_connection_by_user()
    assert none.value is False
    assert none == False  # noqa: E712 - the comparison is what is tried
    assert hash(none) == hash(False)
    assert [10, 20][zero] == 10  # type: ignore[call-overload]
    assert "Answer" in repr(Answer[bool])
    with pytest.raises(StopIteration) as stop:
        none.send(None)
    assert stop.value.value is False
    with pytest.raises(KeyError):
        none.throw(KeyError("thrown in"))
    none.close()


async def test_a_connection_id_is_text_elsewhere() -> None:
    """In another process it has no generation, and is the text that it is."""
    connection_id = get_websocket_manager("ann").add_connection(SuspendingSocket())
    assert type(connection_id) is ConnectionId
    copied = pickle.loads(pickle.dumps(connection_id))
    assert type(copied) is str
    assert copied == connection_id
    connection = get_websocket_manager("ann").get_connection(copied)
    assert connection is not None
    assert connection.thread_id is None


async def test_an_acquisition_says_how_far_it_is_and_is_awaited_once() -> None:
    gate = asyncio.Event()

    async def wait() -> bool:
        await gate.wait()
        return True

    wsmanager.configure(availability_check=wait, availability_timeout=30)
    acquire = get_websocket_manager_async("ann")
    assert "not awaited" in repr(acquire)
    task = asyncio.ensure_future(acquire)
    await asyncio.sleep(0)
    assert "waiting" in repr(acquire)
    gate.set()
    await task
    assert "done" in repr(acquire)
    with pytest.raises(RuntimeError):
        await acquire


async def test_a_delivery_driven_by_hand() -> None:
    delivery = get_websocket_manager("ann").emit_event("x", {})
    with pytest.raises(StopIteration) as stop:
        delivery.send(None)
    assert stop.value.value.sent == 0
    with pytest.raises(StopIteration):
        next(delivery)
