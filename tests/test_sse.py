"""Server-sent events: the same stream as by WebSocket, over plain HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.responses import Response
from support.browser import Browser, chromium
from support.events import source
from support.ledger import faults
from support.servers import UvicornServer
from support.sockets import StarletteSocket
from support.stream_app import Storm, stream_app
from support.waiting import eventually
from websockets.asyncio.client import connect

import wsmanager
from wsmanager import InvalidUserContext, get_websocket_manager
from wsmanager._hooks import core
from wsmanager.sse import EventStream, _event


@asynccontextmanager
async def serving(app: Any = None, **config: Any) -> AsyncIterator[UvicornServer]:
    server = UvicornServer(app or stream_app(), lifespan="auto", **config)
    await asyncio.to_thread(server.__enter__)
    try:
        yield server
    finally:
        wsmanager.reset_manager_registry()
        await asyncio.to_thread(server.__exit__)


def plain(user: str, **options: Any) -> Any:
    """The same without a framework."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await EventStream(user, **options)(scope, receive, send)

    return app


# -- the stream -----------------------------------------------------------------


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("app", ["fastapi", "asgi"])
async def test_the_same_events_as_by_websocket(http: str, app: str) -> None:
    pytest.importorskip(http)
    async with serving(stream_app() if app == "fastapi" else plain("ann"), http=http) as server:
        manager = get_websocket_manager("ann")
        twin = StarletteSocket()
        async with source(f"{server.http}/events?user=ann") as stream:
            response = stream.response
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["x-accel-buffering"] == "no"
            (first,) = await stream.events(1)
            assert first["type"] == "resumed"
            assert stream.last_id == first["payload"]["position"]
            assert stream.retry is not None
            manager.add_connection(twin)
            for n in range(5):
                await asyncio.to_thread(
                    manager.emit_event, "x", {"n": n, "text": "a\nb\r\ré\u2028"}
                )
            events = await stream.events(5)
            await eventually(lambda: len(twin.events) == 5)
            assert events == twin.events
            assert stream.last_id == events[-1]["id"] == manager.position
        await eventually(lambda: len(manager) == 1, 10)


async def test_it_resumes_by_last_event_id_and_by_the_url() -> None:
    async with serving() as server:
        manager = get_websocket_manager("ann")
        url = f"{server.http}/events?user=ann"
        async with source(url) as stream:
            await stream.events(1)
            manager.emit_event("x", {"n": 1})
            await stream.events(1)
            position = stream.last_id
        await eventually(lambda: len(manager) == 0, 10)
        for n in (2, 3):
            manager.emit_event("x", {"n": n})
        for options in (
            {"last_event_id": position},
            {"params": {"user": "ann", "resume": position}},
        ):
            async with source(url, **options) as stream:  # type: ignore[arg-type]
                first, *events = await stream.events(3)
                assert first["payload"]["recovered"] is True
                assert [event["payload"]["n"] for event in events] == [2, 3]
                assert stream.last_id == manager.position
        async with source(url, last_event_id="forged:1") as stream:
            (first,) = await stream.events(1)
            assert first["payload"]["recovered"] is False
            # From here on, also if the link ends before another event comes.
            assert stream.last_id == first["payload"]["position"] == manager.position


async def test_a_position_is_good_for_either_way() -> None:
    async with serving() as server:
        manager = get_websocket_manager("ann")
        async with source(f"{server.http}/events?user=ann") as stream:
            await stream.events(1)
            manager.emit_event("x", {"n": 1})
            await stream.events(1)
            position = stream.last_id
        manager.emit_event("x", {"n": 2})
        async with connect(f"{server.url}?user=ann&resume={position}") as client:
            assert json.loads(await client.recv())["payload"]["recovered"] is True
            event = json.loads(await client.recv())
            assert event["payload"]["n"] == 2
        manager.emit_event("x", {"n": 3})
        async with source(f"{server.http}/events?user=ann", event["id"]) as stream:
            _, last = await stream.events(2)
            assert last["payload"]["n"] == 3


async def test_silence_is_filled_with_comments() -> None:
    path = "/events?user=ann&heartbeat=0.05"
    async with serving() as server, source(server.http + path) as stream:
        await stream.events(1)
        waiting = asyncio.ensure_future(stream.events(1))
        await eventually(lambda: stream.comments >= 3)
        get_websocket_manager("ann").emit_event("x", {})
        assert (await waiting)[0]["type"] == "x"


def test_an_event_as_it_is_written() -> None:
    assert _event('{"type":"x","id":"e:1"}') == 'id: e:1\ndata: {"type":"x","id":"e:1"}\n\n'
    assert _event('{"type":"x"}') == 'data: {"type":"x"}\n\n'
    assert _event('{"id":"a\\nb"}') == 'data: {"id":"a\\nb"}\n\n', "no id with a line feed"
    assert _event('{"id":"a\\u0000"}') == 'data: {"id":"a\\u0000"}\n\n'
    assert _event('{"id":5}') == 'data: {"id":5}\n\n'
    assert _event('{"type":\n"x"\r\n,\r"id":"e:1"}') == (
        'id: e:1\ndata: {"type":\ndata: "x"\ndata: ,\ndata: "id":"e:1"}\n\n'
    )


