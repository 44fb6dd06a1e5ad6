"""Fixtures of the whole suite: a clean registry, a second loop, child processes, real servers."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.children import Outcome, run_child
from support.faults import compile_faultio, preload
from support.loops import LoopThread, loop_factories
from support.plants import Nursery
from support.sanitizers import SANITIZED

import wsmanager

# A shell may start what it runs in the background with SIGINT ignored, and every child inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A soak test has its own, long timeout; the one that ends a run that holds the interpreter is short."""
    if item.get_closest_marker("soak") is not None:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    """Each test starts with no user, no connection and the default configuration."""
    settings = wsmanager.get_config()
    wsmanager.reset_manager_registry()
    yield
    wsmanager.configure(**settings)
    wsmanager.reset_manager_registry()


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """A second event loop, running in a thread of its own."""
    with LoopThread() as thread:
        yield thread


@pytest.fixture(params=loop_factories(), ids=lambda factory: factory.__module__.split(".")[0])
def any_loop_thread(request: pytest.FixtureRequest) -> Iterator[LoopThread]:
    """The same, once with asyncio's loop and once with uvloop's."""
    with LoopThread(request.param) as thread:
        yield thread


@pytest.fixture(params=loop_factories(), ids=lambda factory: factory.__module__.split(".")[0])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Run a coroutine function on a fresh loop, once of asyncio and once of uvloop."""

    def go(main: Callable[[], Any]) -> Any:
        loop = request.param()
        try:
            return loop.run_until_complete(main())
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return go


@pytest.fixture
def run_isolated(tmp_path: Path) -> Callable[..., Outcome]:
    """Run a script in a process of its own and tell how it ended."""

    def run(script: str, *args: object, **options: object) -> Outcome:
        return run_child(script, *args, cwd=tmp_path, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def isolated(run_isolated: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """The same, and it must end well."""

    def run(script: str, *args: object, **options: object) -> Outcome:
        outcome = run_isolated(script, *args, **options)
        assert outcome.ok, outcome.explain()
        return outcome

    return run


@pytest.fixture(scope="session")
def faultio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes the core's system calls fail, and counts them."""
    library = compile_faultio(tmp_path_factory.mktemp("faultio"))
    if library is None:
        pytest.skip("the fault library is compiled from its source; no C compiler is here")
    return library


@pytest.fixture
def run_faulty(faultio: Path, run_isolated: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Run a script with the fault library loaded first; its path is the first argument."""

    def run(script: str, *args: object, **options: object) -> Outcome:
        return run_isolated(script, faultio, *args, env=preload(faultio), **options)

    return run


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Nursery:
    """Builds of the core with a known bug in."""
    if SANITIZED:
        pytest.skip("the controls compile a plain core, which a sanitizer's run cannot load")
    nursery = Nursery(tmp_path_factory.mktemp("plants"))
    if not nursery.available:
        pytest.skip("the controls compile the core from its sources; no C compiler is here")
    return nursery


@pytest.fixture
def fast_switches() -> Iterator[None]:
    """Threads take turns as often as the interpreter can, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def task_count() -> Callable[[], int]:
    """How many tasks the running loop has made since the fixture was first called."""
    made = 0

    def factory(loop: asyncio.AbstractEventLoop, coro: object, **options: object) -> object:
        nonlocal made
        made += 1
        return asyncio.Task(coro, loop=loop, **options)  # type: ignore[arg-type]

    def count() -> int:
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is not factory:
            loop.set_task_factory(factory)  # type: ignore[arg-type]
        return made

    return count
