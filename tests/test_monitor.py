"""The running program's awaits of a manager by mistake: recognised, noted, counted, and raised all the same."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import logging
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from audit_data.trees import FACTORY, grow
from fastapi import FastAPI, WebSocket
from support.servers import UvicornServer
from support.waiting import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import wsmanager
from wsmanager import configure, get_websocket_manager, monitor
from wsmanager.audit import Settings, audit
from wsmanager.monitor import (
    MisAwaitFilter,
    MisAwaitMiddleware,
    check,
    mis_await_totals,
    mis_awaits,
)

NOTE = "wsmanager: get_websocket_manager() is a plain function"


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    monitor.reset()
    yield
    monitor.reset()


def line_of(function: Callable[..., Any], text: str) -> int:
    """The line of *text* in the source of *function*."""
    lines, first = inspect.getsourcelines(function)
    return first + next(n for n, line in enumerate(lines) if text in line)


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def error_of(call: Callable[[], Any]) -> BaseException:
    """What *call* raises; a coroutine is run."""
    try:
        result = call()
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is tested
        return error
    raise AssertionError("nothing was raised")


# -- what is recognised ------------------------------------------------------------


async def awaited() -> None:
    await get_websocket_manager("ann")  # type: ignore[misc]


async def as_task() -> None:
    asyncio.create_task(get_websocket_manager("ann"))  # type: ignore[arg-type]


async def gathered() -> None:
    await asyncio.gather(get_websocket_manager("ann"))  # type: ignore[arg-type]


async def with_a_timeout() -> None:
    await asyncio.wait_for(get_websocket_manager("ann"), 1)  # type: ignore[arg-type]


async def shielded() -> None:
    await asyncio.shield(get_websocket_manager("ann"))  # type: ignore[arg-type]


async def ensured() -> None:
    asyncio.ensure_future(get_websocket_manager("ann"))  # type: ignore[arg-type]


async def threadsafe() -> None:
    loop = asyncio.get_running_loop()
    asyncio.run_coroutine_threadsafe(get_websocket_manager("ann"), loop)  # type: ignore[arg-type]


def run() -> None:
    asyncio.run(get_websocket_manager("ann"))  # type: ignore[arg-type]


def run_until_complete() -> None:
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(get_websocket_manager("ann"))  # type: ignore[arg-type]
    finally:
        loop.close()


WAYS = [
    awaited, as_task, gathered, with_a_timeout, shielded, ensured, threadsafe, run, run_until_complete,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_await_a_manager(way: Callable[[], Any]) -> None:
    error = error_of(way)
    before = (type(error), error.args, error.__traceback__)
    assert check(error) is True
    assert (type(error), error.args, error.__traceback__) == before
    assert [note.startswith(NOTE) for note in notes(error)] == [True]
    (record,) = mis_awaits()
    assert record[:5] == (
        __file__, line_of(way, 'get_websocket_manager("ann")'), way.__name__,
        "UnifiedWebSocketManager", 1,
    )  # fmt: skip
    assert record.first == record.last


async def server_message() -> None:
    await wsmanager.create_server_message("notice", {})  # type: ignore[misc]


async def error_message() -> None:
    await wsmanager.create_error_message("CODE", "text")  # type: ignore[misc]


async def status() -> None:
    await wsmanager.get_manager_registry_status()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("way", "what", "remedy"),
    [
        (server_message, "ServerMessage", r"create_server_message\(\) is a plain function"),
        (error_message, "ErrorMessage", r"create_error_message\(\) is a plain function"),
        (status, "dict", "wsmanager.compat"),
    ],
)
def test_our_other_plain_functions(way: Callable[[], Any], what: str, remedy: str) -> None:
    error = error_of(way)
    assert check(error)
    (record,) = mis_awaits()
    assert (record.line, record.what) == (line_of(way, "await"), what)
    with pytest.raises(AssertionError, match=remedy):
        raise AssertionError(notes(error)[0])


TYPE_NAMES = {
    "UnifiedWebSocketManager": True,
    "_UnifiedWebSocketManagerImplementation": True,
    "app.sockets.WebSocketManager": True,
    "wsmanager._wsmanager.UnifiedWebSocketManager": True,
    "IsolatedWebSocketManager": True,
    "int": False,
    "dict": False,
    "WebSocketManagerFactory": False,
    "DatabaseManager": False,
}


@pytest.mark.parametrize("name", TYPE_NAMES)
@pytest.mark.parametrize(
    "wording",
    ["object {} can't be used in 'await' expression", "'{}' object can't be awaited"],
    ids=["to 3.13", "from 3.14"],
)
def test_both_wordings_of_the_interpreter_and_legacy_classes(wording: str, name: str) -> None:
    """Also of the classes that the code base still has itself, as in the logs of the outage."""
    error = TypeError(wording.format(name))
    assert check(error) is TYPE_NAMES[name]
    assert bool(notes(error)) is TYPE_NAMES[name]
    assert [(r.file, r.line, r.what) for r in mis_awaits()] == (
        [("", 0, name.rpartition(".")[2])] if TYPE_NAMES[name] else []
    )


def test_this_interpreters_own_wording_is_known() -> None:
    """Control of the table above: whatever this Python says is one of its wordings."""

    class WebSocketManager:
        pass

    async def wrong() -> None:
        await WebSocketManager()  # type: ignore[misc]

    assert check(error_of(wrong))
    assert mis_awaits()[0].what == "WebSocketManager"


class Hostile(TypeError):
    """A type error that must not be asked anything."""

    def __str__(self) -> str:
        raise RuntimeError("asked")

    __repr__ = __str__


class Pretender:
    """Says it is a manager; asking it is not our business."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("asked")


