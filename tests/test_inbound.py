"""What clients say: their position on the way in, and the four messages of the package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.websockets import WebSocket
from support.loops import LoopThread
from support.servers import UvicornServer, WebsocketsServer
from support.sockets import StarletteSocket
from support.stream_app import stream_app
from support.waiting import eventually, eventually_sync
from websockets.asyncio.client import connect

from wsmanager import ResumeError, get_websocket_manager
from wsmanager.inbound import handle_client_message
from wsmanager.resume import receive_resume, resume_token

POSITION = "00ff00ff00ff00ff:12"


def scope(query: str, kind: str = "websocket") -> dict[str, Any]:
    return {"type": kind, "query_string": query.encode(), "headers": [], "path": "/ws"}


async def nothing(*args: Any) -> Any:
    raise AssertionError("not to be called")


# -- the position in the URL ----------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", None), ("user=ann", None), ("resume=", ""), ("resume", ""), ("xresume=1", None),
        (f"resume={POSITION}", POSITION), ("user=a&resume=00ff%3A3&x=1", "00ff:3"),
        ("resume=a%20b+c", "a b c"), ("r%65sume=a:1", "a:1"), ("resume=a:1&resume=b:2", "a:1"),
        ("resume=%ff", "\ufffd"), ("&&=&resume=x", "x"),
    ],
)  # fmt: skip
def test_the_token_is_found_in_every_shape(query: str, expected: str | None) -> None:
    raw = scope(query)
    path = f"/ws?{query}" if query else "/ws"
    shapes: list[Any] = [
        raw,
        WebSocket(raw, nothing, nothing),
        Request(scope(query, "http")),
        SimpleNamespace(request=SimpleNamespace(path=path)),
        SimpleNamespace(path_qs=path),
    ]
    assert [resume_token(shape) for shape in shapes] == [expected] * len(shapes)


def test_another_parameter_and_an_object_without_a_url() -> None:
    assert resume_token(scope("from=a:1"), parameter="from") == "a:1"
    for thing in (object(), "/ws?resume=a:1", {"path": "/ws"}):
        with pytest.raises(TypeError, match="does not lead to its URL"):
            resume_token(thing)


async def test_of_a_real_connection_of_websockets_and_request_of_aiohttp() -> None:
    tokens: list[str | None] = []

    async def handler(connection: Any) -> None:
        tokens.append(resume_token(connection))

    with WebsocketsServer(handler=handler) as server:
        async with connect(f"{server.url}?user=a&resume={POSITION}") as client:
            await client.wait_closed()

    async def page(request: web.Request) -> web.Response:
        tokens.append(resume_token(request))
        return web.Response()

    from aiohttp.test_utils import TestClient, TestServer

    app = web.Application()
    app.router.add_get("/", page)
    async with TestClient(TestServer(app)) as http:
        await http.get(f"/?resume={POSITION}")
    assert tokens == [POSITION, POSITION]


# -- the position in the first message ------------------------------------------


class First:
    """A socket whose client says one thing, by one of the ways to receive."""

    def __init__(self, text: object, method: str = "receive_text") -> None:
        self.text = text
        setattr(self, method, self._receive)

    async def _receive(self) -> object:
        if isinstance(self.text, BaseException):
            raise self.text
        return self.text


def asgi(*messages: dict[str, Any]) -> Callable[[], Any]:
    queue = list(messages)

    async def receive() -> dict[str, Any]:
        return queue.pop(0)

    return receive


HELLO = json.dumps({"type": "resume", "position": POSITION})


@pytest.mark.parametrize("method", ["receive_text", "receive_str", "recv"])
async def test_the_first_message_by_each_librarys_way(method: str) -> None:
    assert await receive_resume(First(HELLO, method)) == POSITION
    assert await receive_resume(First(HELLO.encode(), method)) == POSITION
    for empty in ('{"type":"resume"}', '{"type":"resume","position":null}'):
        assert await receive_resume(First(empty, method)) == ""


async def test_the_first_message_of_a_plain_asgi_application() -> None:
    accept = {"type": "websocket.connect"}
    assert (
        await receive_resume(asgi(accept, {"type": "websocket.receive", "text": HELLO})) == POSITION
    )
    both = {"type": "websocket.receive", "text": None, "bytes": HELLO.encode()}
    assert await receive_resume(asgi(both)) == POSITION
    with pytest.raises(ResumeError, match="left"):
        await receive_resume(asgi({"type": "websocket.disconnect", "code": 1001}))
    with pytest.raises(TypeError, match="receive"):
        await receive_resume(object())


@pytest.mark.parametrize(
    "text",
    ["", "hello", "[]", "5", '{"position":"a:1"}', '{"type":"ack","id":"a:1"}', '{"type":5}',
     "{" * 500, b"\xff\xfe", '{"type":"resume","position":"' + "x" * 2000 + '"}', KeyError("text")],
)  # fmt: skip
async def test_another_first_message_is_an_error(text: object) -> None:
    with pytest.raises(ResumeError, match="first message"):
        await receive_resume(First(text))


async def test_a_silent_client_and_one_that_leaves() -> None:
    class Silent:
        async def receive_text(self) -> str:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    with pytest.raises(ResumeError, match=r"within 0\.05 seconds"):
        await receive_resume(Silent(), timeout=0.05)
    waiting = asyncio.ensure_future(receive_resume(Silent()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ConnectionResetError):
        await receive_resume(First(ConnectionResetError("gone")))


# -- the four messages ----------------------------------------------------------


async def test_ping_is_answered_on_its_own_connection_only() -> None:
    manager = get_websocket_manager("ann")
    one, two = StarletteSocket(), StarletteSocket()
    connection_id = manager.add_connection(one)
    manager.add_connection(two)
    assert handle_client_message(manager, connection_id, '{"type":"ping"}') is True
    assert handle_client_message(manager, connection_id, b' {"type": "ping", "x": 1} ') is True
    assert one.types == ["pong", "pong"]
    assert two.types == []


async def test_an_answer_to_one_connection_is_not_kept_for_others() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    connection_id = manager.add_connection(socket, resume="")
    position = manager.position
    for _ in range(5):
        handle_client_message(manager, connection_id, '{"type":"ping"}')
    manager.emit_event("x", {"n": 1})
    back = StarletteSocket()
    manager.add_connection(back, resume=position)
    await eventually(lambda: back.types == ["resumed", "x"])


async def test_ack_acknowledges_the_event() -> None:
    manager = get_websocket_manager("ann")
    connection_id = manager.add_connection(StarletteSocket())
    delivery = manager.emit_event("x", {}, ack=True)
    waiting = delivery.acked(5)
    other = get_websocket_manager("bob")
    ack = json.dumps({"type": "ack", "id": delivery.id})
    assert handle_client_message(other, "none", ack) is True
    await asyncio.sleep(0)
    assert not waiting.done(), "another user's acknowledgement"
    assert handle_client_message(manager, connection_id, ack) is True
    assert await waiting is True


async def test_a_late_resume_is_told_so() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    connection_id = manager.add_connection(socket)
    position = manager.position
    assert handle_client_message(manager, connection_id, HELLO) is True
    (event,) = socket.events
    assert event["type"] == "resumed"
    assert event["payload"]["recovered"] is False
    assert event["payload"]["position"] == position
    assert event["payload"]["replayed"] == 0
    assert "before its resume message" in event["payload"]["reason"]


@pytest.mark.parametrize(
    "text",
    ["", "run", "[]", "null", '"ping"', '{"type":"ack"}', '{"type":"ack","id":5}', '{"type":"chat"}',
     '{"type":null}', "{", '{"type":"ping"}' + " " * 2000, b"\xff", "[" * 1000,
     '{"a":' * 150 + "1" + "}" * 150],
)  # fmt: skip
async def test_anything_else_is_the_applications(text: str | bytes) -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    connection_id = manager.add_connection(socket)
    assert handle_client_message(manager, connection_id, text) is False
    assert socket.texts == []


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_nothing_a_client_sends_raises(text: str | bytes) -> None:
    manager = get_websocket_manager("ann")
    for message in (
        text,
        json.dumps({"type": "ack", "id": str(text)}),
        json.dumps({"type": str(text)}),
    ):
        assert handle_client_message(manager, "nobody", message) in (True, False)


@pytest.mark.parametrize("text", ['{"type":"ack","id":"\\ud800"}', '{"type":"ack","id":"\\u0000"}',
                                  '{"type":"ping"}', '{"type":"pong"}', HELLO])  # fmt: skip
async def test_for_a_connection_that_has_left_it_is_still_ours(text: str) -> None:
    manager = get_websocket_manager("ann")
    connection_id = manager.add_connection(StarletteSocket())
    manager.remove_connection(connection_id)
    assert handle_client_message(manager, connection_id, text) is True


def test_from_another_thread() -> None:
    manager = get_websocket_manager("ann")
    socket = StarletteSocket()
    with LoopThread() as loop:
        connection_id = loop.call(manager.add_connection, socket)
        assert handle_client_message(manager, connection_id, '{"type":"ping"}') is True
        eventually_sync(lambda: socket.types == ["pong"])


# -- over a real server ---------------------------------------------------------


async def test_both_ways_over_a_real_server() -> None:
    with UvicornServer(stream_app(), lifespan="on") as server:
        manager = get_websocket_manager("ann")
        async with connect(f"{server.url}?user=ann&resume=") as client:
            first = json.loads(await client.recv())
            await client.send('{"type":"ping"}')
            assert json.loads(await client.recv())["type"] == "pong"
            await client.send("mine")
            assert await client.recv() == "echo:mine"
        manager.emit_event("n", {"n": 1})
        position = first["payload"]["position"]
        async with connect(f"{server.url}?user=ann&resume={position}") as client:
            assert json.loads(await client.recv())["payload"]["recovered"] is True
            assert json.loads(await client.recv())["payload"] == {"n": 1}
        async with connect(f"{server.url}?user=ann&by=message") as client:
            await client.send(json.dumps({"type": "resume", "position": position}))
            assert json.loads(await client.recv())["payload"]["replayed"] == 1
            assert json.loads(await client.recv())["payload"] == {"n": 1}
