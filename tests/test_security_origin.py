"""The origin check: exact, same-origin by default, and nothing hostile gets through it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from fastapi import FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.loops import LoopThread
from support.servers import UvicornServer, WebsocketsServer
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus

from wsmanager.security import check_origin
from wsmanager.testing import FakeStarlette

APP = "https://app.example.com"


def scope(*headers: tuple[str, str], scheme: str = "wss") -> dict[str, Any]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "websocket", "scheme": scheme, "headers": raw}


def says(origin: str, allowed: Iterable[str]) -> bool:
    return check_origin({"origin": origin}, allowed)


@pytest.mark.parametrize(
    ("origin", "allowed", "expected"),
    [
        (APP, [APP], True),
        ("https://APP.example.com", [APP], True),
        ("https://app.example.com:443", [APP], True),
        (APP, ["https://app.example.com:443"], True),
        ("http://localhost:5173", ["http://localhost:5173"], True),
        ("http://[::1]:8000", ["http://[::1]:8000"], True),
        ("capacitor://localhost", ["capacitor://localhost"], True),
        ("http://app.example.com", [APP], False),
        ("https://app.example.com:8443", [APP], False),
        ("https://app.example.com.evil.com", [APP], False),
        ("https://evilapp.example.com", [APP], False),
        ("https://app.example.com.", [APP], False),
        ("https://app.example.com/", [APP], False),
        ("https://app.example.com/path", [APP], False),
        ("https://user@app.example.com", [APP], False),
        ("https://app.example.com@evil.com", [APP], False),
        ("https://app.example.com:0443", [APP], True),
        ("https://app.example.com:99999", [APP], False),
        ("https://app.example.com:0", [APP], False),
        ("https://app.example.com, https://evil.com", [APP], False),
        ("https://app.example.com https://evil.com", [APP], False),
        ("https://аpp.example.com", [APP], False),
        ("https://app.example.com\x00.evil.com", [APP], False),
        ("//app.example.com", [APP], False),
        ("app.example.com", [APP], False),
        ("", [APP], False),
        ("*", [APP], False),
        ("null", [APP], False),
        ("https://a.example.com", ["https://*.example.com"], True),
        ("https://a.b.example.com", ["https://*.example.com"], True),
        ("https://example.com", ["https://*.example.com"], False),
        ("https://.example.com", ["https://*.example.com"], False),
        ("https://evilexample.com", ["https://*.example.com"], False),
        ("http://a.example.com", ["https://*.example.com"], False),
        ("https://a.example.com:8443", ["https://*.example.com"], False),
        ("https://a.example.com:8443", ["https://*.example.com:8443"], True),
        (APP, [], False),
    ],
)
def test_table(origin: str, allowed: list[str], expected: bool) -> None:
    assert says(origin, allowed) is expected


def test_no_origin_and_null_are_refused_unless_told() -> None:
    assert not check_origin({}, [APP])
    assert check_origin({}, [APP], allow_missing=True)
    assert check_origin({"Origin": "null"}, [APP], allow_null=True)
    assert not check_origin({"Origin": "null"}, [APP], allow_missing=True)
    assert not check_origin({"Origin": ""}, [APP], allow_missing=True)
    assert not check_origin(scope(("origin", APP), ("origin", APP)), [APP]), "two of them"


@pytest.mark.parametrize(
    ("headers", "scheme", "expected"),
    [
        ([("host", "app.example.com"), ("origin", APP)], "wss", True),
        ([("host", "app.example.com:443"), ("origin", APP)], "wss", True),
        ([("host", "APP.example.com"), ("origin", APP)], "wss", True),
        ([("host", "localhost:8000"), ("origin", "http://localhost:8000")], "ws", True),
        ([("host", "[::1]:8000"), ("origin", "http://[::1]:8000")], "ws", True),
        ([("host", "app.example.com"), ("origin", "http://app.example.com")], "wss", False),
        ([("host", "app.example.com"), ("origin", APP)], "ws", False),
        ([("host", "app.example.com:8443"), ("origin", APP)], "wss", False),
        ([("host", "evil.com"), ("origin", APP)], "wss", False),
        ([("origin", APP)], "wss", False),
        ([("host", "app.example.com"), ("host", "evil.com"), ("origin", APP)], "wss", False),
        ([("host", "app.example.com, evil.com"), ("origin", APP)], "wss", False),
        ([("host", ""), ("origin", APP)], "wss", False),
        ([("host", "internal"), ("x-forwarded-host", "app.example.com"), ("origin", APP)], "wss", False),
    ],
)  # fmt: skip
def test_same_origin(headers: list[tuple[str, str]], scheme: str, expected: bool) -> None:
    assert check_origin(scope(*headers, scheme=scheme)) is expected


def test_a_forwarded_host_counts_only_when_told() -> None:
    forwarded = ("x-forwarded-host", "app.example.com")
    told = scope(("host", "10.0.0.7"), forwarded, ("origin", APP))
    assert check_origin(told, trust_forwarded_host=True)
    assert not check_origin(told)
    listed = scope(("x-forwarded-host", "app.example.com, evil.com"), ("origin", APP))
    assert not check_origin(listed, trust_forwarded_host=True)
    own = scope(("host", "evil.com"), forwarded, ("origin", "https://evil.com"))
    assert not check_origin(own, trust_forwarded_host=True)


@pytest.mark.parametrize(
    "entry",
    [
        "*", "app.example.com", "https://", "https://*", "https://*.com", "https://*.", "https://a*.b.com",
        "https://app.example.com/", "https://app.example.com/x", "https://ü.example.com",
        "https://a b", "null", "", "https://*.*.com", "https://a.com:x",
    ],
)  # fmt: skip
def test_an_entry_that_is_no_origin_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        says(APP, [entry])


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(TypeError, match="not one string"):
        says(APP, APP)
    with pytest.raises(TypeError, match="is a str"):
        says(APP, [b"https://app.example.com"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="headers alone"):
        check_origin({"origin": APP, "host": "app.example.com"})
    for wrong in (None, 5, "text", object(), [1, 2]):
        with pytest.raises(TypeError):
            check_origin(wrong, [APP])
    with pytest.raises(TypeError, match="give its request"):
        check_origin(web.WebSocketResponse(), [APP])


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.builds(
            "{}{}{}{}".format,
            st.sampled_from(["https://", "http://", "HTTPS://", "", "https:/", "null", "ws://"]),
            st.sampled_from(["", "a.", "evil.com@", "evil.com#", "evil.com\\@", "*.", "..", "app"]),
            st.sampled_from(["app.example.com", "example.com", "example.com.evil.com", "xample.com"]),
            st.sampled_from(["", ":443", ":80", ":", "/", "?", "#x", ".", ":443:443", " ", "\t", "\r\n"]),
        ),
    )
)  # fmt: skip
@example("https://app.example.com\n")
@example("https://app.example.com:٤٤٣")
def test_what_is_let_in_is_the_allowed_origin(origin: str) -> None:
    """Whatever the header says: where the check says yes, the URL's own parser agrees."""
    try:
        let_in = says(origin, [APP, "https://*.example.com"])
    except ValueError:
        pytest.fail("a hostile header is no error")
    if let_in:
        parsed = urlsplit(origin.strip(" \t"))
        assert parsed.scheme == "https"
        assert parsed.port in (None, 443)
        assert parsed.hostname is not None and parsed.hostname.endswith(".example.com")
        assert parsed.username is None and not (parsed.path or parsed.query or parsed.fragment)


