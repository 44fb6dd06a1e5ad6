"""Managers go when nobody needs them, and stay as long as somebody does."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.sockets import StarletteSocket
from support.waiting import turns

import wsmanager
from wsmanager import (
    UserLimitError,
    get_manager_registry_status,
    get_websocket_manager,
    reset_manager_registry,
)


def users() -> int:
    return get_manager_registry_status()["total_registered_managers"]


def settle(calls: int = 200) -> None:
    """Let the registry look at who is idle, as calls do in passing."""
    for _ in range(calls):
        users()


class Agent:
    """A context that keeps its own manager: a cycle."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.manager = get_websocket_manager(self)


def test_managers_that_only_their_own_contexts_hold_are_collected() -> None:
    wsmanager.configure(idle_ttl=0.01)
    for n in range(300):
        Agent(f"user-{n}")
    time.sleep(0.02)
    settle()
    gc.collect()
    settle()
    assert users() == 0


def test_their_number_is_within_the_limit_of_users() -> None:
    wsmanager.configure(idle_ttl=0.01, max_users=100)
    for n in range(1000):
        try:
            Agent(f"user-{n}")
        except UserLimitError:
            time.sleep(0.02)
            settle()
            gc.collect()
            Agent(f"user-{n}")
    assert users() <= 100


async def test_one_that_is_held_is_found_again_and_works() -> None:
    """Through its own methods, by its key, with a connection: it is the same, and in the table."""
    wsmanager.configure(idle_ttl=0.01)
    held = get_websocket_manager("held")
    for n in range(5):
        time.sleep(0.02)  # noqa: ASYNC251  the loop has nothing else to do
        settle(20)
        assert users() == 1
        socket = StarletteSocket()
        connection = held.add_connection(socket)
        assert wsmanager.broadcast({"type": "to-all"}) == 1
        assert get_websocket_manager("held") is held
        held.remove_connection(connection)
        assert socket.types == ["to-all"], n


async def test_what_is_emitted_to_one_that_is_held_is_kept() -> None:
    wsmanager.configure(idle_ttl=0.01)
    held = get_websocket_manager("held")
    position = held.position
    time.sleep(0.02)  # noqa: ASYNC251  as above
    settle(20)
    held.emit_event("while-away", {})
    assert get_manager_registry_status()["journal_users"] == 1
    socket = StarletteSocket()
    get_websocket_manager("held").add_connection(socket, resume=position)
    await turns()
    assert socket.types == ["resumed", "while-away"]


async def test_a_reset_forgets_who_is_held() -> None:
    wsmanager.configure(idle_ttl=0.01)
    held = get_websocket_manager("held")
    time.sleep(0.02)  # noqa: ASYNC251  as above
    settle(20)
    reset_manager_registry()
    held.emit_event("x", {})
    assert users() == 0
    assert get_websocket_manager("held") is not held


def test_a_shorter_time_holds_for_who_is_there_already() -> None:
    get_websocket_manager("first")
    wsmanager.configure(idle_ttl=0.01)
    for n in range(100):
        get_websocket_manager(f"user-{n}")
    time.sleep(0.02)
    settle()
    assert users() == 0


async def test_who_is_connected_takes_no_room_from_who_is_idle() -> None:
    wsmanager.configure(max_idle_users=10)
    sockets = [StarletteSocket() for _ in range(40)]
    for n in range(5):
        get_websocket_manager(f"user-{n}").add_connection(sockets[n])
    get_websocket_manager("away").emit_event("kept", {})
    position = get_websocket_manager("away").position
    for n in range(5, 40):
        get_websocket_manager(f"user-{n}").add_connection(sockets[n])
    assert get_websocket_manager("away").position == position


def test_nobody_is_refused_while_others_are_idle_behind_held_ones() -> None:
    wsmanager.configure(max_users=200, idle_ttl=0.01)
    held = [get_websocket_manager(f"held-{n}") for n in range(150)]
    for n in range(50):
        get_websocket_manager(f"idle-{n}")
    time.sleep(0.02)
    get_websocket_manager("new")
    assert all(get_websocket_manager(f"held-{n}") is held[n] for n in range(150))


# -- waiting ----------------------------------------------------------------------


async def test_who_waits_for_a_connection_keeps_the_manager() -> None:
    wsmanager.configure(idle_ttl=0.01)
    waiting = asyncio.ensure_future(get_websocket_manager("ann").wait_for_connection(timeout=60))
    await asyncio.sleep(0.02)
    settle()
    gc.collect()
    get_websocket_manager("ann").add_connection(StarletteSocket())
    assert await asyncio.wait_for(waiting, 30)


@pytest.mark.parametrize("way", ["cancelled", "timeout"])
async def test_who_waits_no_longer_is_let_go(way: str) -> None:
    manager = get_websocket_manager("offline")
    futures = []
    for _ in range(50):
        future = manager.wait_for_connection(timeout=0 if way == "timeout" else 1000)
        if way == "cancelled":
            future.cancel()
        futures.append(weakref.ref(future))
        await asyncio.wait([future])
    del future
    await turns()
    gc.collect()
    assert not any(future() for future in futures)
    timers = [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
    assert len(timers) <= 1


async def test_who_waits_for_an_event_no_longer_is_let_go() -> None:
    manager = get_websocket_manager("ann")

    class Slow:
        async def send_text(self, text: str) -> None:
            await asyncio.sleep(1000)

    connection = manager.add_connection(Slow())
    delivery = manager.emit_event("x", {}, ack=True)
    futures = []
    for wait in (delivery.flushed, delivery.acked):
        for _ in range(20):
            future = wait(timeout=1000)
            future.cancel()
            futures.append(weakref.ref(future))
    del future
    await turns()
    gc.collect()
    assert not any(future() for future in futures)
    manager.remove_connection(connection)


# -- forks ------------------------------------------------------------------------


@pytest.mark.parametrize("touched", [True, False])
def test_a_childs_child_knows_the_manager_that_is_held(
    isolated: Callable[..., Any], touched: bool
) -> None:
    isolated("grandchild.py", int(touched))


def test_a_child_lets_connections_of_the_parent_be(isolated: Callable[..., Any]) -> None:
    isolated("inherited.py", env={"PYTHONMALLOC": "debug"})