# -- both sides leave -----------------------------------------------------------


@pytest.mark.parametrize("app", ["fastapi", "asgi"])
async def test_a_client_that_leaves_is_unregistered_without_an_event(app: str) -> None:
    async with serving(stream_app() if app == "fastapi" else plain("ann")) as server:
        manager = get_websocket_manager("ann")
        async with source(f"{server.http}/events?user=ann") as stream:
            await stream.events(1)
            assert len(manager) == 1
        await eventually(lambda: len(manager) == 0, 10)


async def test_behind_a_middleware_too() -> None:
    app = stream_app()

    @app.middleware("http")
    async def named(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-named"] = "1"
        return response

    async with serving(app) as server:
        manager = get_websocket_manager("ann")
        async with source(f"{server.http}/events?user=ann") as stream:
            assert stream.response.headers["x-named"] == "1"
            await stream.events(1)
            manager.emit_event("x", {"n": 1})
            await stream.events(1)
        await eventually(lambda: len(manager) == 0, 10)


async def test_the_server_ends_it_for_now_or_for_good() -> None:
    async with serving() as server:
        manager = get_websocket_manager("ann")
        for code, reason, expected in [
            (1012, "service restart; retry-after=1.5", ("end", None)),
            (4401, "logged out", ("close", {"code": 4401, "reason": "logged out"})),
            (1000, "a\nb", ("close", {"code": 1000, "reason": "a\nb"})),
        ]:
            async with source(f"{server.http}/events?user=ann") as stream:
                await stream.events(1)
                manager.close_all_connections(code, reason)
                assert await asyncio.wait_for(stream.message(), 10) == expected
                assert await asyncio.wait_for(stream.message(), 10) == ("end", None)
                if code == 1012:
                    assert stream.retry == 1500


async def test_each_stream_has_a_time_of_its_own_to_come_back() -> None:
    async with serving(plain("ann", retry=4.0)) as server:
        seen = set()
        for _ in range(6):
            async with source(server.http) as stream:
                await stream.events(1)
                assert stream.retry is not None
                assert 2000 <= stream.retry <= 6000
                seen.add(stream.retry)
        assert len(seen) > 1


async def test_no_more_than_the_limit_and_none_while_draining() -> None:
    async with serving() as server:
        wsmanager.configure(max_connections_per_user=1)
        url = f"{server.http}/events?user=ann"
        async with source(url) as stream:
            await stream.events(1)
            async with source(url) as second:
                assert second.response.status_code == 429
                assert second.response.headers["retry-after"] == "30"
                assert await second.response.aread() == b"too many requests\n"
        core._drain(True)
        async with source(url) as refused:
            assert refused.response.status_code == 503
            assert int(refused.response.headers["retry-after"]) >= 1


async def test_head_has_the_headers_only() -> None:
    async with serving(plain("ann")) as server, httpx.AsyncClient() as http:
        answer = await http.head(server.http)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert len(get_websocket_manager("ann")) == 0


def test_wrong_arguments_are_errors_at_once() -> None:
    with pytest.raises(InvalidUserContext):
        EventStream("")
    for wrong in ({"heartbeat": 0}, {"retry": -1}):
        with pytest.raises(ValueError, match="above 0"):
            EventStream("ann", **wrong)  # type: ignore[arg-type]
    response = EventStream("ann", headers={"X-Extra": "1"})
    assert isinstance(response, Response)
    response.set_cookie("a", "b")
    assert response.headers["x-extra"] == "1"


# -- a client that does not read ------------------------------------------------


async def test_a_client_that_does_not_read_is_cut_and_bounded() -> None:
    """The rules for slow consumers hold: it is removed, and the others get everything."""
    async with serving() as server:
        wsmanager.configure(outbox_max_bytes=200_000, outbox_max_age=60.0)
        manager = get_websocket_manager("ann")
        with socket.create_connection(("127.0.0.1", server.port)) as frozen:
            frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            frozen.sendall(b"GET /events?user=ann HTTP/1.1\r\nhost: x\r\n\r\n")
            await eventually(lambda: len(manager) == 1, 10)
            async with source(f"{server.http}/events?user=ann") as healthy:
                await healthy.events(1)
                count = 0
                while len(manager) == 2:
                    manager.emit_event("x", {"n": count, "pad": "x" * 20_000})
                    (event,) = await healthy.events(1)
                    assert event["payload"]["n"] == count
                    count += 1
                    assert count < 2000, "it was never removed"
                manager.emit_event("x", {"n": -1})
                (event,) = await healthy.events(1)
                assert event["payload"]["n"] == -1
                assert len(manager) == 1


async def test_events_and_comments_never_mix() -> None:
    """A send that suspends, with a heartbeat due all the time: each piece is whole, one at a time."""
    writing = 0
    pieces: list[bytes] = []

    async def send(message: Any) -> None:
        nonlocal writing
        if message["type"] == "http.response.body":
            assert writing == 0, "two writers at once"
            writing += 1
            await asyncio.sleep(0.003)
            writing -= 1
            pieces.append(message["body"])

    gone = asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    stream = EventStream("ann", heartbeat=0.001)
    scope = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
    serving = asyncio.ensure_future(stream(scope, receive, send))
    manager = get_websocket_manager("ann")
    await eventually(lambda: len(manager) == 1)
    for n in range(30):
        manager.emit_event("x", {"n": n})
        if n % 10 == 0:
            comments = pieces.count(b":\n\n")
            await eventually(lambda: pieces.count(b":\n\n") > comments)  # noqa: B023
    await eventually(lambda: b'"n":29' in b"".join(pieces))
    gone.set()
    await serving
    text = b"".join(pieces).decode()
    numbers = [
        json.loads(line[6:])["payload"]["n"] for line in text.splitlines()
        if line.startswith("data: ") and '"type":"x"' in line
    ]  # fmt: skip
    assert numbers == list(range(30))


async def test_cancelled_by_the_server_it_leaves_nothing() -> None:
    async def send(message: Any) -> None:
        pass

    async def receive() -> Any:
        await asyncio.get_running_loop().create_future()

    scope = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
    serving = asyncio.ensure_future(EventStream("ann")(scope, receive, send))
    manager = get_websocket_manager("ann")
    await eventually(lambda: len(manager) == 1)
    before = asyncio.all_tasks()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert len(manager) == 0
    await eventually(lambda: len(asyncio.all_tasks()) <= len(before) - 1)


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), OSError("gone")])
async def test_a_send_that_says_gone_ends_it(error: OSError) -> None:
    alive = True

    async def send(message: Any) -> None:
        if not alive:
            raise error

    async def receive() -> Any:
        await asyncio.get_running_loop().create_future()

    scope = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
    serving = asyncio.ensure_future(EventStream("ann")(scope, receive, send))
    manager = get_websocket_manager("ann")
    await eventually(lambda: len(manager) == 1)
    alive = False
    manager.emit_event("x", {})
    await asyncio.wait_for(serving, 5)
    assert len(manager) == 0