async def await_five() -> None:
    await 5  # type: ignore[misc]


async def await_a_foreign_dict() -> None:
    await {}  # type: ignore[misc]


async def five_as_task() -> None:
    asyncio.create_task(5)  # type: ignore[arg-type]


async def pretender_as_task() -> None:
    asyncio.ensure_future(Pretender())  # type: ignore[arg-type]


OTHERS: dict[str, Callable[[], BaseException]] = {
    "await 5": lambda: error_of(await_five),
    "await {}": lambda: error_of(await_a_foreign_dict),
    "create_task(5)": lambda: error_of(five_as_task),
    "a pretender": lambda: error_of(pretender_as_task),
    "another error": lambda: KeyError("UnifiedWebSocketManager"),
    "the text in another error": lambda: RuntimeError(
        "object WebSocketManager can't be used in 'await' expression"
    ),
    "the text inside a text": lambda: TypeError(
        "failed: object WebSocketManager can't be used in 'await' expression"
    ),
    "a subclass": lambda: Hostile("object WebSocketManager can't be used in 'await' expression"),
    "no arguments": lambda: TypeError(),
    "an argument that is no text": lambda: TypeError(5),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_errors_are_left_alone(case: str) -> None:
    error = OTHERS[case]()
    assert check(error) is False
    assert notes(error) == []
    assert mis_awaits() == []
    assert mis_await_totals()["raised"] == 0


def test_nothing_is_not_an_error() -> None:
    assert check(None) is False


# -- what an error came from, and groups ----------------------------------------------


def test_a_cause_a_context_and_a_group_are_looked_at() -> None:
    async def wrapped() -> None:
        try:
            await awaited()
        except TypeError as error:
            raise RuntimeError("agent handler setup failed") from error

    async def during() -> None:
        try:
            await awaited()
        except TypeError:
            raise KeyError("handler") from None

    for number, way in enumerate((wrapped, during), 1):
        error = error_of(way)
        assert check(error)
        assert notes(error) == []
        assert notes(error.__context__ or error)[0].startswith(NOTE)
        assert mis_awaits()[0].times == number


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_members_of_a_group() -> None:
    class OwnGroup(ExceptionGroup[Exception]):  # noqa: F821
        pass

    inner = error_of(awaited)
    assert isinstance(inner, TypeError)
    group = OwnGroup("several", [ValueError("other"), ExceptionGroup("more", [inner])])  # noqa: F821
    assert check(group)
    assert notes(group) == []
    assert len(notes(inner)) == 1


def test_the_backports_groups_of_python_310() -> None:
    class BaseExceptionGroup(Exception):
        def __init__(self, members: list[BaseException]) -> None:
            self._exceptions = tuple(members)

    inner = error_of(awaited)
    assert check(BaseExceptionGroup([KeyError(), inner]))
    assert len(notes(inner)) == 1


def test_circles_and_endless_chains_end() -> None:
    one, two = KeyError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    assert check(one) is False
    error: BaseException = TypeError("'WebSocketManager' object can't be awaited")
    for number in range(10_000):
        outer = KeyError(number)
        outer.__cause__ = error
        error = outer
    assert check(error) is False  # looked at as far as anybody reads a traceback


def test_one_error_counts_once_however_often_it_passes_by() -> None:
    error = error_of(awaited)
    for _ in range(5):
        assert check(error) is True
    assert len(notes(error)) == 1
    assert mis_awaits()[0].times == 1


def test_notes_that_were_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_of(awaited)
    error.__notes__ = ["mine"]  # type: ignore[attr-defined,unused-ignore]
    assert check(error)
    assert notes(error)[0] == "mine"
    assert notes(error)[1].startswith(NOTE)


# -- the table ---------------------------------------------------------------------------


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "MAX_SITES", 3)
    for number in range(10):
        check(TypeError(f"object A{number}WebSocketManager can't be used in 'await' expression"))
    records = mis_awaits()
    assert len(records) == 4
    assert (records[0].file, records[0].what, records[0].times) == ("", "", 7)
    totals = mis_await_totals()
    assert (totals["raised"], totals["unlisted"], totals["sites"]) == (10, 7, 4)


