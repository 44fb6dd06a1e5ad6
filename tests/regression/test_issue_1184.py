"""The sync factory was awaited in 83 files; the manager was not created and nobody was told.

Each success criterion of that outage's test plan is a test here, by its name.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading

import pytest
from support.contexts import UserExecutionContext
from support.sockets import StarletteSocket

import wsmanager
from wsmanager import (
    UnifiedWebSocketManager,
    get_manager_registry_status,
    get_websocket_manager,
    get_websocket_manager_async,
)

pytestmark = pytest.mark.issue_1184


async def test_get_websocket_manager_is_not_awaitable() -> None:
    """The interpreter's own error, not ours: nothing is created that a coroutine could hide."""
    context = {"user_id": "test-user-1184", "thread_id": "test-thread-1184"}
    manager = get_websocket_manager(user_context=context)
    assert isinstance(manager, UnifiedWebSocketManager)
    assert not inspect.isawaitable(manager)
    assert not hasattr(manager, "__await__")
    with pytest.raises(TypeError, match=r"can't be used in 'await' expression|can't be awaited"):
        await get_websocket_manager(user_context=context)  # type: ignore[misc]


async def test_wrong_await_in_every_disguise() -> None:
    """The awaits that a search for the plain text does not find fail as loudly."""
    manager = get_websocket_manager({"user_id": "disguised-1184"})
    loop = asyncio.get_running_loop()
    with pytest.raises(TypeError):
        asyncio.create_task(manager)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await asyncio.gather(manager)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        asyncio.ensure_future(manager, loop=loop)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await asyncio.wait_for(manager, 1)  # type: ignore[arg-type]


def test_wrong_asyncio_run_is_an_error() -> None:
    with pytest.raises((TypeError, ValueError)):
        asyncio.run(get_websocket_manager({"user_id": "run-1184"}))  # type: ignore[arg-type]


def test_the_factory_is_a_plain_function() -> None:
    assert not inspect.iscoroutinefunction(get_websocket_manager)
    assert not asyncio.iscoroutinefunction(get_websocket_manager)
    assert callable(get_websocket_manager)


async def test_async_form_works_and_gives_the_same_object() -> None:
    context = {"user_id": "async-1184"}
    manager = await get_websocket_manager_async(context)
    assert isinstance(manager, UnifiedWebSocketManager)
    assert get_websocket_manager(context) is manager
    assert await get_websocket_manager_async(user_context=context) is manager


async def test_async_form_after_the_sync_form_is_the_same_object() -> None:
    manager = get_websocket_manager({"user_id": "mixed-1184"})
    assert await get_websocket_manager_async({"user_id": "mixed-1184"}) is manager


def test_async_form_under_asyncio_run() -> None:
    """The form that a script or a test without a loop uses."""
    manager = asyncio.run(get_websocket_manager_async({"user_id": "run-1184"}))
    assert manager is get_websocket_manager({"user_id": "run-1184"})


async def test_websocket_manager_initialization_timing() -> None:
    """A manager is complete when the call returns: nothing is left for a later loop turn."""
    context = {"user_id": "timing-test-1184", "thread_id": "timing-thread"}
    tasks = asyncio.all_tasks()
    manager = get_websocket_manager(user_context=context)
    assert manager.user_context is context
    assert manager.user_id == "timing-test-1184"
    assert manager.service_available is True
    assert manager.mode is wsmanager.WebSocketManagerMode.UNIFIED
    assert len(manager) == 0
    assert asyncio.all_tasks() == tasks, "the sync form scheduled something"
    assert get_websocket_manager(user_context=context) is manager


def test_initialization_needs_no_event_loop() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    manager = get_websocket_manager({"user_id": "no-loop-1184"})
    assert manager.service_available is True


async def test_websocket_manager_concurrent_access() -> None:
    """Concurrent requests of two users: one manager each, whoever comes first."""
    contexts = [{"user_id": f"concurrent-{n}-1184", "thread_id": f"t{n}"} for n in (1, 2)]

    async def sync_form(context: dict[str, str], delay: float) -> UnifiedWebSocketManager:
        await asyncio.sleep(delay)
        return get_websocket_manager(user_context=context)

    async def async_form(context: dict[str, str], delay: float) -> UnifiedWebSocketManager:
        await asyncio.sleep(delay)
        return await get_websocket_manager_async(user_context=context)

    results = await asyncio.gather(
        *(
            form(context, 0.001 * (n % 3))
            for n in range(20)
            for context in contexts
            for form in (sync_form, async_form)
        )
    )
    by_user = {id(m): m for m in results}
    assert len(by_user) == 2
    first, second = by_user.values()
    assert first is not second
    assert first.user_context != second.user_context
    assert get_manager_registry_status()["total_registered_managers"] == 2


def test_concurrent_access_from_threads() -> None:
    """Sixteen threads and loops that start together still get one manager."""
    barrier = threading.Barrier(16)
    found: list[UnifiedWebSocketManager] = []

    def sync_form() -> None:
        barrier.wait()
        found.append(get_websocket_manager({"user_id": "threads-1184"}))

    def async_form() -> None:
        async def ask() -> None:
            found.append(await get_websocket_manager_async({"user_id": "threads-1184"}))

        barrier.wait()
        asyncio.run(ask())

    threads = [threading.Thread(target=sync_form if n % 2 else async_form) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len({id(manager) for manager in found}) == 1


async def test_websocket_manager_staging_compatibility() -> None:
    """What was green on laptops and red in staging: the running loop changes nothing."""
    context = UserExecutionContext.from_request("staging-test-1184", "staging-thread", "run-1")
    manager = get_websocket_manager(user_context=context)
    assert manager.user_context is context
    in_thread = await asyncio.to_thread(get_websocket_manager, context)
    assert in_thread is manager


async def test_staging_websocket_event_delivery_reliability() -> None:
    """Not "at least some" of the concurrent events, as the plan had it: every one, once."""
    manager = get_websocket_manager({"user_id": "staging-events-1184"})
    socket = StarletteSocket()
    manager.add_connection(socket)

    async def emit(n: int) -> object:
        return await manager.emit_event(f"test_event_{n}", {"data": n})

    results = await asyncio.gather(*(asyncio.create_task(emit(n)) for n in range(50)))
    assert all(results)
    assert sorted(socket.types) == sorted(f"test_event_{n}" for n in range(50))


def test_error_message_of_the_outage_is_of_no_class_of_ours() -> None:
    """The class in the interpreter's message is one that a reader can find."""
    assert re.fullmatch(r"\w*UnifiedWebSocketManager", UnifiedWebSocketManager.__name__)
    assert wsmanager.WebSocketManager is UnifiedWebSocketManager
    with pytest.raises(TypeError, match="get_websocket_manager"):
        UnifiedWebSocketManager()


async def test_a_forgotten_await_of_the_async_form_is_told_at_once() -> None:
    """The mirror image of the outage: the async form used as if it were the sync one."""
    acquire = get_websocket_manager_async({"user_id": "forgotten-1184"})
    with pytest.raises(AttributeError, match="await"):
        acquire.emit_event("agent_started", {})  # type: ignore[attr-defined]
    acquire.close()


async def test_tolerated_awaits_during_a_migration() -> None:
    """A team in the middle of the migration may switch the error to a counted warning."""
    wsmanager.configure(tolerate_await=True)
    manager = get_websocket_manager({"user_id": "tolerated-1184"})
    with pytest.warns(DeprecationWarning, match="get_websocket_manager"):
        assert await manager is manager  # type: ignore[misc]
