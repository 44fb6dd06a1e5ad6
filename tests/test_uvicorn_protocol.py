"""The uvicorn protocol class: the direct channel is there, and all else is as uvicorn has it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from starlette.websockets import WebSocket, WebSocketDisconnect
from support.agent import FIVE_EVENTS
from support.clients import open_tab
from support.servers import (
    AiohttpServer,
    UvicornServer,
    WebsocketsServer,
    client_context,
    self_signed,
    server_context,
)
from support.waiting import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wsmanager import get_manager_registry_status, get_websocket_manager
from wsmanager import uvicorn as protocol

DIRECT = "wsmanager.uvicorn:WebSocketProtocol"
PLAIN = "websockets-sansio"


def channel_of(user: str) -> str:
    manager = get_websocket_manager(user)
    (connection_id,) = manager.get_user_connections()
    connection = manager.get_connection(connection_id)
    assert connection is not None
    return connection.channel


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("compression", ["deflate", None])
async def test_events_go_directly(loop: str, compression: str | None) -> None:
    with UvicornServer(ws=DIRECT, loop=loop) as server:
        tab = await open_tab(server.url, "ann", compression=compression)
        assert channel_of("ann") == "direct"
        await tab.client.send("run")
        await tab.read(5)
        assert tuple(tab.types) == FIVE_EVENTS
        before = get_websocket_manager("ann").metrics
        await asyncio.to_thread(get_websocket_manager("ann").emit_event, "x", {"pad": "x" * 70_000})
        await tab.read(1)
        assert get_websocket_manager("ann").metrics != before
        await tab.client.close()


async def test_without_it_everything_works_the_generic_way() -> None:
    with UvicornServer(ws=PLAIN) as server:
        tab = await open_tab(server.url, "ann")
        assert channel_of("ann") == "generic"
        await tab.client.send("run")
        await tab.read(5)
        assert tuple(tab.types) == FIVE_EVENTS
        await tab.client.close()


@pytest.mark.parametrize("server", [WebsocketsServer, AiohttpServer])
async def test_other_servers_give_it_from_the_object_itself(server: Callable[[], Any]) -> None:
    with server() as running:
        tab = await open_tab(running.url, "ann")
        assert channel_of("ann") == "direct"
        await tab.client.send("run")
        await tab.read(5)
        assert tuple(tab.types) == FIVE_EVENTS
        await tab.client.close()


def test_the_option_is_taken_as_text_and_as_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsmanager.uvicorn import WebSocketProtocol

    for ws in (DIRECT, WebSocketProtocol):
        config = uvicorn.Config("no.such:app", ws=ws)
        assert config.ws is ws
        with contextlib.suppress(Exception):
            config.load()
        assert config.ws_protocol_class is WebSocketProtocol


def imported_anew() -> Any:
    """The module once more, beside the one that is in use."""
    spec = importlib.util.find_spec("wsmanager.uvicorn")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", protocol._NEEDED)
def test_a_uvicorn_without_what_is_needed_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without what asyncio's own Protocol has, as a method that does nothing."""
    monkeypatch.delattr(protocol.WebSocketsSansIOProtocol, name)
    with pytest.raises(ImportError, match=rf"it has no {name}\).*0\.44\.0 is the oldest"):
        imported_anew()


def test_control_this_uvicorn_is_not_refused() -> None:
    assert issubclass(imported_anew().WebSocketProtocol, protocol.WebSocketsSansIOProtocol)


