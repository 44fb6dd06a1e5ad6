"""One manager a user, from any thread, within limits, for as long as somebody needs it."""

from __future__ import annotations

import gc
import sys
import sysconfig
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.loops import LoopThread
from support.sockets import StarletteSocket, SyncSocket

import wsmanager
from wsmanager import (
    ConnectionLimitError,
    UserLimitError,
    get_manager_registry_status,
    get_websocket_manager,
    get_websocket_manager_async,
    reset_manager_registry,
)

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def users() -> int:
    return get_manager_registry_status()["total_registered_managers"]


def connections() -> int:
    return get_manager_registry_status()["total_connections"]


# -- one manager a key ----------------------------------------------------------


def test_get_is_get_for_as_long_as_somebody_holds_it() -> None:
    manager = get_websocket_manager("ann")
    for _ in range(100):
        assert get_websocket_manager("ann") is manager
        assert get_websocket_manager({"user_id": "ann"}) is manager


def test_one_manager_under_threads_that_start_together(fast_switches: None) -> None:
    """Eight threads, 200 fresh keys, in different orders: everybody gets the same objects."""
    barrier = threading.Barrier(8)

    def ask(seed: int) -> dict[str, Any]:
        barrier.wait()
        step = (1, 3, 7, 9, 11, 13, 17, 19)[seed]  # each visits every number below 200 once
        keys = [f"user-{n * step % 200}" for n in range(200)]
        return {key: get_websocket_manager(key) for key in keys}

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(other[key] is found[0][key] for key in other)
    assert users() == 200


def test_one_manager_in_every_loop(any_loop_thread: LoopThread) -> None:
    manager = get_websocket_manager("ann")

    async def ask() -> object:
        return await get_websocket_manager_async("ann")

    assert any_loop_thread.run(ask()) is manager
    assert any_loop_thread.call(get_websocket_manager, "ann") is manager


def test_status_has_counts_and_no_ids() -> None:
    manager = get_websocket_manager("secret-name")
    status = get_manager_registry_status()
    assert type(status) is dict
    assert status["total_registered_managers"] == 1
    assert status["total_connections"] == 0
    assert "secret-name" not in repr(status)
    status["total_registered_managers"] = 99
    assert users() == 1
    del manager


async def test_reset_forgets_everybody() -> None:
    socket = StarletteSocket()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket)
    reset_manager_registry()
    assert (users(), connections()) == (0, 0)
    assert get_websocket_manager("ann") is not manager
    await manager.emit_event("late", {})
    assert socket.texts == [], "a manager from before the reset still reaches the socket"


async def test_a_socket_may_be_added_again_after_reset() -> None:
    socket = StarletteSocket()
    get_websocket_manager("ann").add_connection(socket)
    reset_manager_registry()
    get_websocket_manager("bob").add_connection(socket)
    assert connections() == 1


# -- limits ---------------------------------------------------------------------


async def test_connection_limit_is_a_named_refusal() -> None:
    wsmanager.configure(max_connections_per_user=3)
    manager = get_websocket_manager("ann")
    ids = [manager.add_connection(SyncSocket()) for _ in range(3)]
    refused = SyncSocket()
    with pytest.raises(ConnectionLimitError, match="3"):
        manager.add_connection(refused)
    assert len(manager) == 3
    get_websocket_manager("bob").add_connection(SyncSocket())
    manager.remove_connection(ids[0])
    manager.add_connection(refused)
    assert len(manager) == 3


def test_user_limit_is_a_named_refusal() -> None:
    wsmanager.configure(max_users=5)
    held = [get_websocket_manager(f"user-{n}") for n in range(5)]
    with pytest.raises(UserLimitError, match="5"):
        get_websocket_manager("one-too-many")
    assert users() == 5
    assert get_websocket_manager("user-0") is held[0], "a known user was refused"


