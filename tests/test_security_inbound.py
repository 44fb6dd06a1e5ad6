"""How much a user may send: by size and by rate, over all of the user's connections, in each library."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI, WebSocket
from hypothesis import given, settings
from hypothesis import strategies as st
from support.servers import UvicornServer, WebsocketsServer
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from wsmanager.security import AsgiWebSocket, InboundLimiter, InboundLimitExceeded, inbound
from wsmanager.testing import FakeAiohttp, FakeAsgi, FakeStarlette, FakeText, FakeWebsockets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(inbound, "time", clock)
    return clock


def taken(limiter: InboundLimiter, user: str, message: str | bytes | int = "x") -> int:
    """0 if the message is let through, else the close code."""
    try:
        limiter.check(user, message)
    except InboundLimitExceeded as excess:
        return excess.code
    return 0


def test_burst_and_rate(clock: Clock) -> None:
    limiter = InboundLimiter(rate=2, burst=5)
    assert [taken(limiter, "ann") for _ in range(7)] == [0] * 5 + [1008] * 2
    assert taken(limiter, "bob") == 0, "another user's bucket is another"
    clock.now += 1.0
    assert [taken(limiter, "ann") for _ in range(3)] == [0, 0, 1008]
    clock.now += 3600
    assert [taken(limiter, "ann") for _ in range(6)] == [0] * 5 + [1008]
    assert limiter.stats() == {"accepted": 13, "too_big": 0, "too_many": 4, "users": 2}


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.5, 100), st.integers(1, 20),
    st.lists(st.floats(0, 2), min_size=1, max_size=100),
)  # fmt: skip
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, waits: list[float]) -> None:
    """Against the definition: in no stretch of time more than burst + rate x time, and no less than due."""
    clock = Clock()
    limiter = InboundLimiter(rate=rate, burst=burst)
    saved, inbound.time = inbound.time, clock  # type: ignore[assignment]
    try:
        passed: list[float] = []
        for wait in waits:
            clock.now += wait
            if taken(limiter, "ann") == 0:
                passed.append(clock.now)
            else:
                recent = [at for at in passed if clock.now - at < burst / rate + 1e-6]
                assert recent, "one who waited long enough is let through"
    finally:
        inbound.time = saved
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + rate * (passed[last] - passed[first]) + 1e-6


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x" * 10, 0), ("x" * 11, 1009), ("é" * 5, 0), ("é" * 6, 1009), (b"x" * 10, 0), (b"x" * 11, 1009),
        (10, 0), (11, 1009), ("\ud800" * 3, 0), ("\ud800" * 4, 1009), ("", 0),
    ],
)  # fmt: skip
def test_size_is_of_the_bytes(message: str | bytes | int, code: int) -> None:
    assert taken(InboundLimiter(max_bytes=10), "ann", message) == code


def test_idle_users_take_no_memory(clock: Clock) -> None:
    limiter = InboundLimiter(rate=10, burst=10)
    for number in range(5000):
        taken(limiter, f"user {number}")
        clock.now += 0.2
    assert limiter.stats()["users"] <= 3
    assert [taken(limiter, "flood") for _ in range(11)][-1] == 1008
    for number in range(100):
        taken(limiter, f"other {number}")
    assert taken(limiter, "flood") == 1008, "a bucket that is not full is kept"


def test_threads_share_the_bucket() -> None:
    limiter = InboundLimiter(rate=0.001, burst=100)
    passed: list[int] = []

    def send() -> None:
        passed.append(sum(taken(limiter, "ann") == 0 for _ in range(50)))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sum(passed) == 100


@pytest.mark.parametrize(
    "settings",
    [{"max_bytes": 0}, {"burst": 0}, {"rate": 0}, {"rate": float("nan")}, {"over": "ignore"}],
)
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        InboundLimiter(**settings)


# -- fakes


@pytest.mark.parametrize("kind", [FakeStarlette, FakeWebsockets, FakeAiohttp])
async def test_over_the_limit_the_connection_is_closed(kind: Any) -> None:
    limiter = InboundLimiter(max_bytes=5, rate=0.001, burst=3)
    client = limiter.guard(kind(), "ann")
    for message in ("one", "two", "three"):
        client.push(message)
    read = [message async for message in messages(client)]
    assert read == ["one", "two", "three"]
    assert client.closed_with is None
    big = limiter.guard(kind(), "bob")
    big.push("one")
    big.push("longer")
    big.push("never read")
    assert [message async for message in messages(big)] == ["one"]
    assert big.closed_with == (1009, "message too big")
    second = limiter.guard(kind(), "ann")
    second.push("four")
    assert [message async for message in messages(second)] == []
    assert second.closed_with == (1008, "too many messages"), (
        "a reconnect does not refill the bucket"
    )


async def messages(client: Any) -> Any:
    """What an application reads, by its library's own iteration; until 0.2 s of silence."""
    iterator = client.iter_text() if isinstance(client, FakeStarlette) else client.__aiter__()
    while True:
        try:
            found = await asyncio.wait_for(iterator.__anext__(), 0.2)
        except (StopAsyncIteration, asyncio.TimeoutError):
            return
        except Exception as error:
            if type(error).__name__ != "ConnectionClosedError":
                raise
            return
        yield getattr(found, "data", found)