def test_all_that_is_overridden_is_needed() -> None:
    """A method of uvicorn's that we build on, and that is not asked for, would be missed too late.

    Those of flow control do not have to be uvicorn's own: a channel asks its transport.
    """
    overridden = {
        name
        for name, value in vars(protocol.WebSocketProtocol).items()
        if callable(value) and hasattr(protocol.WebSocketsSansIOProtocol, name)
    }
    overridden -= {"pause_writing", "resume_writing"}
    assert {name for name in overridden if not name.startswith("__")} <= set(protocol._NEEDED)


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
async def test_a_uvicorn_that_leaves_flow_control_to_asyncio_is_taken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those before 0.53: what is inherited does nothing, and is called all the same."""
    if name in vars(protocol.WebSocketsSansIOProtocol):
        monkeypatch.delattr(protocol.WebSocketsSansIOProtocol, name)
    anew = imported_anew().WebSocketProtocol
    assert getattr(anew.__mro__[1], name) is getattr(asyncio.Protocol, name)


# -- TLS ------------------------------------------------------------------------


@pytest.mark.parametrize("ws", [DIRECT, PLAIN])
async def test_tls_is_never_direct_with_uvicorn(tmp_path: Path, ws: str) -> None:
    certificate, key = self_signed(tmp_path)
    with UvicornServer(ws=ws, ssl_certfile=str(certificate), ssl_keyfile=str(key)) as server:
        tab = await open_tab(server.url, "ann", ssl=client_context(tmp_path))
        assert channel_of("ann") == "generic"
        await tab.client.send("run")
        await tab.read(5)
        assert tuple(tab.types) == FIVE_EVENTS
        await tab.client.close()


async def test_tls_is_never_direct_with_websockets(tmp_path: Path) -> None:
    with WebsocketsServer(ssl=server_context(tmp_path)) as server:
        tab = await open_tab(server.url, "ann", ssl=client_context(tmp_path))
        assert channel_of("ann") == "generic"
        await tab.client.send("run")
        await tab.read(5)
        assert tuple(tab.types) == FIVE_EVENTS
        await tab.client.close()


# -- all else is uvicorn's own --------------------------------------------------


async def scripted(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application that does what the path says."""
    assert scope["type"] == "websocket"
    what = scope["path"].strip("/")
    await receive()
    if what == "deny":
        await send({"type": "websocket.close", "code": 1008})
        return
    if what == "deny-response":
        await send({
            "type": "websocket.http.response.start", "status": 402,
            "headers": [(b"x-reason", b"quota")],
        })  # fmt: skip
        await send({"type": "websocket.http.response.body", "body": b"pay first"})
        return
    accept: dict[str, Any] = {"type": "websocket.accept", "headers": [(b"x-extra", b"1")]}
    if what == "subprotocol":
        accept["subprotocol"] = scope["subprotocols"][1]
    await send(accept)
    if what == "close":
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        return
    if what == "crash":
        raise RuntimeError("bug in the application")
    if what == "return":
        return
    if what == "fragments":
        await send({"type": "websocket.send", "bytes": b"\x00\x01\x02"})
        await send({"type": "websocket.send", "text": "é" * 40_000})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        reply: dict[str, Any] = {"type": "websocket.send"}
        for kind in ("text", "bytes"):
            if message.get(kind) is not None:
                reply[kind] = message[kind]
        await send(reply)


async def observe(url: str, path: str) -> dict[str, Any]:
    """What a client sees of one scenario; compared between the two protocol classes."""
    seen: dict[str, Any] = {}
    try:
        client = await connect(
            f"{url.removesuffix('/ws')}/{path}", subprotocols=["one", "two"],  # type: ignore[list-item]
            ping_interval=None, open_timeout=5,
        )  # fmt: skip
    except InvalidStatus as refused:
        seen["status"] = refused.response.status_code
        seen["body"] = bytes(refused.response.body or b"")
        seen["reason"] = refused.response.headers.get("x-reason")
        return seen
    assert client.response is not None
    seen["subprotocol"] = client.subprotocol
    seen["extra"] = client.response.headers.get("x-extra")
    seen["extensions"] = client.response.headers.get("sec-websocket-extensions")
    messages: list[Any] = []
    try:
        if path == "fragments":
            messages += [await client.recv(), await client.recv()]
        if path in ("echo", "fragments"):
            for text in ("a", "é" * 70_000, b"\x00" * 200, ""):
                await client.send(text)
                messages.append(await asyncio.wait_for(client.recv(), 5))
            await client.send(["frag", "mented"])
            messages.append(await asyncio.wait_for(client.recv(), 5))
            seen["pong"] = isinstance(await asyncio.wait_for(await client.ping(), 5), float)
            await client.close(4002, "bye")
        elif path == "subprotocol":
            await client.close(4003)
        else:
            await asyncio.wait_for(client.recv(), 5)
    except ConnectionClosed:
        pass
    await client.wait_closed()
    seen["messages"] = messages
    seen["close"] = (client.close_code, client.close_reason)
    return seen