def test_fakes_and_starlette_are_sources() -> None:
    websocket = FakeStarlette(headers=[("Origin", "http://testserver")])
    assert check_origin(websocket)
    assert not check_origin(FakeStarlette(headers=[("Origin", "http://evil.com")]))


async def test_on_a_real_server_where_cors_lets_everything_through() -> None:
    """The page of another site gets in past a CORS middleware that allows nothing, not past the check."""
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=[], allow_credentials=True)

    @app.websocket("/checked")
    async def checked(websocket: WebSocket) -> None:
        if not check_origin(websocket):
            await websocket.close()
            return
        await websocket.accept()
        await websocket.send_text("welcome")

    @app.websocket("/unchecked")
    async def unchecked(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("welcome")

    with UvicornServer(app) as server:
        base = f"ws://127.0.0.1:{server.port}"
        async with connect(f"{base}/unchecked", origin="https://evil.com") as client:  # type: ignore[arg-type]
            assert await client.recv() == "welcome", "the control: CORS never sees a WebSocket"
        async with connect(f"{base}/checked", origin=server.http) as client:  # type: ignore[arg-type]
            assert await client.recv() == "welcome"
        for origin in ("https://evil.com", None, "null", f"https://127.0.0.1:{server.port}"):
            with pytest.raises(InvalidStatus):
                await connect(f"{base}/checked", origin=origin)  # type: ignore[arg-type]


async def test_websockets_and_aiohttp_are_sources() -> None:
    async def answer(connection: ServerConnection) -> None:
        await connection.send(str(check_origin(connection)))

    with WebsocketsServer(handler=answer) as server:
        own = f"http://127.0.0.1:{server.port}"
        for origin, expected in ((own, "True"), ("http://evil.com", "False"), (None, "False")):
            async with connect(server.url, origin=origin) as client:  # type: ignore[arg-type]
                assert await client.recv() == expected

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_str(str(check_origin(request)))
        return websocket

    with LoopThread() as thread:

        async def start() -> web.AppRunner:
            app = web.Application()
            app.router.add_get("/ws", handler)
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        runner = thread.run(start())
        port = runner.addresses[0][1]
        for origin, expected in (
            (f"http://127.0.0.1:{port}", "True"),
            ("http://evil.com", "False"),
        ):
            async with connect(f"ws://127.0.0.1:{port}/ws", origin=origin) as client:  # type: ignore[arg-type]
                assert await client.recv() == expected
        thread.run(runner.cleanup())
