"""Credentials out of subprotocols and first messages, of all libraries, and of clients that mean harm."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from hypothesis import given, settings
from hypothesis import strategies as st
from support.servers import UvicornServer
from websockets.asyncio.client import connect

from wsmanager.security import (
    AsgiWebSocket,
    InvalidCredential,
    first_message_credential,
    offered_protocols,
    protocol_to_accept,
    reject,
    subprotocol_credential,
)
from wsmanager.testing import FakeAiohttp, FakeAsgi, FakeStarlette, FakeText, FakeWebsockets

AUTH = json.dumps({"type": "auth", "token": "abc"})


@pytest.mark.parametrize(
    ("header", "token", "accepted"),
    [
        ("chat.v1, wsmanager.ticket.abc", "abc", "chat.v1"),
        ("wsmanager.ticket.abc,chat.v1", "abc", "chat.v1"),
        ("wsmanager.ticket.abc", "abc", "wsmanager.ticket.abc"),
        ("chat.v1", None, "chat.v1"),
        ("wsmanager.ticket.", None, "wsmanager.ticket."),
        ("wsmanager.ticket.a, wsmanager.ticket.b", None, "wsmanager.ticket.a"),
        ("wsmanager.ticket.a b", None, None),
        ("chat,,wsmanager.ticket.a", None, None),
        (", ".join(["x"] * 33), None, None),
        ("", None, None),
    ],
)
def test_subprotocols(header: str, token: str | None, accepted: str | None) -> None:
    source = {"sec-websocket-protocol": header}
    assert protocol_to_accept(source) == accepted
    if token is None:
        with pytest.raises(InvalidCredential) as error:
            subprotocol_credential(source)
        assert "ticket.a" not in str(error.value)
    else:
        assert subprotocol_credential(source) == token


def test_no_subprotocols_and_two_headers() -> None:
    assert offered_protocols({}) == [] and protocol_to_accept({}) is None
    pairs = [("sec-websocket-protocol", "a"), ("Sec-WebSocket-Protocol", "b, bearer.x")]
    assert offered_protocols(pairs) == ["a", "b", "bearer.x"]
    assert subprotocol_credential(pairs, "bearer.") == "x"
    assert offered_protocols(FakeStarlette(subprotocols=["a", "b"])) == ["a", "b"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_header_gives_a_token_or_the_error(header: str) -> None:
    try:
        token = subprotocol_credential({"sec-websocket-protocol": header})
    except InvalidCredential:
        return
    assert token and token.isascii() and token.isprintable() and " " not in token


@pytest.mark.parametrize("kind", [FakeStarlette, FakeWebsockets, FakeAiohttp])
async def test_a_first_message_of_each_library(kind: Any) -> None:
    websocket = kind()
    websocket.push(AUTH)
    assert await first_message_credential(websocket) == "abc"
    late = kind()
    asyncio.get_running_loop().call_later(0.02, late.push, AUTH)
    assert await first_message_credential(late) == "abc"
    gone = kind()
    gone.disconnect(1001)
    with pytest.raises(InvalidCredential, match="ended before"):
        await first_message_credential(gone)
    with pytest.raises(InvalidCredential, match="within 0.02 seconds".replace(".", r"\.")):
        await first_message_credential(kind(), timeout=0.02)


async def test_plain_asgi_and_what_cannot_be_read() -> None:
    fake = FakeAsgi(accepted=True)
    fake.push(AUTH)
    assert (
        await first_message_credential(AsgiWebSocket(fake.scope, fake.receive, fake.send)) == "abc"
    )
    with pytest.raises(TypeError, match="cannot be read"):
        await first_message_credential(FakeText())


@pytest.mark.parametrize(
    "message",
    [
        "", "abc", "[]", "null", "{}", '{"type": "auth"}', '{"type": "auth", "token": ""}',
        '{"type": "auth", "token": 5}', '{"type": "login", "token": "abc"}', "[" * 100_000,
        '{"type": "auth", "token": "\\u00e9"}', b'{"type": "auth", "token": "abc"}', "9" * 5000,
        json.dumps({"type": "auth", "token": "x" * 9000}), "é" * 5000,
    ],
)  # fmt: skip
async def test_wrong_first_messages(message: str | bytes) -> None:
    websocket = FakeStarlette()
    websocket.push(message)
    with pytest.raises(InvalidCredential) as error:
        await first_message_credential(websocket)
    assert "abc" not in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=300), st.binary(max_size=300),
                 st.dictionaries(st.sampled_from(["type", "token", "x"]), st.one_of(st.text(max_size=20), st.just("auth"), st.none())).map(json.dumps)))  # fmt: skip
def test_any_first_message_gives_a_token_or_the_error(message: str | bytes) -> None:
    async def main() -> None:
        websocket = FakeWebsockets()
        websocket.push(message)
        try:
            token = await first_message_credential(websocket)
        except InvalidCredential:
            return
        assert isinstance(message, str) and json.loads(message)["token"] == token

    asyncio.run(main())


async def test_on_a_real_server() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            token = await first_message_credential(websocket, timeout=0.5)
        except InvalidCredential:
            await reject(websocket, 3000, "log in first")
            return
        await websocket.send_text(f"welcome {token}")
        assert await websocket.receive_text() == "next"
        await websocket.send_text("read on")

    with UvicornServer(app) as server:
        async with connect(server.url) as client:
            await client.send(AUTH)
            assert await client.recv() == "welcome abc"
            await client.send("next")
            assert await client.recv() == "read on"
        for message in ("nonsense", None):
            client = await connect(server.url)
            if message is not None:
                await client.send(message)
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (3000, "log in first")