@pytest.mark.parametrize(
    "path",
    ["echo", "subprotocol", "deny", "deny-response", "close", "crash", "return", "fragments"],
)
async def test_it_behaves_as_uvicorns_own(path: str) -> None:
    seen = {}
    for ws in (PLAIN, DIRECT):
        with UvicornServer(scripted, ws=ws, log_level="critical") as server:
            seen[ws] = await observe(server.url, path)
    assert seen[DIRECT] == seen[PLAIN]


async def test_the_scope_has_the_channel_and_nothing_else_is_new() -> None:
    scopes: dict[str, dict[str, Any]] = {}

    def app(ws: str) -> Any:
        async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
            scopes[ws] = scope
            await send({"type": "websocket.close"})

        return asgi

    for ws in (PLAIN, DIRECT):
        with UvicornServer(app(ws), ws=ws) as server, pytest.raises(InvalidStatus):
            await connect(server.url)
    assert set(scopes[DIRECT]) == set(scopes[PLAIN])
    extra = set(scopes[DIRECT]["extensions"]) - set(scopes[PLAIN]["extensions"])
    assert extra == {"wsmanager.channel"}


async def test_shutdown_closes_with_1012() -> None:
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
    with contextlib.suppress(ConnectionClosed):
        await asyncio.wait_for(tab.client.recv(), 5)
    await tab.client.wait_closed()
    assert tab.client.close_code == 1012
    await eventually(lambda: get_manager_registry_status()["total_connections"] == 0)


async def test_keepalive_pings_go_on_beside_direct_frames() -> None:
    with UvicornServer(ws=DIRECT, ws_ping_interval=0.05, ws_ping_timeout=5) as server:
        tab = await open_tab(server.url, "ann")
        manager = get_websocket_manager("ann")
        for n in range(40):
            await asyncio.to_thread(manager.emit_event, "x", {"n": n, "pad": "x" * 5000})
            await asyncio.sleep(0.01)
        await tab.read(40)
        assert [event["payload"]["n"] for event in tab.events] == list(range(40))
        await tab.client.close()


async def test_a_client_that_vanishes_is_unregistered() -> None:
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
        tab.client.transport.abort()
        manager = get_websocket_manager("ann")

        def gone() -> bool:
            manager.emit_event("x", {})
            return len(manager) == 0

        await eventually(gone)


# -- order, and the last words ---------------------------------------------------

Talk = Callable[[Any, Callable[[str], Any]], Any]
"""What a handler does, given its WebSocket and its way to send a text."""


@contextlib.contextmanager
def talking(kind: str, talk: Talk) -> Iterator[str]:
    """A server of that library with that handler; its URL."""
    server: Any
    if kind == "uvicorn":

        async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
            websocket = WebSocket(scope, receive, send)
            await websocket.accept()
            await talk(websocket, websocket.send_text)

        server = UvicornServer(asgi, ws=DIRECT)
    elif kind == "aiohttp":

        async def handle(request: web.Request) -> web.WebSocketResponse:
            websocket = web.WebSocketResponse()
            await websocket.prepare(request)
            await talk(websocket, websocket.send_str)
            return websocket

        server = AiohttpServer(handler=handle)
    else:

        async def handler(websocket: Any) -> None:
            await talk(websocket, websocket.send)

        server = WebsocketsServer(handler=handler)
    with server as running:
        yield running.url


async def heard(url: str) -> list[str]:
    """The types of all messages until the end, and the close code."""
    types: list[str] = []
    async with connect(url, compression=None) as client:
        with contextlib.suppress(ConnectionClosed):
            async for text in client:
                types.append(json.loads(text)["type"])
        return [*types, str(client.protocol.close_code)]