def test_counts_of_many_threads_add_up(fast_switches: None) -> None:
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(10)
        for _ in range(200):
            check(error_of(awaited))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (record,) = mis_awaits()
    assert record.times == mis_await_totals()["raised"] == 1_600


def test_tolerated_awaits_are_in_the_totals() -> None:
    before = mis_await_totals()["tolerated"]
    configure(tolerate_await=True)
    with pytest.warns(DeprecationWarning, match="get_websocket_manager"):
        asyncio.run(awaited())
    assert mis_await_totals()["tolerated"] == before + 1
    assert mis_awaits() == []


def test_a_new_place_is_logged_once_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "wsmanager.monitor")
    for _ in range(3):
        check(error_of(awaited))
    (record,) = caplog.records
    assert record.name == "wsmanager.monitor"
    assert f"{Path(__file__).name}:{line_of(awaited, 'await ')}" in record.getMessage()
    assert "\n" not in record.getMessage()


# -- where errors pass by -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan"])
async def test_the_middleware_raises_the_same_error(kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))
        await awaited()

    arguments = ({"type": kind}, object(), object())
    with pytest.raises(TypeError) as caught:
        await MisAwaitMiddleware(app)(*arguments)  # type: ignore[arg-type]
    assert seen == [arguments]
    assert notes(caught.value)[0].startswith(NOTE)
    assert mis_awaits()[0].line == line_of(awaited, "await ")


async def test_the_middleware_leaves_cancellation_and_success_alone() -> None:
    async def fine(scope: Any, receive: Any, send: Any) -> None:
        scope["ran"] = True

    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    scope: dict[str, Any] = {"type": "http"}
    await MisAwaitMiddleware(fine)(scope, object(), object())  # type: ignore[arg-type]
    assert scope["ran"]
    with pytest.raises(asyncio.CancelledError):
        await MisAwaitMiddleware(cancelled)(scope, object(), object())  # type: ignore[arg-type]
    assert mis_awaits() == []


def chat() -> FastAPI:
    app = FastAPI()
    app.add_middleware(MisAwaitMiddleware)

    @app.get("/wrong")
    async def wrong() -> None:
        await get_websocket_manager("ann")  # type: ignore[misc]

    @app.get("/right")
    async def right() -> str:
        return repr(get_websocket_manager("ann").user_id)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await get_websocket_manager("ann")  # type: ignore[misc]

    return app


async def test_in_a_real_server(caplog: pytest.LogCaptureFixture) -> None:
    with UvicornServer(chat(), log_config=None, log_level="error") as server:
        for path, status in (("/right", 200), ("/wrong", 500), ("/wrong", 500)):
            # uvicorn closes a connection whose app failed: none is used twice
            async with httpx.AsyncClient() as client:
                assert (await client.get(server.http + path)).status_code == status
        async with connect(server.url) as socket:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        await eventually(lambda: len(mis_awaits()) == 2)
    lines = {record.line: record.times for record in mis_awaits()}
    assert lines == {
        line_of(chat, 'await get_websocket_manager("ann")'): 2,
        line_of(chat, "await websocket.accept()") + 1: 1,
    }
    if sys.version_info >= (3, 11):  # before, tracebacks do not show notes
        assert NOTE in caplog.text


async def test_errors_of_tasks_reach_the_hook() -> None:
    loop = asyncio.get_running_loop()
    handled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: handled.append(context))
    before = loop.get_exception_handler()
    uninstall = monitor.install()
    assert monitor.install() is not None  # again: nothing changes
    task = loop.create_task(awaited())
    await asyncio.wait([task])
    del task  # never retrieved
    await eventually(lambda: handled)
    (context,) = handled
    assert notes(context["exception"])[0].startswith(NOTE)
    assert mis_awaits()[0].times == 1
    uninstall()
    assert loop.get_exception_handler() is before
    uninstall()
    assert loop.get_exception_handler() is before
    loop.set_exception_handler(None)