async def test_user_limit_in_the_async_form() -> None:
    wsmanager.configure(max_users=1)
    held = get_websocket_manager("only")
    with pytest.raises(UserLimitError):
        await get_websocket_manager_async("second")
    assert await get_websocket_manager_async("only") is held


def test_the_connection_limit_holds_under_threads(
    loop_thread: LoopThread, fast_switches: None
) -> None:
    wsmanager.configure(max_connections_per_user=10)
    manager = get_websocket_manager("ann")
    barrier = threading.Barrier(8)

    def add(_: int) -> int:
        barrier.wait()
        added = 0
        for _ in range(5):
            try:
                manager.add_connection(SyncSocket(), loop=loop_thread.loop)
                added += 1
            except ConnectionLimitError:
                continue
        return added

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 10
    assert len(manager) == 10 == connections()


# -- idle collection ------------------------------------------------------------


def test_an_idle_manager_is_collected_after_its_time() -> None:
    wsmanager.configure(idle_ttl=0.05)
    alive = weakref.ref(get_websocket_manager("idle"))
    time.sleep(0.1)
    for n in range(64):  # no background thread: others' calls do the work
        get_websocket_manager(f"other-{n}")
    gc.collect()
    assert alive() is None
    assert users() <= 64


def test_a_held_manager_is_never_collected() -> None:
    wsmanager.configure(idle_ttl=0.01)
    held = get_websocket_manager("held")
    time.sleep(0.03)
    for n in range(64):
        get_websocket_manager(f"other-{n}")
    assert get_websocket_manager("held") is held


async def test_a_connected_user_is_never_collected() -> None:
    wsmanager.configure(idle_ttl=0.01)
    socket = StarletteSocket()
    get_websocket_manager("connected").add_connection(socket)
    time.sleep(0.03)  # noqa: ASYNC251  the loop has nothing else to do
    for n in range(64):
        get_websocket_manager(f"other-{n}")
    gc.collect()
    await get_websocket_manager("connected").emit_event("still", {})
    assert socket.types == ["still"]


def test_attributes_survive_as_long_as_the_manager() -> None:
    """What a caller has put on a manager is there again within the idle time."""
    get_websocket_manager("ann").note = "kept"  # type: ignore[attr-defined]
    assert get_websocket_manager("ann").note == "kept"  # type: ignore[attr-defined]


def test_endless_distinct_users_stay_bounded() -> None:
    wsmanager.configure(max_idle_users=100, idle_ttl=3600)
    for n in range(5000):
        get_websocket_manager(f"passer-by-{n}")
    assert users() <= 101


def test_no_background_thread() -> None:
    before = threading.active_count()
    for n in range(100):
        get_websocket_manager(f"user-{n}")
    assert threading.active_count() == before


@pytest.mark.parametrize("way", ["reset", "idle", "fork"])
def test_what_left_the_registry_is_not_found_by_the_same_str(
    isolated: Callable[..., Any], way: str
) -> None:
    isolated("same_str.py", way)


@pytest.mark.skipif(FREE_THREADED, reason="without the GIL nothing stands in front of the table")
@pytest.mark.parametrize("way", ["reset", "idle", "fork"])
def test_control_a_front_that_keeps_what_left_is_caught(
    nursery: Any, run_isolated: Callable[..., Any], way: str
) -> None:
    outcome = run_isolated(
        "same_str.py", way, package=nursery.package("STALE_FRONT"), env={"PYTHONMALLOC": "debug"}
    )
    assert not outcome.ok, outcome.explain()


def test_strs_that_were_asked_for_are_let_go() -> None:
    """What is kept of them is bounded: of 1,000 equal strs the registry holds 64 at most."""
    held = get_websocket_manager("ann-0")
    keys = ["".join(("ann", "-0")) for _ in range(1000)]
    before = [sys.getrefcount(key) for key in keys]
    assert all(get_websocket_manager(key) is held for key in keys)
    assert sum(sys.getrefcount(key) for key in keys) - sum(before) <= 64
    reset_manager_registry()
    assert [sys.getrefcount(key) for key in keys] == before


