"""Each fake does what the library's own class does: same methods, same states, same errors after the end.

The same story is played on the real class, behind a real server with a real
client, and on the fake; what each step gave is compared.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import websockets.sync.client
import websockets.sync.server
from aiohttp import web
from aiohttp.web_ws import WebSocketResponse
from fastapi import FastAPI, WebSocket
from support.loops import LoopThread
from support.servers import UvicornServer, WebsocketsServer
from support.waiting import eventually
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from wsmanager import get_websocket_manager
from wsmanager.testing import (
    ClosingClient,
    FailingClient,
    FakeAiohttp,
    FakeAsgi,
    FakeJson,
    FakeStarlette,
    FakeSync,
    FakeText,
    FakeWebsockets,
    HangingClient,
    Inbox,
    ReentrantClient,
    assert_event,
    slow_client,
)

Note = Callable[[str, Any], None]
KINDS: list[type[Inbox]] = [
    FakeStarlette,
    FakeWebsockets,
    FakeAiohttp,
    FakeText,
    FakeJson,
    FakeSync,
]


async def outcome(call: Callable[[], Any]) -> str:
    """What a call gave: its value, or its error in words."""
    try:
        result = call()
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:  # noqa: BLE001 - that is what is compared
        if type(error).__module__.startswith("websockets"):
            return f"{type(error).__name__}: {error}"
        code = getattr(error, "code", None)
        return f"{type(error).__name__}: {error}" + (f" code={code}" if code is not None else "")
    return repr(result)


async def test_each_fake_is_a_connection() -> None:
    """Registered like the real ones, it gets an event once, as text that is the event's JSON."""
    manager = get_websocket_manager("ann")
    clients = [kind() for kind in KINDS] + [FakeAsgi(accepted=True)]
    for client in clients:
        manager.add_connection(client)
    receipt = await manager.emit_event("agent_started", {"agent_name": "x"})
    assert receipt.sent == len(clients)
    for client in clients:
        event = await assert_event(client, "agent_started", agent_name="x")
        assert event["user_id"] == "ann"
        assert client.types == ["agent_started"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_the_manager_closes_each_in_its_own_way(kind: type[Inbox]) -> None:
    manager = get_websocket_manager("ann")
    client = kind()
    manager.add_connection(client)
    manager.close_all_connections(4001, "bye")
    await eventually(lambda: client.closed_with is not None)
    assert client.closed_with == (4001, "bye")


# -- the signatures


@pytest.mark.parametrize(
    ("real", "fake", "names"),
    [
        (
            ServerConnection,
            FakeWebsockets,
            "send recv close wait_closed __aiter__ state close_code close_reason",
        ),
        (
            websockets.sync.server.ServerConnection,
            FakeSync,
            "send recv close __iter__ state close_code close_reason",
        ),
        (
            WebSocketResponse,
            FakeAiohttp,
            "send_str send_bytes send_json close receive receive_str __aiter__ __anext__ "
            "closed close_code prepared ws_protocol exception",
        ),
    ],
)
def test_methods_are_called_as_the_real_ones(real: type, fake: type, names: str) -> None:
    """The parameters of a fake's method are the real one's, or the first of them with its defaults."""
    for name in names.split():
        theirs, ours = inspect.getattr_static(real, name), inspect.getattr_static(fake, name)
        assert isinstance(theirs, property) == isinstance(ours, property), name
        if isinstance(theirs, property):
            continue
        assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(ours), name
        wanted, given = inspect.signature(theirs).parameters, inspect.signature(ours).parameters
        assert list(given) == list(wanted)[: len(given)], name
        for parameter in given:
            # By keyword only is how newer releases have some of them.
            kinds = (wanted[parameter].kind, inspect.Parameter.KEYWORD_ONLY)
            assert given[parameter].kind in kinds, f"{name}({parameter})"
            assert given[parameter].default == wanted[parameter].default, f"{name}({parameter})"
        left = [wanted[each] for each in list(wanted)[len(given) :]]
        assert all(each.default is not each.empty for each in left), name


def test_fakes_are_known_as_their_library() -> None:
    """So that the package closes them, and looks for their transports, as it does the real ones."""
    from wsmanager import adapters

    for kind, known in ((FakeWebsockets, adapters._WEBSOCKETS), (FakeSync, adapters._WEBSOCKETS),
                        (FakeAiohttp, adapters._AIOHTTP), (FakeStarlette, adapters._STARLETTE)):  # fmt: skip
        assert adapters._adapter(kind) is known
        assert adapters.resolve(kind()) is None


# -- websockets


async def websockets_story(ws: Any, leave: Callable[[int], Awaitable[None]], note: Note) -> None:
    note("state", ws.state.name)
    note("codes", (ws.close_code, ws.close_reason))
    note("send", await outcome(lambda: ws.send("one")))
    note("send bytes as text", await outcome(lambda: ws.send(b"two", text=True)))
    note("send dict", await outcome(lambda: ws.send({"a": 1})))
    note("send number", await outcome(lambda: ws.send(1)))
    note("recv", await outcome(ws.recv))
    note("recv bytes", await outcome(lambda: ws.recv(decode=False)))
    await leave(0)
    note("after: state", ws.state.name)
    note("after: codes", (ws.close_code, ws.close_reason))
    note("after: send", await outcome(lambda: ws.send("late")))
    note("after: recv", await outcome(ws.recv))
    note("after: close", await outcome(ws.close))
    note(
        "after: iteration",
        [message async for message in ws] if ws.close_code in (1000, 1001) else 0,
    )


@pytest.mark.parametrize(
    "end", ["server 4001", "server 1000", "client 1000", "client 4002", "lost"]
)
async def test_websockets_story(end: str) -> None:
    who, _, digits = end.partition(" ")
    code = int(digits or 1006)
    real: dict[str, Any] = {}
    fake: dict[str, Any] = {}
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    told = threading.Event()

    async def handler(connection: ServerConnection) -> None:
        async def leave(_: int) -> None:
            if who == "server":
                await connection.close(code, "why")
            else:
                told.set()
                await connection.wait_closed()

        try:
            await websockets_story(connection, leave, real.__setitem__)
        finally:
            loop.call_soon_threadsafe(over.set)

    with WebsocketsServer(handler=handler, close_timeout=2) as server:
        client = await connect(server.url)
        await client.send("hello")
        await client.send("bytes?")
        await client.recv()
        await client.recv()
        if who != "server":
            await eventually(told.is_set)
            if who == "client":
                await client.close(code, "why")
            else:
                client.transport.abort()
        else:
            await client.wait_closed()
        await asyncio.wait_for(over.wait(), 10)
        await client.close()

    pretended = FakeWebsockets()
    pretended.push("hello")
    pretended.push("bytes?")

    async def leave(_: int) -> None:
        if who == "server":
            await pretended.close(code, "why")
        else:
            pretended.disconnect(code, "why")

    await websockets_story(pretended, leave, fake.__setitem__)
    assert pretended.messages == ["one", "two"]
    assert fake == real


async def test_websockets_sync_story() -> None:
    """The threaded server's connection, closed by the server."""

    def story(ws: Any, note: Note) -> None:
        def attempt(call: Callable[[], Any]) -> str:
            try:
                return repr(call())
            except Exception as error:  # noqa: BLE001
                return f"{type(error).__name__}: {error}"

        note("state", ws.state.name)
        note("send", attempt(lambda: ws.send("one")))
        note("recv", attempt(ws.recv))
        note("no recv", attempt(lambda: ws.recv(timeout=0.1)))
        ws.close(4001, "why")
        note("after: state", ws.state.name)
        note("after: codes", (ws.close_code, ws.close_reason))
        note("after: send", attempt(lambda: ws.send("late")))
        note("after: recv", attempt(ws.recv))
        note("after: close", attempt(ws.close))

    real: dict[str, Any] = {}
    fake: dict[str, Any] = {}
    done = threading.Event()

    def handler(connection: websockets.sync.server.ServerConnection) -> None:
        story(connection, real.__setitem__)
        done.set()

    def play() -> None:
        with websockets.sync.server.serve(handler, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            port = server.socket.getsockname()[1]
            with websockets.sync.client.connect(f"ws://127.0.0.1:{port}") as client:
                client.send("hello")
                client.recv()
                assert done.wait(10)
            server.shutdown()
            thread.join(10)

    await asyncio.to_thread(play)
    pretended = FakeSync()
    pretended.push("hello")
    await asyncio.to_thread(story, pretended, fake.__setitem__)
    assert fake == real


# -- aiohttp


async def aiohttp_story(ws: Any, leave: Callable[[], Awaitable[None]], note: Note) -> None:
    note("closed", (ws.closed, ws.close_code, ws.prepared))
    note("send", await outcome(lambda: ws.send_str("one")))
    note("send json", await outcome(lambda: ws.send_json({"a": 1})))
    note("send wrong", await outcome(lambda: ws.send_str(b"x")))
    note("send wrong bytes", await outcome(lambda: ws.send_bytes("x")))
    message = await ws.receive()
    note("receive", (message.type.name, message.data))
    note("receive_str", await outcome(ws.receive_str))
    note(
        "receive_str of bytes",
        (await outcome(ws.receive_str)).replace("WSMessageTypeError", "TypeError"),
    )
    await leave()
    note("after: closed", (ws.closed, ws.close_code))
    note("after: send", await outcome(lambda: ws.send_str("late")))
    note("after: close", await outcome(ws.close))
    note("after: iteration", [each async for each in ws])
    note("after: receive", [(await ws.receive()).type.name for _ in range(2)])


@pytest.mark.parametrize("who", ["server", "client"])
async def test_aiohttp_story(who: str) -> None:
    real: dict[str, Any] = {}
    fake: dict[str, Any] = {}
    told, over = threading.Event(), threading.Event()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)

        async def leave() -> None:
            if who == "server":
                real["leaving"] = await ws.close(code=4001, message=b"why")
            else:
                told.set()
                message = await ws.receive()
                real["leaving"] = (message.type.name, message.data)

        try:
            await aiohttp_story(ws, leave, real.__setitem__)
        finally:
            over.set()
        return ws

    with LoopThread() as thread:

        async def start() -> web.AppRunner:
            app = web.Application()
            app.router.add_get("/ws", handler)
            runner = web.AppRunner(app, shutdown_timeout=1.0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        runner = thread.run(start())
        client = await connect(f"ws://127.0.0.1:{runner.addresses[0][1]}/ws")
        for message in ("hello", "again", b"raw"):
            await client.send(message)
        await client.recv()
        await client.recv()
        if who == "client":
            await eventually(told.is_set)
            await client.close(4002)
        else:
            await client.wait_closed()
        await eventually(over.is_set)
        thread.run(runner.cleanup())

    pretended = FakeAiohttp()
    for message in ("hello", "again", b"raw"):
        pretended.push(message)

    async def leave() -> None:
        if who == "server":
            fake["leaving"] = await pretended.close(code=4001, message=b"why")
        else:
            pretended.disconnect(4002)
            received = await pretended.receive()
            fake["leaving"] = (received.type.name, received.data)

    await aiohttp_story(pretended, leave, fake.__setitem__)
    assert pretended.messages == ["one", '{"a": 1}']
    assert fake == real


# -- ASGI and Starlette


async def asgi_story(
    receive: Any, send: Any, leave: Callable[[], Awaitable[None]], note: Note
) -> None:
    def text(data: str) -> dict[str, Any]:
        return {"type": "websocket.send", "text": data}

    note("connect", await receive())
    note("send early", await outcome(lambda: send(text("early"))))
    note("accept", await outcome(lambda: send({"type": "websocket.accept", "subprotocol": "chat"})))
    note("accept again", await outcome(lambda: send({"type": "websocket.accept"})))
    note("send", await outcome(lambda: send(text("one"))))
    message = await receive()
    note("receive", (message["type"], message["text"]))
    await leave()
    message = await receive()
    note("disconnect", (message["type"], message["code"]))
    late = await outcome(lambda: send(text("late")))
    note("late", late)
    if (
        "websocket.close" in late
    ):  # a close to a client that left is refused or not: a race in uvicorn
        note("close late", await outcome(lambda: send({"type": "websocket.close"})))


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsmanager.uvicorn:WebSocketProtocol"])
@pytest.mark.parametrize("who", ["server", "client"])
async def test_asgi_story(who: str, ws: str) -> None:
    real: dict[str, Any] = {}
    fake: dict[str, Any] = {}
    told, over = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def leave() -> None:
            if who == "server":
                await send({"type": "websocket.close", "code": 4001, "reason": "why"})
            else:
                told.set()

        try:
            await asgi_story(receive, send, leave, real.__setitem__)
        finally:
            over.set()

    with UvicornServer(app, ws=ws) as server:
        client = await connect(server.url, subprotocols=["chat"])
        assert await client.recv() == "one"
        await client.send("hello")
        if who == "client":
            await eventually(told.is_set)
            await client.close(4002)
        else:
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (4001, "why")
        await eventually(over.is_set)

    pretended = FakeAsgi(subprotocols=["chat"])
    pretended.push("hello")

    async def leave() -> None:
        if who == "server":
            await pretended.send({"type": "websocket.close", "code": 4001, "reason": "why"})
        else:
            pretended.disconnect(4002)

    await asgi_story(pretended.receive, pretended.send, leave, fake.__setitem__)
    assert pretended.messages == ["one"]
    assert pretended.subprotocol == "chat"
    assert pretended.closed_with == ((4001, "why") if who == "server" else None)
    assert fake == real


async def starlette_story(ws: Any, leave: Callable[[], Awaitable[None]], note: Note) -> None:
    note("send early", await outcome(lambda: ws.send_text("early")))
    await ws.accept()
    note("states", (ws.client_state.name, ws.application_state.name))
    note("send", await outcome(lambda: ws.send_json({"a": 1})))
    note("receive", await outcome(ws.receive_text))
    await leave()
    note("after: receive", await outcome(ws.receive_text))
    note("after: states", (ws.client_state.name, ws.application_state.name))
    note("after: send", await outcome(lambda: ws.send_text("late")))
    note("after: send again", await outcome(lambda: ws.send_text("late")))
    note("after: close", await outcome(ws.close))


@pytest.mark.parametrize("who", ["server", "client"])
async def test_starlette_story(who: str) -> None:
    real: dict[str, Any] = {}
    fake: dict[str, Any] = {}
    told, over = threading.Event(), threading.Event()
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        async def leave() -> None:
            if who == "server":
                await websocket.close(4001, "why")
            else:
                told.set()

        try:
            await starlette_story(websocket, leave, real.__setitem__)
        finally:
            over.set()

    with UvicornServer(app) as server:
        client = await connect(server.url)
        assert await client.recv() == '{"a":1}'
        await client.send("hello")
        if who == "client":
            await eventually(told.is_set)
            await client.close(4002, "why")
        else:
            await client.wait_closed()
        await eventually(over.is_set)

    pretended = FakeStarlette(accepted=False)
    pretended.push("hello")

    async def leave() -> None:
        if who == "server":
            await pretended.close(4001, "why")
        else:
            pretended.disconnect(4002, "why")

    await starlette_story(pretended, leave, fake.__setitem__)
    assert pretended.messages == ['{"a":1}']
    assert fake == real
    assert isinstance(pretended, WebSocket)


async def test_a_refused_handshake_is_seen_as_a_client_sees_it() -> None:
    """A close before the accept is HTTP 403: no code arrives."""
    early = FakeStarlette(accepted=False)
    await early.close(4401, "who are you")
    assert early.server.status == 403
    assert early.closed_with == (1006, "")


# -- faults


async def test_clients_with_faults_harm_themselves_only() -> None:
    manager = get_websocket_manager("ann")
    healthy = FakeText()
    hanging = HangingClient()
    failing = FailingClient(ValueError("no"), times=1)
    closing = ClosingClient(after=1)
    calls: list[int] = []
    reentrant = ReentrantClient(lambda: calls.append(len(manager)))
    slow = slow_client(1_000_000)
    for client in (hanging, failing, closing, reentrant, slow, healthy):
        manager.add_connection(client)
    for number in range(3):
        manager.emit_event("step", {"n": number})
    await eventually(lambda: len(healthy.events) == 3 and len(slow.events) == 3)
    assert [event["payload"]["n"] for event in reentrant.events] == [0, 1, 2]
    assert calls == [6]
    assert [event["payload"]["n"] for event in failing.events] == [1, 2]
    assert len(closing.events) == 1
    assert manager.get_connection_id_by_websocket(closing) is None
    assert hanging.events == [] and hanging.entered == 1
    hanging.release()
    await eventually(lambda: len(hanging.events) == 3)


async def test_a_slow_client_takes_as_long_as_it_says() -> None:
    slow = slow_client(10_000)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await slow.send_text("x" * 1000)
    assert loop.time() - start >= 0.1 - 0.01
    with pytest.raises(ValueError, match="above 0"):
        slow_client(0)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before + 8  # the default executor's