def test_without_starlette_it_is_a_plain_application(isolated: Any) -> None:
    isolated("""
import asyncio, sys
sys.modules["starlette"] = sys.modules["starlette.responses"] = None
from wsmanager import get_websocket_manager
from wsmanager.sse import EventStream
assert EventStream.__mro__[1:] == (object,), EventStream.__mro__
async def main():
    sent = []
    async def send(message): sent.append(message)
    async def receive():
        await asyncio.sleep(0.05)
        get_websocket_manager("ann").emit_event("x", {"n": 1})
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}
    scope = {"type": "http", "method": "GET", "headers": [], "query_string": b""}
    await EventStream("ann")(scope, receive, send)
    text = b"".join(m.get("body", b"") for m in sent).decode()
    assert '"n":1' in text and sent[0]["status"] == 200, sent
asyncio.run(main())
""")


# -- a browser's own EventSource ------------------------------------------------


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(tmp_path) as running:
        yield running


async def test_an_eventsource_resumes_by_itself(browser: Browser) -> None:
    async with serving() as server:
        manager = get_websocket_manager("ann")
        page = await browser.open(f"{server.http}/?user=none")
        await page.evaluate(
            "void (window.seen = [], window.source = new EventSource('/events?user=ann'),"
            "source.onmessage = (m) => { const e = JSON.parse(m.data);"
            "if (e.type === 'n') seen.push(['event', e.payload.n]);"
            "else if (e.type === 'resumed' && seen.length && !e.payload.recovered) seen.push(['gap', e.payload]); },"
            "source.addEventListener('close', () => source.close()))"
        )
        await eventually(lambda: len(manager) == 1, 10)
        with Storm("ann", 0.002) as storm:
            for _ in range(5):
                seen = storm.last
                await page.until(f"seen.length && seen.at(-1)[1] > {seen}")
                manager.close_all_connections(1012, "service restart; retry-after=0.02")
        manager.emit_event("n", {"n": storm.last + 1})
        last = storm.last + 1
        await page.until(f"seen.at(-1)[1] === {last}", 30)
        assert faults(await page.evaluate("seen"), last) == []
        await eventually(lambda: len(manager) == 1)
        manager.close_all_connections(4401, "logged out")
        await page.until("source.readyState === EventSource.CLOSED")