# -- growth ---------------------------------------------------------------------


def lookup_cost(count: int) -> float:
    """Seconds for 20,000 hits with *count* users held; the best of five."""
    held = [get_websocket_manager(f"grow-{n}") for n in range(count)]
    keys = [f"grow-{n}" for n in range(0, count, max(1, count // 10))][:10]
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2000):
            for key in keys:
                get_websocket_manager(key)
        best = min(best, (time.perf_counter() - start) / (2000 * len(keys)) * 20_000)
    del held
    return best


def test_a_hit_costs_the_same_with_many_users() -> None:
    few = lookup_cost(10)
    many = lookup_cost(50_000)
    assert many < 8 * few, f"{few * 50:.0f} ns with 10 users, {many * 50:.0f} ns with 50,000"


def test_creation_never_looks_at_the_others() -> None:
    """The n-th manager is made without a comparison or a property of an earlier one."""
    touched: list[str] = []

    class Watching:
        def __init__(self, name: str) -> None:
            self.name = name
            self.done = False

        @property
        def user_id(self) -> str:
            if self.done:
                touched.append(self.name)
            return self.name

    contexts = [Watching(f"w-{n}") for n in range(100)]
    held = []
    for context in contexts:
        held.append(get_websocket_manager(context))
        context.done = True
    assert touched == []
    assert len(held) == users() == 100


def test_colliding_ids_stay_apart_and_cheap() -> None:
    """I3: ids made to share hash prefixes in other tables; time a look-up stays bounded."""
    ids = [f"{'x' * 200}{n:06d}" for n in range(10_000)]
    wsmanager.configure(max_idle_users=20_000)
    start = time.perf_counter()
    held = {text: get_websocket_manager(text) for text in ids}
    elapsed = time.perf_counter() - start
    assert len({id(manager) for manager in held.values()}) == 10_000
    assert all(manager.user_id == text for text, manager in held.items())
    assert elapsed < 5, f"{elapsed:.1f} s for 10,000 ids"


# -- fork (F11) -----------------------------------------------------------------


@pytest.mark.timeout(120)
def test_a_forked_child_starts_empty_and_silent(isolated: Callable[..., Any]) -> None:
    outcome = isolated("forks.py", 60, timeout=90)
    assert "forks 60 hung 0 wrong 0 foreign-bytes 0" in outcome.out


@pytest.mark.timeout(120)
def test_control_a_core_that_forgets_the_fork_is_caught(
    nursery: Any, run_isolated: Callable[..., Any]
) -> None:
    outcome = run_isolated("forks.py", 5, package=nursery.package("NO_FORK_RESET"), timeout=90)
    assert not outcome.ok, outcome.explain()


def test_a_child_may_forget_while_it_looks_up(isolated: Callable[..., Any]) -> None:
    assert "bad 0" in isolated("forget.py", 2, 4, timeout=60).out


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_thousand_forks(isolated: Callable[..., Any]) -> None:
    assert "hung 0 wrong 0 foreign-bytes 0" in isolated("forks.py", 1000, timeout=1100).out


# -- sub-interpreters (F13) and two module objects ------------------------------


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="CPython 3.12 aborts where isolated interpreters import asyncio, without us as well",
)
@pytest.mark.timeout(120)
def test_subinterpreters_are_refused_or_apart(isolated: Callable[..., Any]) -> None:
    outcome = isolated("subinterpreters.py", 10, timeout=90)
    assert "apart 10 refused 0" in outcome.out or "apart 0 refused 10" in outcome.out


def test_two_module_objects_are_apart(isolated: Callable[..., Any]) -> None:
    """Loaded a second time in one interpreter, the core has a second, separate registry."""
    isolated("two_modules.py")


def test_awaitables_that_go_together_with_their_module(isolated: Callable[..., Any]) -> None:
    """The collector clears a type before its last instances: they do without the module's state."""
    isolated("orphans.py", env={"PYTHONMALLOC": "debug"})