async def test_the_hook_without_a_handler_before(caplog: pytest.LogCaptureFixture) -> None:
    uninstall = monitor.install()
    loop = asyncio.get_running_loop()
    loop.call_exception_handler({"message": "no error in here"})
    loop.call_exception_handler({"message": "one", "exception": error_of_task()})
    uninstall()
    assert [r.levelname for r in caplog.records if r.name == "asyncio"] == ["ERROR", "ERROR"]
    assert mis_awaits()[0].times == 1
    assert loop.get_exception_handler() is None


def error_of_task() -> BaseException:
    coroutine = awaited()
    try:
        coroutine.send(None)
    except TypeError as error:
        return error
    raise AssertionError


async def test_a_handler_set_later_may_chain_to_a_hook_that_was_taken_out() -> None:
    loop = asyncio.get_running_loop()
    uninstall = monitor.install()
    hook = loop.get_exception_handler()
    assert hook is not None
    handled: list[Any] = []
    loop.set_exception_handler(lambda loop, context: handled.append(hook(loop, context)))
    uninstall()
    loop.call_exception_handler({"message": "one", "exception": error_of_task()})
    assert len(handled) == 1
    assert mis_awaits() == []
    loop.set_exception_handler(None)


def test_install_wants_a_loop() -> None:
    with pytest.raises(RuntimeError):
        monitor.install()
    loop = asyncio.new_event_loop()
    monitor.install(loop)()
    assert loop.get_exception_handler() is None
    loop.close()


def test_errors_that_are_caught_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The silent failure of the outage: ``except Exception: logger.error(...)``."""
    logger = logging.getLogger("app.of.the.test")
    mine = MisAwaitFilter()
    logger.addFilter(mine)
    try:
        try:
            asyncio.run(awaited())
        except TypeError:
            logger.exception("manager creation failed")
        logger.error("no error")
        logger.error("false", exc_info=False)
    finally:
        logger.removeFilter(mine)
    assert [r.getMessage() for r in caplog.records if r.name == logger.name] == [
        "manager creation failed", "no error", "false",
    ]  # fmt: skip
    assert mis_awaits()[0].line == line_of(awaited, "await ")


# -- what no reading of the code finds ------------------------------------------------------

DYNAMIC = {
    "a dict of factories": """
        FACTORIES = {"manager": get_websocket_manager}
        async def handler(kind="manager"):
            return await FACTORIES[kind]("ann")  # HERE
        """,
    "a parameter": """
        async def handler(factory=None):
            factory = factory or default()
            return await factory("ann")  # HERE
        def default(table=[get_websocket_manager]):
            return table[len(table) - 1]
        """,
    "a computed getattr": """
        import wsmanager
        async def handler(prefix="get"):
            return await getattr(wsmanager, prefix + "_websocket_manager")("ann")  # HERE
        """,
    "an import by a computed name": """
        import importlib
        async def handler(package="ws"):
            module = importlib.import_module(package + "manager")
            make = vars(module)["_".join(("get", "websocket", "manager"))]
            return await make("ann")  # HERE
        """,
    "a name put in place at run time": """
        async def handler():
            return await create("ann")  # HERE
        globals().update({"create": get_websocket_manager})
        """,
    "a dependency that is injected": """
        class Container:
            def __init__(self, **providers):
                self.__dict__.update(providers)
        async def handler():
            container = Container(manager=get_websocket_manager)
            return await container.manager("ann")  # HERE
        """,
}


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("pattern", DYNAMIC)
def test_dynamic_patterns_escape_the_audit_and_not_the_monitor(
    tmp_path: Path, pattern: str
) -> None:
    source = "from wsmanager import get_websocket_manager\n" + textwrap.dedent(DYNAMIC[pattern])
    path = tmp_path / "handlers.py"
    path.write_text(source)
    report = audit([tmp_path], Settings(select=frozenset({"WSM001"})))
    assert report.findings == [], "the audit follows this one now: it belongs to its own tests"
    error = error_of(load(path).handler)
    assert isinstance(error, TypeError)
    assert check(error)
    (record,) = mis_awaits()
    line = 1 + next(n for n, text in enumerate(source.split("\n")) if "# HERE" in text)
    assert (record.file, record.line, record.function) == (str(path), line, "handler")


def test_the_control_is_found_by_both(tmp_path: Path) -> None:
    grow(
        tmp_path,
        FACTORY + "=== use.py\nfrom wsmanager import get_websocket_manager\n"
        "async def handler():\n    await get_websocket_manager('ann')\n",
    )
    (finding,) = audit([tmp_path], Settings(select=frozenset({"WSM001"}))).findings
    assert check(error_of(load(tmp_path / "use.py").handler))
    assert finding.line == mis_awaits()[0].line == 3
