"""``wsmanager.compat``: the names of before, what they are, and who is told that they are old."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib
import inspect
import json
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from support.agent import run_agent
from support.servers import UvicornServer
from support.sockets import StarletteSocket
from support.waiting import eventually
from websockets.asyncio.client import connect

import wsmanager
from wsmanager import compat, configure, get_websocket_manager
from wsmanager.audit.names import REPLACEMENTS
from wsmanager.compat import ConnectionManager, UserExecutionContext, _deprecated
from wsmanager.compat._deprecated import ALIASES

# -- the names ---------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nobody_was_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deprecated, "_warned", set())


OWN = {
    "ConnectionManager", "UserExecutionContext", "check_websocket_service_available",
    "create_websocket_manager", "get_manager_registry_status",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(compat.__all__) - OWN))
def test_real_names_are_the_real_things_and_do_not_warn(name: str) -> None:
    assert getattr(compat, name) is getattr(wsmanager, name)


@pytest.mark.parametrize("name", sorted(OWN))
def test_own_names_do_not_warn_and_are_documented(name: str) -> None:
    assert len(getattr(compat, name).__doc__) > 40


@pytest.mark.parametrize("name", REPLACEMENTS)
def test_the_audit_sends_nobody_to_a_name_that_is_not_there(name: str) -> None:
    assert hasattr(importlib.import_module(REPLACEMENTS[name]), name)


@pytest.mark.parametrize("name", ALIASES)
def test_aliases_are_what_they_say(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=name):
        found = getattr(compat, name)
    if name == "MAX_CONNECTIONS_PER_USER":
        assert found == wsmanager.get_config()["max_connections_per_user"]
    else:
        assert found is getattr(wsmanager, ALIASES[name])
    assert name in dir(compat)


def test_aliases_are_declared_for_type_checkers() -> None:
    tree = ast.parse(Path(compat.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = set()
    for node in block.body:
        if isinstance(node, ast.Assign):
            declared |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
    assert declared == set(ALIASES)


def test_unknown_names_and_those_that_would_make_somebody_up() -> None:
    for name in ("nonsense", "create_test_user_context", "create_test_fallback_manager"):
        with pytest.raises(AttributeError, match=name):
            getattr(compat, name)
        with pytest.raises(ImportError, match=name):
            exec(f"from wsmanager.compat import {name}", {})


# -- one warning a place ---------------------------------------------------------------


@pytest.mark.parametrize("action", ["always", "default", "once", "module"])
def test_one_warning_a_name_and_place(action: str) -> None:
    source = (
        "import wsmanager.compat as c\n"
        "def use():\n"
        "    from wsmanager.compat import IsolatedWebSocketManager, get_manager\n"
        "    return c.get_manager\n"
        "for _ in range(3):\n"
        "    use()\n"
        "from wsmanager.compat import get_manager\n"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)  # type: ignore[arg-type]
        exec(compile(source, "legacy.py", "exec"), {"__name__": "legacy"})
    got = sorted((w.lineno, str(w.message).split(" ")[0]) for w in caught)
    every = [(3, "IsolatedWebSocketManager"), (3, "get_manager"), (4, "get_manager")]
    every.append((7, "get_manager"))
    if action in ("always", "default"):
        assert got == every
    else:  # the user's filter shows fewer of them, never more
        assert set(got) <= set(every)
        assert len(got) == len(set(got)) == 2
    assert {w.filename for w in caught} == {"legacy.py"}
    assert {w.category for w in caught} == {DeprecationWarning}


def test_an_error_filter_makes_each_use_an_error() -> None:
    for _ in range(2):
        with pytest.raises(DeprecationWarning, match="get_manager"):
            _ = compat.get_manager


def test_warnings_of_many_threads(fast_switches: None) -> None:
    """Each place once; two threads that come to it at one moment may both be told."""
    start = threading.Barrier(4)
    found: list[object] = []

    def use() -> None:
        start.wait(10)
        for _ in range(500):
            found.append(compat.create_manager)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [get_websocket_manager] * 2_000
    assert 1 <= len(caught) <= 4


def test_the_places_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deprecated, "MAX_PLACES", 5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(12):
            exec(compile("c.get_manager", f"legacy{number}.py", "eval"), {"c": compat})
    assert len(caught) == 12
    assert len(_deprecated._warned) <= 5


# -- the functions ---------------------------------------------------------------------


def test_awaited_functions_are_coroutine_functions() -> None:
    for function in (
        compat.create_websocket_manager,
        compat.get_manager_registry_status,
        compat.check_websocket_service_available,
    ):
        assert asyncio.iscoroutinefunction(function)
        assert inspect.iscoroutinefunction(function)


async def test_create_websocket_manager() -> None:
    context = UserExecutionContext("ann", "t", "r")
    manager = await compat.create_websocket_manager(context)
    assert manager is get_websocket_manager("ann")
    assert await compat.create_websocket_manager(user_context=context) is manager
    assert await asyncio.create_task(compat.create_websocket_manager(context)) is manager
    with pytest.raises(wsmanager.InvalidUserContext):
        await compat.create_websocket_manager({"user_id": ""})
    with pytest.raises(TypeError):
        compat.create_websocket_manager(context, unknown=True)  # type: ignore[call-arg]


async def test_create_websocket_manager_asks_for_the_service() -> None:
    async def no() -> bool:
        return False

    assert await compat.check_websocket_service_available() is True
    configure(availability_check=no)
    assert await compat.check_websocket_service_available() is False
    assert (await compat.create_websocket_manager("ann")).service_available is False


def test_status_given_to_run() -> None:
    get_websocket_manager("ann")
    status = asyncio.run(compat.get_manager_registry_status())
    assert status == wsmanager.get_manager_registry_status()
    assert status["total_registered_managers"] == 1


def test_bridge_factories() -> None:
    context = UserExecutionContext("ann", "chat", "r")
    with pytest.warns(DeprecationWarning):
        make = compat.create_agent_websocket_bridge
    for bridge in (make(context), make(user_context=context)):
        assert bridge.user_id == "ann"
        assert bridge.manager is get_websocket_manager("ann")


# -- the context -----------------------------------------------------------------------


async def test_a_context_is_a_context_to_everything() -> None:
    context = UserExecutionContext.from_request("ann", "chat", "run-1")
    manager = get_websocket_manager(context)
    assert manager.user_context is context
    assert manager is get_websocket_manager("ann")
    socket = StarletteSocket()
    manager.add_connection(socket)
    run_agent("ann")
    assert socket.types
    assert dataclasses.is_dataclass(context)
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.user_id = "bob"  # type: ignore[misc]


def test_contexts_fields() -> None:
    one = UserExecutionContext("ann", "t", "r")
    two = UserExecutionContext.from_request("ann", "t", "r", "q", "w", {"a": 1}, {"b": 2})
    assert one.request_id != UserExecutionContext("ann", "t", "r").request_id
    assert (two.request_id, two.websocket_client_id) == ("q", "w")
    assert json.loads(json.dumps(two.to_dict()))["agent_context"] == {"a": 1}
    assert one.created_at.utcoffset() is not None


@pytest.mark.parametrize("bad", ["", "  ", None, 5, b"ann"])
@pytest.mark.parametrize("place", ["user_id", "thread_id", "run_id"])
def test_contexts_without_an_identity_are_refused(place: str, bad: Any) -> None:
    values = {"user_id": "ann", "thread_id": "t", "run_id": "r", place: bad}
    with pytest.raises(wsmanager.InvalidUserContext, match=place):
        UserExecutionContext(**values)


# -- the class of FastAPI's tutorial -----------------------------------------------------


class Socket(StarletteSocket):
    accepted = False

    async def accept(self) -> None:
        self.accepted = True


class GoneSocket(Socket):
    async def send_text(self, data: str) -> None:
        raise WebSocketDisconnect(1006)


class FrozenSocket(Socket):
    async def send_text(self, data: str) -> None:
        await asyncio.Event().wait()


async def connected(*sockets: Socket) -> ConnectionManager:
    manager = ConnectionManager()
    for socket in sockets:
        await manager.connect(socket)
        assert socket.accepted
    return manager


@pytest.mark.parametrize("envelope", ["payload", "mixed", "data", "flat", dict])
async def test_texts_go_out_as_they_are(envelope: Any) -> None:
    configure(envelope=envelope)
    one, two = Socket(), Socket()
    manager = await connected(one, two)
    for text in ("hello", '{"type": "x"}', "", "é😀\n"):
        assert await manager.send_personal_message(text, one) is True
    assert await manager.broadcast("to all") == 2
    assert one.texts == ["hello", '{"type": "x"}', "", "é😀\n", "to all"]
    assert two.texts == ["to all"]


async def test_the_list_and_who_is_in_it() -> None:
    sockets = [Socket() for _ in range(12)]
    manager = await connected(*sockets)
    assert manager.active_connections == sockets
    manager.disconnect(sockets[3])
    manager.disconnect(sockets[3])
    manager.disconnect(Socket())
    assert manager.active_connections == sockets[:3] + sockets[4:]
    assert await manager.broadcast("x") == 11
    assert sockets[3].texts == []
    with pytest.raises(wsmanager.ConnectionNotFound, match="connect"):
        await manager.send_personal_message("x", sockets[3])


async def test_two_instances_and_users_do_not_meet() -> None:
    one, two, ann = Socket(), Socket(), StarletteSocket()
    first, second = await connected(one), await connected(two)
    get_websocket_manager("ann").add_connection(ann)
    get_websocket_manager(None).add_connection(StarletteSocket())
    await first.broadcast("first")
    get_websocket_manager("ann").broadcast({"type": "notice"})
    get_websocket_manager(None).broadcast({"type": "notice"})
    assert (one.texts, two.texts) == (["first"], [])
    assert second.active_connections == [two]
    wsmanager.broadcast({"type": "maintenance"})
    assert json.loads(one.texts[-1])["type"] == "maintenance"


async def test_gone_and_frozen_peers_cost_nobody_a_text() -> None:
    """The control: the class of the tutorial raises at the first, and waits for ever at the second."""
    good = Socket()
    manager = await connected(GoneSocket(), FrozenSocket(), good)
    for number in range(3):
        await asyncio.wait_for(manager.broadcast(f"{number}"), 5)
    assert good.texts == ["0", "1", "2"]
    await eventually(lambda: len(manager.active_connections) == 2)


async def test_a_peer_that_is_gone_is_no_error() -> None:
    gone = GoneSocket()
    manager = await connected(gone)
    await manager.broadcast("x")
    await eventually(lambda: manager.active_connections == [])
    assert await manager.send_personal_message("x", gone) is False
    manager.disconnect(gone)


async def test_from_threads_and_what_is_no_text() -> None:
    one = Socket()
    manager = await connected(one)
    await asyncio.to_thread(manager.post, "from a thread")
    await eventually(lambda: one.texts == ["from a thread"])
    for wrong in (b"bytes", {"type": "x"}, None):
        with pytest.raises(TypeError, match="text"):
            await manager.broadcast(wrong)  # type: ignore[arg-type]


async def test_the_limit_is_named() -> None:
    configure(max_connections_per_user=1)
    manager = await connected(Socket())
    with pytest.raises(wsmanager.ConnectionLimitError):
        await manager.connect(Socket())


def tutorial() -> FastAPI:
    """The application of the tutorial, with nothing but the import changed."""
    app = FastAPI()
    manager = ConnectionManager()

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: int) -> None:
        await manager.connect(websocket)
        try:
            while True:
                data = await websocket.receive_text()
                await manager.send_personal_message(f"You wrote: {data}", websocket)
                await manager.broadcast(f"Client #{client_id} says: {data}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast(f"Client #{client_id} left the chat")

    return app


@pytest.mark.parametrize("ws", ["auto", "wsmanager.uvicorn:WebSocketProtocol"])
async def test_the_tutorials_application(ws: str) -> None:
    with UvicornServer(tutorial(), ws=ws) as server:
        async with connect(f"{server.url}/1") as one:
            async with connect(f"{server.url}/2") as two:
                await two.send("hi")
                assert await two.recv() == "You wrote: hi"
                assert await two.recv() == await one.recv() == "Client #2 says: hi"
            assert await one.recv() == "Client #2 left the chat"