SERVERS = ["uvicorn", "aiohttp", "websockets"]
LAST = ["agent_started", "tool_completed", "agent_completed"]


def kernel_takes_little(websocket: Any) -> None:
    if isinstance(websocket, WebSocket):
        transport = websocket.scope["extensions"]["wsmanager.channel"].transport
    else:
        transport = getattr(websocket, "transport", websocket)
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def ended(websocket: Any) -> None:
    """Until the peer's side, or another of ours, has ended the connection."""
    if isinstance(websocket, WebSocket):
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await websocket.receive_text()
    elif isinstance(websocket, web.WebSocketResponse):
        async for _ in websocket:
            pass
    else:
        await websocket.wait_closed()


async def close(websocket: Any, manager: Any) -> None:
    await websocket.close()


async def remove_and_close(websocket: Any, manager: Any) -> None:
    assert manager.remove_connection(next(iter(manager.get_user_connections())))
    await websocket.close()


async def remove(websocket: Any, manager: Any) -> None:
    assert manager.remove_connection(next(iter(manager.get_user_connections())))


async def disconnect(websocket: Any, manager: Any) -> None:
    assert manager.disconnect_user("ann", code=4401, reason="signed out") == 1
    await ended(websocket)


async def disconnect_by_another_thread(websocket: Any, manager: Any) -> None:
    def sign_out() -> None:
        manager.emit_event("revoked", {}, critical=True)
        manager.disconnect_user("ann", code=4401, reason="signed out")

    await asyncio.to_thread(sign_out)
    await ended(websocket)


async def close_all(websocket: Any, manager: Any) -> None:
    assert manager.close_all_connections(code=4401) == 1
    await ended(websocket)


async def nothing(websocket: Any, manager: Any) -> None:
    pass


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    "end",
    [nothing, close, remove, remove_and_close, disconnect, disconnect_by_another_thread, close_all],
)
async def test_what_a_handler_emits_last_arrives(kind: str, end: Any) -> None:
    """Several events in one turn of the loop, and then an end: all go before it, and count as sent."""
    deliveries: list[Any] = []

    async def talk(websocket: Any, own: Any) -> None:
        manager = get_websocket_manager("ann")
        manager.add_connection(websocket)
        assert channel_of("ann") == "direct"
        deliveries.extend(manager.emit_event(name, {}) for name in LAST)
        await end(websocket, manager)

    with talking(kind, talk) as url:
        *types, code = await asyncio.wait_for(heard(url), 10)
    told = ["revoked"] if end is disconnect_by_another_thread else []
    assert types == LAST + told
    if "disconnect" in end.__name__ or end is close_all:
        assert code == "4401"
    for delivery in deliveries:
        receipt = delivery.receipt
        assert (receipt.sent, receipt.queued, receipt.failed) == (1, 0, 0)


async def test_what_an_application_emits_before_it_fails_arrives() -> None:
    async def talk(websocket: Any, own: Any) -> None:
        manager = get_websocket_manager("ann")
        manager.add_connection(websocket)
        for name in LAST:
            manager.emit_event(name, {})
        raise RuntimeError("a bug of the application")

    with talking("uvicorn", talk) as url:
        *types, _ = await asyncio.wait_for(heard(url), 10)
    assert types == LAST


@pytest.mark.parametrize("kind", SERVERS)
async def test_own_messages_and_events_keep_their_order(kind: str) -> None:
    """Also the second event of a turn, which would else wait for the turn's end."""

    async def talk(websocket: Any, own: Any) -> None:
        manager = get_websocket_manager("ann")
        manager.add_connection(websocket)
        for n in range(5):
            manager.emit_event(f"first {n}", {})
            manager.emit_event(f"second {n}", {})
            await own(json.dumps({"type": f"own {n}"}))

    with talking(kind, talk) as url:
        *types, _ = await asyncio.wait_for(heard(url), 10)
    assert types == [f"{name} {n}" for n in range(5) for name in ("first", "second", "own")]