@pytest.mark.parametrize("kind", [FakeStarlette, FakeWebsockets, FakeAiohttp])
async def test_over_the_limit_a_message_is_dropped(kind: Any) -> None:
    limiter = InboundLimiter(max_bytes=5, rate=0.001, burst=3, over="drop")
    client = limiter.guard(kind(), "ann")
    for message in ("one", "too long", "two", "three", "four"):
        client.push(message)
    assert [message async for message in messages(client)] == ["one", "two"]
    assert client.closed_with is None
    assert limiter.stats() == {"accepted": 2, "too_big": 1, "too_many": 2, "users": 1}


async def test_plain_asgi() -> None:
    limiter = InboundLimiter(max_bytes=5)
    fake = FakeAsgi(accepted=True)
    receive = limiter.asgi(fake.receive, fake.send, "ann")
    fake.push("one")
    fake.push("longer")
    assert (await receive())["text"] == "one"
    end = {"type": "websocket.disconnect", "code": 1009, "reason": "message too big"}
    assert await receive() == end
    assert fake.closed_with == (1009, "message too big")
    wrapped = FakeAsgi(accepted=True)
    socket = limiter.guard(AsgiWebSocket(wrapped.scope, wrapped.receive, wrapped.send), "bob")
    wrapped.push(b"longer")
    assert await socket.receive() == end
    dropping = InboundLimiter(max_bytes=5, over="drop")
    silent = FakeAsgi(accepted=True)
    receive = dropping.asgi(silent.receive, silent.send, "ann")
    silent.push("longer")
    silent.disconnect(1001)
    assert (await receive())["code"] == 1001
    with pytest.raises(TypeError, match="cannot be read"):
        limiter.guard(FakeText(), "ann")


# -- real servers


async def flood(url: str, texts: list[str]) -> tuple[list[str], int | None, str | None]:
    """What was echoed, and how the connection ended."""
    async with connect(url) as client:
        echoed: list[str] = []
        with contextlib.suppress(ConnectionClosed):
            for text in texts:
                await client.send(text)
        with contextlib.suppress(ConnectionClosed):
            while True:
                echoed.append(str(await client.recv()))
        return echoed, client.close_code, client.close_reason


@pytest.mark.parametrize("library", ["fastapi", "direct", "websockets", "aiohttp"])
async def test_real_servers(library: str) -> None:
    """A limit is felt by a real client as the close code it stands for; the control has no limit."""
    limiter = InboundLimiter(max_bytes=100, rate=0.001, burst=5)
    many = ["x"] * 9
    cases = {"size": ["ok", "y" * 101, "late"], "rate": many}
    expected = {
        "size": (["ok"], 1009, "message too big"),
        "rate": (["x"] * 5, 1008, "too many messages"),
    }
    got: dict[str, Any] = {}

    def guarded(websocket: Any, case: str) -> Any:
        return websocket if case == "control" else limiter.guard(websocket, case)

    if library in ("fastapi", "direct"):
        app = FastAPI()

        @app.websocket("/ws/{case}")
        async def endpoint(websocket: WebSocket, case: str) -> None:
            await websocket.accept()
            count = 0
            async for text in guarded(websocket, case).iter_text():
                await websocket.send_text(text)
                count += 1
                if case == "control" and count == len(many):
                    await websocket.close()
                    return

        ws = "auto" if library == "fastapi" else "wsmanager.uvicorn:WebSocketProtocol"
        with UvicornServer(app, ws=ws) as server:
            for case, texts in {**cases, "control": many}.items():
                got[case] = await flood(f"{server.url}/{case}", texts)
    elif library == "websockets":

        async def handler(connection: ServerConnection) -> None:
            assert connection.request is not None
            case = connection.request.path.rsplit("/", 1)[1]
            count = 0
            async for text in guarded(connection, case):
                await connection.send(text)
                count += 1
                if case == "control" and count == len(many):
                    return

        async def quiet(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                await handler(connection)

        with WebsocketsServer(handler=quiet) as server2:
            for case, texts in {**cases, "control": many}.items():
                got[case] = await flood(f"{server2.url}/{case}", texts)
    else:

        async def respond(request: web.Request) -> web.WebSocketResponse:
            websocket = web.WebSocketResponse()
            await websocket.prepare(request)
            case = request.match_info["case"]
            count = 0
            async for message in guarded(websocket, case):
                await websocket.send_str(message.data)
                count += 1
                if case == "control" and count == len(many):
                    break
            return websocket

        application = web.Application()
        application.router.add_get("/ws/{case}", respond)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        for case, texts in {**cases, "control": many}.items():
            got[case] = await flood(f"ws://127.0.0.1:{runner.addresses[0][1]}/ws/{case}", texts)
        await runner.cleanup()
    assert got.pop("control")[0] == many, "the control: without a guard all come through"
    assert got == expected
