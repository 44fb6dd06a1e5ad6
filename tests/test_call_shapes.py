"""Every form of call that occurs in the backend behind the outage, by the name of its method."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import pydoc
from collections.abc import Callable
from typing import Any
from unittest.mock import create_autospec

import msgspec
import pytest
from starlette.responses import JSONResponse
from support.contexts import UserExecutionContext
from support.sockets import StarletteSocket

import wsmanager
from wsmanager import (
    UnifiedWebSocketManager,
    UserIsolationError,
    WebSocketConnection,
    WebSocketManagerMode,
    get_manager_registry_status,
    get_websocket_manager,
    get_websocket_manager_async,
)
from wsmanager import _wsmanager as core

Call = Callable[[UnifiedWebSocketManager], Any]


class Wire:
    """Ann with two connections, in two chats; Bob, who must never see anything."""

    def __init__(self) -> None:
        self.manager = get_websocket_manager({"user_id": "ann", "thread_id": "chat"})
        self.chat, self.other, self.bob = (StarletteSocket() for _ in range(3))
        self.chat_id = self.manager.add_connection(self.chat, "c-chat", thread_id="chat")
        self.other_id = self.manager.add_connection(self.other, "c-other", thread_id="other")
        get_websocket_manager("bob").add_connection(self.bob, thread_id="chat")

    def check(self, delivery: Any, *, chat: int, other: int) -> None:
        assert (len(self.chat.texts), len(self.other.texts)) == (chat, other)
        assert self.bob.texts == [], "another user was reached"
        assert bool(delivery) is bool(chat or other)


@pytest.fixture
async def wire() -> Wire:
    return Wire()


MESSAGE = {"type": "notice", "data": {"n": 1}}

BOTH: dict[str, Call] = {
    "emit_event(type, data)": lambda m: m.emit_event("notice", {"n": 1}),
    "emit_event(event_type=, data=)": lambda m: m.emit_event(event_type="notice", data={"n": 1}),
    "emit_event(event_type=, event_data=)": lambda m: m.emit_event(
        event_type="notice", event_data={"n": 1}
    ),
    "emit_event(type, data=)": lambda m: m.emit_event("notice", data={"n": 1}),
    "emit_event(type, event_data=)": lambda m: m.emit_event("notice", event_data={"n": 1}),
    "emit_event(type, data, user_id=own)": lambda m: m.emit_event(
        "notice", {"n": 1}, user_id="ann"
    ),
    "send_event(type, data)": lambda m: m.send_event("notice", {"n": 1}),
    "emit_critical_event(type, data)": lambda m: m.emit_critical_event("notice", {"n": 1}),
    "emit_critical_event(user, type, data)": lambda m: m.emit_critical_event(
        "ann", "notice", {"n": 1}
    ),
    "emit_critical_event(user_id=, event_type=, event_data=)": lambda m: m.emit_critical_event(
        user_id="ann", event_type="notice", event_data={"n": 1}
    ),
    "emit_critical_event(event_type=, data=)": lambda m: m.emit_critical_event(
        event_type="notice", data={"n": 1}
    ),
    "emit_critical_event(user_id=, event_type=, data=)": lambda m: m.emit_critical_event(
        user_id="ann", event_type="notice", data={"n": 1}
    ),
    "emit_critical_event(user, type, data=)": lambda m: m.emit_critical_event(
        "ann", "notice", data={"n": 1}
    ),
    "emit_critical_event(user, type, event_data=)": lambda m: m.emit_critical_event(
        "ann", "notice", event_data={"n": 1}
    ),
    "emit_critical_event(user, event_type=, data=)": lambda m: m.emit_critical_event(
        "ann", event_type="notice", data={"n": 1}
    ),
    "emit_critical_event(type, data=)": lambda m: m.emit_critical_event("notice", data={"n": 1}),
    "emit_critical_event(type, event_data=, user_id=)": lambda m: m.emit_critical_event(
        "notice", event_data={"n": 1}, user_id="ann"
    ),
    "send_to_user(message)": lambda m: m.send_to_user(MESSAGE),
    "send_to_user(user, message)": lambda m: m.send_to_user("ann", MESSAGE),
    "send_to_user(message=)": lambda m: m.send_to_user(message=MESSAGE),
    "send_to_user(user_id=, message=)": lambda m: m.send_to_user(user_id="ann", message=MESSAGE),
    "send_message(own user, message)": lambda m: m.send_message("ann", MESSAGE),
    "broadcast(message)": lambda m: m.broadcast(MESSAGE),
    "broadcast_system_message(message)": lambda m: m.broadcast_system_message(MESSAGE),
}


@pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "not awaited"])
@pytest.mark.parametrize("name", BOTH)
async def test_calls_to_all_of_the_users_connections(wire: Wire, name: str, awaited: bool) -> None:
    delivery = BOTH[name](wire.manager)
    wire.check(await delivery if awaited else delivery, chat=1, other=1)
    for socket in (wire.chat, wire.other):
        (event,) = socket.events
        assert event["type"] == "notice"
        assert event["payload"] == {"n": 1}
        assert event["user_id"] == "ann"


CHAT: dict[str, Call] = {
    "send_to_thread(thread, message)": lambda m: m.send_to_thread("chat", MESSAGE),
    "send_to_thread(thread_id=, message=)": lambda m: m.send_to_thread(
        thread_id="chat", message=MESSAGE
    ),
    "send_to_thread(thread_id=, message_data=)": lambda m: m.send_to_thread(
        thread_id="chat", message_data=MESSAGE
    ),
    "send_to_thread(thread, message_data=)": lambda m: m.send_to_thread(
        "chat", message_data=MESSAGE
    ),
    "broadcast_to_thread(thread, message)": lambda m: m.broadcast_to_thread("chat", MESSAGE),
    "send_message(connection, message)": lambda m: m.send_message("c-chat", MESSAGE),
    "send_message(connection_id=, message=)": lambda m: m.send_message(
        connection_id="c-chat", message=MESSAGE
    ),
    "emit_event(connection, type, data)": lambda m: m.emit_event("c-chat", "notice", {"n": 1}),
    "send_event(connection, type, data)": lambda m: m.send_event("c-chat", "notice", {"n": 1}),
    "emit_event(type, data, connection_id=)": lambda m: m.emit_event(
        "notice", {"n": 1}, connection_id="c-chat"
    ),
}


@pytest.mark.parametrize("name", CHAT)
async def test_calls_to_one_chat_or_connection(wire: Wire, name: str) -> None:
    wire.check(await CHAT[name](wire.manager), chat=1, other=0)
    (event,) = wire.chat.events
    assert event["type"] == "notice"
    assert event["payload"] == {"n": 1}


ERRORS: dict[str, Call] = {
    "send_error(text)": lambda m: m.send_error("it broke"),
    "send_error(user, text)": lambda m: m.send_error("ann", "it broke"),
    "send_error_to_user(user, text)": lambda m: m.send_error_to_user("ann", "it broke"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_to_the_user(wire: Wire, name: str) -> None:
    wire.check(await ERRORS[name](wire.manager), chat=1, other=1)
    (event,) = wire.chat.events
    assert event["type"] == "error_message"
    assert "it broke" in wire.chat.texts[0]


FOREIGN: dict[str, Call] = {
    "send_to_user(user, message)": lambda m: m.send_to_user("bob", MESSAGE),
    "send_to_user(user_id=, message=)": lambda m: m.send_to_user(user_id="bob", message=MESSAGE),
    "emit_critical_event(user, type, data)": lambda m: m.emit_critical_event("bob", "x", {}),
    "emit_critical_event(user_id=)": lambda m: m.emit_critical_event(
        user_id="bob", event_type="x", data={}
    ),
    "emit_critical_event(user, type, data=)": lambda m: m.emit_critical_event("bob", "x", data={}),
    "emit_critical_event(user, event_type=)": lambda m: m.emit_critical_event(
        "bob", event_type="x"
    ),
    "emit_event(type, data, user_id=)": lambda m: m.emit_event("x", {}, user_id="bob"),
    "send_error(user, text)": lambda m: m.send_error("bob", "text"),
    "send_error_to_user(user, text)": lambda m: m.send_error_to_user("bob", "text"),
    "connect_user(user, websocket)": lambda m: m.connect_user("bob", StarletteSocket()),
    "disconnect_user(user)": lambda m: m.disconnect_user("bob"),
    "remove_connection_by_user(user)": lambda m: m.remove_connection_by_user("bob"),
    "get_user_connections(user)": lambda m: m.get_user_connections("bob"),
    "is_connection_active(user)": lambda m: m.is_connection_active("bob"),
    "get_connection_health(user)": lambda m: m.get_connection_health("bob"),
    "add_connection(record of another)": lambda m: m.add_connection(
        WebSocketConnection(user_id="bob", websocket=StarletteSocket())
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_another_users_id_is_an_isolation_error(wire: Wire, name: str) -> None:
    with pytest.raises(UserIsolationError) as caught:
        result = FOREIGN[name](wire.manager)
        if inspect.isawaitable(result):
            await result
    assert isinstance(caught.value, PermissionError)
    assert len(str(caught.value)) > 20
    wire.check(False, chat=0, other=0)
    assert len(get_websocket_manager("bob")) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.send_message("b-1", MESSAGE),
        lambda m: m.emit_event("b-1", "notice", {}),
        lambda m: m.emit_event("notice", {}, connection_id="b-1"),
    ],
    ids=["send_message", "emit_event", "connection_id="],
)
async def test_another_users_connection_id_reaches_nobody(wire: Wire, call: Call) -> None:
    bob = StarletteSocket()
    get_websocket_manager("bob").add_connection(bob, connection_id="b-1")
    with pytest.raises(wsmanager.WebSocketManagerError):
        result = call(wire.manager)
        assert not await result
        raise wsmanager.ConnectionNotFound("an untrue receipt says the same")
    assert bob.texts == []
    wire.check(False, chat=0, other=0)


WRONG: dict[str, Call] = {
    "emit_event()": lambda m: m.emit_event(),
    "emit_event(four)": lambda m: m.emit_event("c-chat", "x", {}, 4),
    "emit_event(unknown=)": lambda m: m.emit_event("x", {}, colour="red"),
    "emit_event(data twice)": lambda m: m.emit_event("x", {"n": 1}, data={"n": 2}),
    "emit_event(data=, event_data=)": lambda m: m.emit_event("x", data={}, event_data={"n": 2}),
    "emit_critical_event()": lambda m: m.emit_critical_event(),
    "emit_critical_event(data=)": lambda m: m.emit_critical_event(data={}),
    "emit_critical_event(user twice)": lambda m: m.emit_critical_event(
        "ann", "x", data={}, user_id="ann"
    ),
    "emit_critical_event(three, data=)": lambda m: m.emit_critical_event("ann", "x", {}, data={}),
    "emit_critical_event(two, both data)": lambda m: m.emit_critical_event(
        "ann", "x", data={}, event_data={}
    ),
    "send_to_user()": lambda m: m.send_to_user(),
    "send_to_user(user)": lambda m: m.send_to_user("ann"),
    "send_to_user(three)": lambda m: m.send_to_user("ann", MESSAGE, 3),
    "send_to_thread()": lambda m: m.send_to_thread(),
    "send_to_thread(thread)": lambda m: m.send_to_thread("chat"),
    "send_to_thread(int)": lambda m: m.send_to_thread(5, MESSAGE),
    "send_to_thread(message, message_data)": lambda m: m.send_to_thread(
        "chat", message=MESSAGE, message_data=MESSAGE
    ),
    "send_message(connection)": lambda m: m.send_message("c-chat"),
    "send_error()": lambda m: m.send_error(),
    "broadcast()": lambda m: m.broadcast(),
    "add_connection()": lambda m: m.add_connection(),
    "add_connection(unknown=)": lambda m: m.add_connection(StarletteSocket(), colour="red"),
    "remove_connection()": lambda m: m.remove_connection(),
    "connect_user(user)": lambda m: m.connect_user("ann"),
    "get_connection()": lambda m: m.get_connection(),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_calls_are_type_errors_that_name_the_function(wire: Wire, name: str) -> None:
    with pytest.raises(TypeError) as caught:
        WRONG[name](wire.manager)
    assert name.split("(")[0] in str(caught.value), str(caught.value)
    wire.check(False, chat=0, other=0)


async def test_a_connection_without_a_thread_is_in_none() -> None:
    """Not even in the thread of the context; a receipt says so, and is no JSON, as a bool is."""
    manager = get_websocket_manager(UserExecutionContext("ann", "chat", "r"))
    sockets = [StarletteSocket() for _ in range(4)]
    none = manager.connect_user("ann", sockets[0])
    manager.connect_user("ann", sockets[1], thread_id="chat")
    manager.add_connection(sockets[2], thread_id="chat")
    manager.add_connection(WebSocketConnection("c", "ann", sockets[3], thread_id="chat"))
    assert bool(await manager.send_to_thread("other", MESSAGE)) is False
    receipt = await manager.send_to_thread("chat", MESSAGE)
    assert [len(socket.texts) for socket in sockets] == [0, 1, 1, 1]
    assert json.dumps(bool(receipt)) == "true"
    with pytest.raises(TypeError):
        json.dumps(receipt)
    manager.update_connection_thread(none, "chat")
    await manager.send_to_thread("chat", MESSAGE)
    assert [len(socket.texts) for socket in sockets] == [1, 2, 2, 2]


# -- the factory ----------------------------------------------------------------


async def test_the_factorys_shapes() -> None:
    context = UserExecutionContext("ann", "t", "r")
    manager = get_websocket_manager(context)
    assert get_websocket_manager(user_context=context) is manager
    assert get_websocket_manager(context, WebSocketManagerMode.UNIFIED) is manager
    assert get_websocket_manager(user_context=context, mode="unified") is manager
    assert await get_websocket_manager_async(context, mode=None) is manager
    assert get_websocket_manager() is get_websocket_manager(None)


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f("ann", unknown=True),
        lambda f: f(user_id="ann"),
        lambda f: f("ann", None, None),
        lambda f: f("ann", user_context="ann"),
    ],
    ids=["unknown", "user_id", "three", "twice"],
)
async def test_unknown_arguments_of_the_factory(call: Callable[[Any], Any]) -> None:
    for factory in (get_websocket_manager, get_websocket_manager_async):
        with pytest.raises(TypeError, match=factory.__name__):
            call(factory)
    assert get_manager_registry_status()["total_registered_managers"] == 0


# -- the manager of None --------------------------------------------------------


async def test_the_manager_of_none_is_a_router() -> None:
    router = get_websocket_manager(None)
    ann, bob, nobody = StarletteSocket(), StarletteSocket(), StarletteSocket()
    router.add_connection(WebSocketConnection(user_id="ann", websocket=ann))
    await router.connect_user("bob", bob)
    router.add_connection(nobody)
    assert get_websocket_manager("ann").is_connection_active()
    assert router.is_connection_active("ann")
    assert router.is_connection_active("carol") is False
    assert len(router.get_user_connections("bob")) == 1

    assert await router.send_to_user("ann", {"type": "to-ann"})
    assert await router.emit_critical_event("bob", "to-bob", {})
    assert await router.emit_critical_event(user_id="bob", event_type="to-bob-2", data={})
    assert await router.send_to_user({"type": "to-nobody"})
    assert await router.emit_event("to-nobody-2", {})
    assert not await router.send_to_user("carol", {"type": "to-carol"})
    assert ann.types == ["to-ann"]
    assert bob.types == ["to-bob", "to-bob-2"]
    assert nobody.types == ["to-nobody", "to-nobody-2"]
    assert {event["user_id"] for event in nobody.events} == {None}
    assert {event["user_id"] for event in ann.events} == {"ann"}


async def test_what_names_nobody_reaches_no_named_user() -> None:
    router = get_websocket_manager(None)
    ann = StarletteSocket()
    get_websocket_manager("ann").add_connection(ann, thread_id="chat", connection_id="c-1")
    router.emit_event("x", {})
    router.send_to_user({"type": "x"})
    router.send_to_thread("chat", {"type": "x"})
    router.broadcast({"type": "x"})
    router.emit_critical_event("agent_started", {})
    router.send_error("text")
    assert ann.texts == []


async def test_no_named_manager_reaches_nobodys_connections() -> None:
    nobody = StarletteSocket()
    get_websocket_manager(None).add_connection(nobody, thread_id="chat")
    manager = get_websocket_manager("ann")
    manager.emit_event("x", {})
    manager.broadcast({"type": "x"})
    manager.send_to_thread("chat", {"type": "x"})
    assert nobody.texts == []


async def test_routing_does_not_create_managers_of_strangers() -> None:
    """An id from a request that was never connected does not fill the registry for good."""
    router = get_websocket_manager(None)
    wsmanager.configure(max_idle_users=10)
    for n in range(200):
        router.send_to_user(f"stranger-{n}", {"type": "x"})
        router.is_connection_active(f"stranger-{n}")
    assert get_manager_registry_status()["total_registered_managers"] <= 12


# -- broadcast to everybody is a function of the registry -----------------------


async def test_module_broadcast_reaches_everybody_once() -> None:
    sockets = {user: [StarletteSocket(), StarletteSocket()] for user in ("ann", "bob", "carol")}
    for user, tabs in sockets.items():
        for tab in tabs:
            get_websocket_manager(user).add_connection(tab)
    get_websocket_manager("no-connection")
    assert wsmanager.broadcast({"type": "maintenance", "payload": {"at": 5}}) == 3
    for tabs in sockets.values():
        for tab in tabs:
            assert tab.types == ["maintenance"]
            assert tab.events[0]["payload"] == {"at": 5}


async def test_a_managers_broadcast_is_its_users_only(wire: Wire) -> None:
    wire.check(await wire.manager.broadcast(MESSAGE), chat=1, other=1)


# -- attributes and introspection ----------------------------------------------


async def test_attributes_that_code_reads(wire: Wire) -> None:
    manager = wire.manager
    assert manager.user_context == {"user_id": "ann", "thread_id": "chat"}
    assert manager.mode is WebSocketManagerMode.UNIFIED
    assert len(manager._connections) == 2
    assert set(manager.active_connections) == {"c-chat", "c-other"}
    assert isinstance(manager.metrics, dict)
    assert isinstance(manager.get_stats(), dict)


async def test_statistics_are_json_to_every_encoder(wire: Wire) -> None:
    await wire.manager.emit_event("x", {})
    for manager in (wire.manager, get_websocket_manager(None)):
        for stats in (manager.get_stats(), manager.metrics):
            assert stats["mode"] is WebSocketManagerMode.UNIFIED
            written = json.loads(json.dumps(stats))
            assert written == {**stats, "mode": "unified"}
            assert json.loads(JSONResponse(stats).body) == written
            assert json.loads(msgspec.json.encode(stats)) == written
            assert json.loads(json.dumps(manager.get_connection_health()))


@pytest.mark.parametrize("mode", WebSocketManagerMode)
def test_a_mode_is_a_member_and_a_text(mode: WebSocketManagerMode) -> None:
    assert isinstance(mode, str)
    assert mode == mode.value == mode.name.lower()
    assert hash(mode) == hash(mode.value)
    assert WebSocketManagerMode(mode.value) is mode
    assert repr(mode) == f"<WebSocketManagerMode.{mode.name}: {mode.value!r}>"
    assert str(mode) == f"{mode}" == f"WebSocketManagerMode.{mode.name}"
    assert f"{mode:>40}" == str(mode).rjust(40)
    assert copy.deepcopy(mode) is mode
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(mode, protocol)) is mode


@pytest.mark.parametrize(
    "name", ["emit_event", "send_event", "send_to_user", "send_to_thread", "emit_critical_event"]
)
def test_code_that_asks_whether_to_await(name: str) -> None:
    """It is told no, does not await, and the event goes out; see the regression tests."""
    method = getattr(get_websocket_manager("ann"), name)
    assert not asyncio.iscoroutinefunction(method)
    assert not inspect.iscoroutinefunction(method)
    assert callable(method)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in dir(UnifiedWebSocketManager)
        if not name.startswith("_") and callable(getattr(UnifiedWebSocketManager, name))
    ],
)
def test_every_method_is_documented(name: str) -> None:
    doc = getattr(UnifiedWebSocketManager, name).__doc__
    assert doc and len(doc) > 20


@pytest.mark.parametrize(
    "name",
    ["emit_event", "send_event", "emit_critical_event", "send_to_user", "send_error",
     "send_error_to_user"],
)  # fmt: skip
async def test_methods_of_several_shapes_have_a_signature(wire: Wire, name: str) -> None:
    """One that takes all of the shapes; what reads signatures, as mocks and help() do, can."""
    bound = inspect.signature(getattr(wire.manager, name))
    assert [p.kind for p in bound.parameters.values()] == [
        inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD,
    ]  # fmt: skip
    assert "self" in inspect.signature(getattr(UnifiedWebSocketManager, name)).parameters
    assert "$self" not in getattr(wire.manager, name).__doc__
    mock = create_autospec(wire.manager)
    getattr(mock, name)("a", {"b": 1}, x=1)
    getattr(mock, name).assert_called_once_with("a", {"b": 1}, x=1)
    assert f"{name}(self, /, *args, **kwargs)" in pydoc.render_doc(
        UnifiedWebSocketManager, renderer=pydoc.plaintext
    )


def test_types_go_by_their_own_name() -> None:
    """In the interpreter's texts, as those of classes in Python; where they live is in the repr."""

    async def wrong() -> None:
        await get_websocket_manager("ann")  # type: ignore[misc]

    with pytest.raises(TypeError, match=r"(^|[^.\w])UnifiedWebSocketManager\b") as caught:
        wrong().send(None)
    assert "_wsmanager." not in str(caught.value)
    names = {name for name in vars(core) if isinstance(getattr(core, name), type)}
    types = [vars(core)[name] for name in names if not issubclass(vars(core)[name], Exception)]
    assert len(types) == 8
    for kind in types:
        with pytest.raises(TypeError, match=f"'{kind.__name__}'") as caught:
            kind.no_such = 1
        assert "wsmanager." not in str(caught.value)
        assert (kind.__module__, kind.__qualname__) == ("wsmanager._wsmanager", kind.__name__)
        assert repr(kind) == f"<class 'wsmanager._wsmanager.{kind.__name__}'>"
        assert pickle.loads(pickle.dumps(kind)) is kind


@pytest.mark.parametrize("name", wsmanager.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(wsmanager, name)
    if callable(thing):
        assert thing.__doc__, name


# -- the names of the old package, where they differ ----------------------------


def test_the_compat_module() -> None:
    """``wsmanager.compat``: awaited names of the old package, for code that is not migrated yet."""
    compat = pytest.importorskip(
        "wsmanager.compat", reason="the compatibility module is an optional part"
    )

    async def main() -> None:
        manager = await compat.create_websocket_manager({"user_id": "ann"})
        assert manager is get_websocket_manager("ann")
        status = await compat.get_manager_registry_status()
        assert status["total_registered_managers"] == 1

    asyncio.run(main())
    assert asyncio.iscoroutinefunction(compat.get_manager_registry_status)