@pytest.mark.parametrize("kind", SERVERS)
async def test_they_keep_it_when_the_peer_is_slow(kind: str) -> None:
    """Far more than the kernel and the transport take is waiting when the application sends."""

    async def talk(websocket: Any, own: Any) -> None:
        manager = get_websocket_manager("ann")
        manager.add_connection(websocket)
        assert channel_of("ann") == "direct"
        kernel_takes_little(websocket)
        for n in range(100):
            manager.emit_event(str(n), {"pad": "x" * 9000})
        await own(json.dumps({"type": "own"}))
        manager.emit_event("after", {})
        await manager.emit_event("end", {}).flushed(10)

    with talking(kind, talk) as url:
        async with connect(url, compression=None, max_queue=1) as client:
            types: list[str] = []
            with contextlib.suppress(ConnectionClosed):
                async for text in client:
                    types.append(json.loads(text)["type"])
    assert types == [*map(str, range(100)), "own", "after", "end"]


async def test_no_event_stands_inside_a_fragmented_message() -> None:
    """Of the websockets library; what was emitted before it comes before it, what meanwhile after it."""

    async def talk(websocket: Any, own: Any) -> None:
        manager = get_websocket_manager("ann")
        manager.add_connection(websocket)

        async def pieces() -> Any:
            yield '{"type":'
            manager.emit_event("inside", {})
            await asyncio.sleep(0)
            await websocket.ping()
            yield '"own"}'

        manager.emit_event("first", {})
        manager.emit_event("second", {})
        await own(pieces())
        await manager.emit_event("after", {}).flushed(10)

    with talking("websockets", talk) as url:
        *types, _ = await asyncio.wait_for(heard(url), 10)
    assert types == ["first", "second", "own", "inside", "after"]


@pytest.mark.parametrize("kind", SERVERS)
async def test_nothing_is_written_after_the_close_frame(kind: str) -> None:
    deliveries: list[Any] = []

    async def talk(websocket: Any, own: Any) -> None:
        manager = get_websocket_manager("ann")
        manager.add_connection(websocket)
        manager.emit_event("before", {})
        closing = asyncio.ensure_future(websocket.close())
        await asyncio.sleep(0)
        deliveries.extend(manager.emit_event("behind", {}) for _ in range(3))
        await closing

    with talking(kind, talk) as url:
        *types, code = await asyncio.wait_for(heard(url), 10)
    assert (types, code) == (["before"], "1000")
    assert all(delivery.receipt.sent == 0 for delivery in deliveries)


async def test_the_applications_own_messages_keep_their_place() -> None:
    """The library's send and the direct frames of one coroutine, in the order of the calls."""
    order: list[str] = []

    async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        manager = get_websocket_manager("ann")
        connection_id = manager.add_connection(websocket)
        for n in range(50):
            manager.emit_event("event", {"n": n, "pad": "x" * (n * 37 % 3000)})
            order.append(f"event {n}")
            await websocket.send_json({"type": "own", "payload": {"n": n}})
            order.append(f"own {n}")
        await websocket.close()
        manager.remove_connection(connection_id)

    seen: list[str] = []
    with UvicornServer(asgi, ws=DIRECT) as server:
        async with connect(server.url) as client:
            async for text in client:
                message = json.loads(text)
                seen.append(f"{message['type']} {message['payload']['n']}")
    assert seen == order


def test_an_uvicorn_too_old_is_a_clear_error(isolated: Callable[..., Any]) -> None:
    """Before its extension point existed: an ImportError that says which version is needed."""
    isolated("""
import sys, types
name = "uvicorn.protocols.websockets.websockets_sansio_impl"
sys.modules[name] = None
try:
    import wsmanager.uvicorn
except ImportError as error:
    assert "0.44" in str(error), error
else:
    raise AssertionError("no error")
module = types.ModuleType(name)
module.WebSocketsSansIOProtocol = type("Old", (), {})
sys.modules[name] = module
try:
    import wsmanager.uvicorn
except ImportError as error:
    assert "0.44" in str(error), error
else:
    raise AssertionError("no error")
""")
