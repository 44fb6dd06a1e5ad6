"""Draining: no new connections, full outboxes emptied, closes spread out, over by the deadline."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.agent import FIVE_EVENTS
from support.clients import open_tab
from support.loops import LoopThread
from support.servers import UvicornServer, WebsocketsServer
from support.sockets import HangingSocket, StarletteSocket
from support.waiting import eventually, eventually_sync, turns
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import wsmanager
from wsmanager import (
    ConnectionLimitError,
    ServerDraining,
    drain,
    get_manager_registry_status,
    get_websocket_manager,
    install_drain,
)
from wsmanager._hooks import core
from wsmanager.close_codes import retry_after

TESTS = Path(__file__).resolve().parent
DIRECT = "wsmanager.uvicorn:WebSocketProtocol"


# -- what it does ---------------------------------------------------------------


@pytest.mark.parametrize("ws", [DIRECT, "websockets-sansio"])
async def test_every_client_gets_its_events_and_then_the_code(ws: str) -> None:
    with UvicornServer(ws=ws) as server:
        tabs = [await open_tab(server.url, f"user-{n % 3}", n // 3 + 1) for n in range(9)]
        for n in range(3):
            for count in range(20):
                get_websocket_manager(f"user-{n}").emit_event("x", {"n": count})
        summary = await drain(deadline=5, jitter=0.2, retry_after=2.5)
        assert (summary.connections, summary.closed, summary.cut) == (9, 9, 0)
        assert summary.unsent == 0
        assert summary.seconds < 5
        for tab in tabs:
            await tab.read(20)
            assert [event["payload"]["n"] for event in tab.events] == list(range(20))
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(tab.client.recv(), 5)
            assert tab.client.close_code == 1012
            assert tab.client.close_reason == "service restart; retry-after=2.5"
        assert get_manager_registry_status()["total_connections"] == 0


async def test_nobody_new_is_taken_in() -> None:
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    going = asyncio.ensure_future(drain(deadline=2, jitter=0.3))
    await turns()
    assert core._draining()
    with pytest.raises(ServerDraining):
        manager.add_connection(StarletteSocket())
    await going
    with pytest.raises(ServerDraining):
        manager.add_connection(StarletteSocket())


async def close_times(jitter: float) -> list[float]:
    class Timed(StarletteSocket):
        async def close(self, code: int = 1000, reason: str | None = None) -> None:
            times.append(time.monotonic() - begun)
            await super().close(code, reason)

    times: list[float] = []
    for n in range(60):
        get_websocket_manager(f"user-{n % 7}").add_connection(Timed())
    begun = time.monotonic()
    summary = await drain(deadline=10, jitter=jitter)
    assert summary.closed == len(times) == 60
    return times


def widest(times: list[float], window: float) -> int:
    """The most closes within any *window* seconds."""
    return max(sum(start <= t < start + window for t in times) for start in times)


async def test_the_closes_are_spread_over_the_jitter() -> None:
    times = await close_times(1.2)
    assert max(times) <= 1.5
    assert widest(times, 0.2) <= 25, "one in six is due in this time"


async def test_control_without_jitter_they_come_together() -> None:
    assert widest(await close_times(0), 0.2) > 25


async def test_an_outbox_is_emptied_before_the_close() -> None:
    manager = get_websocket_manager("ann")
    frozen = HangingSocket()
    manager.add_connection(frozen)
    for n in range(30):
        manager.emit_event("x", {"n": n})
    assert frozen.texts == []
    going = asyncio.ensure_future(drain(deadline=8, jitter=0))
    await eventually(core._draining)
    await asyncio.sleep(0.05)
    assert frozen.closed_with is None
    frozen.release()
    summary = await going
    assert [event["payload"]["n"] for event in frozen.events] == list(range(30))
    assert frozen.closed_with is not None
    assert frozen.closed_with[0] == 1012
    assert (summary.closed, summary.unsent) == (1, 0)
    assert summary.seconds < 4


async def test_who_does_not_read_is_closed_in_time_all_the_same() -> None:
    manager = get_websocket_manager("ann")
    frozen, healthy = HangingSocket(), StarletteSocket()
    manager.add_connection(frozen)
    manager.add_connection(healthy)
    for n in range(5):
        manager.emit_event("x", {"n": n})
    begun = time.monotonic()
    summary = await drain(deadline=0.6, jitter=0.1)
    assert time.monotonic() - begun < 1.5
    assert summary.connections == 2
    assert summary.unsent >= 4
    assert frozen.closed_with is not None
    assert healthy.closed_with is not None
    assert len(manager) == 0


async def test_a_close_that_hangs_is_cut_at_the_deadline() -> None:
    class Stubborn(StarletteSocket):
        async def close(self, code: int = 1000, reason: str | None = None) -> None:
            await asyncio.get_running_loop().create_future()

    manager = get_websocket_manager("ann")
    manager.add_connection(Stubborn())
    begun = time.monotonic()
    summary = await drain(deadline=0.4, jitter=0)
    assert time.monotonic() - begun < 1.5
    assert (summary.closed, summary.cut) == (0, 1)
    assert len(manager) == 0


async def test_a_real_client_that_does_not_read_is_cut_off_at_the_deadline() -> None:
    """Its transport too: nothing of it is left to hold up the server's own shutdown."""
    with UvicornServer(ws=DIRECT, ws_ping_interval=None) as server:
        wsmanager.configure(outbox_max_bytes=64 << 20, outbox_max_age=60.0)
        with socket.create_connection(("127.0.0.1", server.port)) as frozen:
            frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            frozen.sendall(
                b"GET /ws?user=ann HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            manager = get_websocket_manager("ann")
            await eventually(lambda: len(manager) == 1)
            for _ in range(400):
                manager.emit_event("x", {"pad": "x" * 50_000})
            begun = time.monotonic()
            summary = await drain(deadline=1.0, jitter=0)
            assert time.monotonic() - begun < 2.5
            assert summary.connections == summary.closed + summary.cut + summary.left == 1
            assert summary.unsent > 0
            assert len(manager) == 0


async def test_connections_that_leave_by_themselves_and_come_late() -> None:
    manager = get_websocket_manager("ann")
    stays, leaves = HangingSocket(), StarletteSocket()
    manager.add_connection(stays)
    connection_id = manager.add_connection(leaves)
    manager.emit_event("x", {})
    going = asyncio.ensure_future(drain(deadline=5, jitter=3))
    await eventually(core._draining)
    manager.remove_connection(connection_id)
    # As one whose add_connection was under way in another thread.
    core._drain(False)
    late = StarletteSocket()
    get_websocket_manager("bob").add_connection(late)
    core._drain(True)
    stays.release()
    summary = await going
    assert (summary.connections, summary.closed, summary.left) == (3, 2, 1)
    assert late.closed_with is not None
    assert leaves.closed_with is None


async def test_the_manager_of_no_user_is_drained_too() -> None:
    socket = StarletteSocket()
    get_websocket_manager(None).add_connection(socket)
    summary = await drain(deadline=2, jitter=0)
    assert summary.closed == 1
    assert socket.closed_with == (1012, "service restart; retry-after=1")


async def test_with_nobody_there_it_is_over_at_once() -> None:
    summary = await drain()
    assert summary.connections == 0
    assert summary.seconds < 1


@pytest.mark.parametrize(
    "wrong",
    [{"deadline": 0}, {"deadline": float("inf")}, {"deadline": float("nan")}, {"jitter": -1},
     {"jitter": float("nan")}, {"code": 1006}, {"code": 200}, {"retry_after": -1},
     {"retry_after": float("nan")}],
)  # fmt: skip
async def test_wrong_values_are_refused_before_anything_happens(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        await drain(**wrong)
    assert not core._draining()
    get_websocket_manager("ann").add_connection(StarletteSocket())


@pytest.mark.parametrize(
    "wrong",
    [{"deadline": "20"}, {"deadline": None}, {"jitter": "0"}, {"code": "1012"}, {"code": 1012.5},
     {"retry_after": "1"}],
)  # fmt: skip
async def test_what_is_no_number_is_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(TypeError, match=f"{name} is a number, not"):
        await drain(**wrong)
    assert not core._draining()


@pytest.mark.parametrize(
    "wrong",
    [{"deadline": -1}, {"deadline": 0}, {"deadline": "20"}, {"jitter": -1}, {"code": 1005},
     {"retry_after": -5}],
)  # fmt: skip
async def test_an_installed_drain_refuses_wrong_values_at_once(wrong: dict[str, Any]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises((TypeError, ValueError)):
            install_drain(**wrong)
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_the_reason_is_short_enough_and_may_name_no_time() -> None:
    one, two = StarletteSocket(), StarletteSocket()
    get_websocket_manager("ann").add_connection(one)
    await drain(deadline=2, jitter=0, code=4503, retry_after=None)
    assert one.closed_with == (4503, "draining")
    core._drain(False)
    get_websocket_manager("ann").add_connection(two)
    await drain(deadline=2, jitter=0, retry_after=123456.789)
    assert two.closed_with is not None
    assert retry_after(two.closed_with[1]) == 123456.789


# -- once -----------------------------------------------------------------------


async def test_it_is_one_drain_however_often_it_is_called(loop_thread: LoopThread) -> None:
    sockets = [StarletteSocket() for _ in range(10)]
    for each in sockets:
        get_websocket_manager("ann").add_connection(each)
    first = asyncio.ensure_future(drain(deadline=5, jitter=0.3))
    second = asyncio.ensure_future(drain(deadline=1, jitter=0))
    elsewhere = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(drain(), loop_thread.loop))
    given_up = asyncio.ensure_future(drain())
    await turns()
    given_up.cancel()
    summary = await first
    assert await second is summary
    assert await elsewhere is summary
    assert await drain() is summary
    assert summary.closed == 10
    assert given_up.cancelled()


async def test_a_caller_that_is_cancelled_does_not_stop_it() -> None:
    socket = StarletteSocket()
    get_websocket_manager("ann").add_connection(socket)
    caller = asyncio.ensure_future(drain(deadline=5, jitter=0.2))
    await turns()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (await drain()).closed == 1
    assert socket.closed_with is not None


async def test_after_a_reset_it_may_be_done_again() -> None:
    await drain()
    wsmanager.reset_manager_registry()
    assert not core._draining()
    get_websocket_manager("ann").add_connection(StarletteSocket())
    assert (await drain(deadline=2, jitter=0)).closed == 1


# -- loops ----------------------------------------------------------------------


def test_connections_of_many_loops_are_closed_each_on_its_own() -> None:
    class Marked(StarletteSocket):
        async def close(self, code: int = 1000, reason: str | None = None) -> None:
            closed_on.append((self.home, threading.get_ident()))
            await super().close(code, reason)

        home = 0

    closed_on: list[tuple[int, int]] = []
    with ExitStack() as stack:
        loops = [stack.enter_context(LoopThread()) for _ in range(4)]
        for n in range(40):
            loop = loops[n % 4]
            socket = Marked()
            assert loop.thread.ident is not None
            socket.home = loop.thread.ident
            loop.call(get_websocket_manager(f"user-{n % 5}").add_connection, socket)
        summary = loops[0].run(drain(deadline=5, jitter=0.3))
        assert (summary.connections, summary.closed) == (40, 40)
    assert len(closed_on) == 40
    assert all(home == thread for home, thread in closed_on)


def test_a_loop_that_hangs_or_is_gone_does_not_hold_it_up() -> None:
    gone, hangs = LoopThread(), LoopThread()
    with gone, hangs, LoopThread() as healthy:
        wake = threading.Event()
        sockets = {}
        for name, loop in (("gone", gone), ("hangs", hangs), ("healthy", healthy)):
            sockets[name] = StarletteSocket()
            loop.call(get_websocket_manager(name).add_connection, sockets[name])
        gone.close()
        hangs.loop.call_soon_threadsafe(wake.wait)
        begun = time.monotonic()
        summary = healthy.run(drain(deadline=1.0, jitter=0.1))
        taken = time.monotonic() - begun
        wake.set()
        assert taken < 3
        assert summary.closed == 1
        assert summary.connections - summary.closed == summary.cut + summary.left
        assert sockets["healthy"].closed_with is not None
        assert get_manager_registry_status()["total_connections"] == 0


async def test_servers_of_two_libraries_on_two_loops() -> None:
    with UvicornServer(ws=DIRECT) as one, WebsocketsServer() as two:
        tabs = [await open_tab(one.url, "ann", 1), await open_tab(two.url, "ann", 2)]
        summary = await drain(deadline=5, jitter=0.1)
        assert summary.closed == 2
        for tab in tabs:
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(tab.client.recv(), 5)
            assert tab.client.close_code == 1012


# -- signals --------------------------------------------------------------------

SERVER = """
import asyncio, os, sys
from contextlib import asynccontextmanager
import uvicorn
from fastapi import FastAPI, WebSocket
import wsmanager
from wsmanager import get_websocket_manager

@asynccontextmanager
async def lifespan(app):
    with wsmanager.install_drain(deadline=4.0, jitter=float(sys.argv[2]), retry_after=0.5) as installed:
        assert installed.installed
        yield
    print("lifespan over", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/ready")
async def ready():
    return {"draining": wsmanager._hooks.core._draining()}

@app.websocket("/ws")
async def ws(websocket: WebSocket, user: str):
    await websocket.accept()
    manager = get_websocket_manager(user)
    connection = manager.add_connection(websocket)
    for n in range(50):
        manager.emit_event("x", {"n": n})
    try:
        async for _ in websocket.iter_text():
            pass
    finally:
        manager.remove_connection(connection)

uvicorn.run(app, fd=int(sys.argv[1]), log_level="warning", loop=sys.argv[3],
            ws="wsmanager.uvicorn:WebSocketProtocol", timeout_graceful_shutdown=20)
"""


class Child:
    def __init__(self, jitter: float, loop: str = "asyncio") -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        number = self.socket.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(number), str(jitter), loop],
            pass_fds=[number], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        )  # fmt: skip
        self.url = f"ws://127.0.0.1:{self.port}/ws"

    async def tab(self, user: str) -> Any:
        return await asyncio.wait_for(connect(f"{self.url}?user={user}", proxy=None), 30)

    async def ready(self) -> dict[str, Any] | None:
        try:
            async with httpx.AsyncClient(timeout=5) as http:
                answer = await http.get(f"http://127.0.0.1:{self.port}/ready")
        except httpx.HTTPError:
            return None
        found: dict[str, Any] = answer.json()
        return found

    def end(self, timeout: float = 20) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def make(*args: Any) -> Child:
        children.append(Child(*args))
        return children[-1]

    yield make
    for each in children:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()
        each.socket.close()


async def read_all(client: Any) -> list[int]:
    numbers = []
    try:
        async for text in client:
            numbers.append(json.loads(text)["payload"]["n"])
    except ConnectionClosed:
        pass
    return numbers


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_sigterm_drains_before_uvicorn_shuts_down(
    child: Callable[..., Child], loop: str
) -> None:
    pytest.importorskip(loop)
    server = child(1.0, loop)
    clients = [await server.tab(f"user-{n}") for n in range(12)]
    readers = [asyncio.ensure_future(read_all(client)) for client in clients]
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    ends: list[float] = []
    for reader in readers:
        reader.add_done_callback(lambda _: ends.append(time.monotonic() - begun))
    draining = None
    while draining is None or not draining["draining"]:
        draining = await server.ready()  # HTTP goes on meanwhile
        assert time.monotonic() - begun < 10
    for reader in readers:
        assert await asyncio.wait_for(reader, 10) == list(range(50))
    for client in clients:
        assert client.close_code == 1012
        assert client.close_reason == "service restart; retry-after=0.5"
    assert max(ends) - min(ends) > 0.3, "all at once, as uvicorn does it"
    status, out, err = await asyncio.to_thread(server.end)
    assert "lifespan over" in out
    assert status == -signal.SIGTERM, err
    assert err == ""


async def test_a_second_signal_does_not_wait(child: Callable[..., Child]) -> None:
    server = child(3.2)
    clients = [await server.tab(f"user-{n}") for n in range(4)]
    server.process.send_signal(signal.SIGTERM)
    while not (await server.ready() or {}).get("draining"):
        pass
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*(read_all(client) for client in clients))
    status, _, err = await asyncio.to_thread(server.end)
    assert time.monotonic() - begun < 2.8, err
    assert status == -signal.SIGTERM


async def test_other_signals_are_as_ever(child: Callable[..., Child]) -> None:
    server = child(3.2)
    client = await server.tab("ann")
    begun = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    await read_all(client)
    assert client.close_reason == ""  # uvicorn's own
    await asyncio.to_thread(server.end)
    assert time.monotonic() - begun < 3


PLAIN = """
import asyncio, os, signal, sys
import wsmanager
from wsmanager import get_websocket_manager

class Socket:
    closed = None
    async def send_text(self, text): pass
    async def close(self, code, reason): self.closed = code; print("closed", code, flush=True)

def told(number, frame):
    print("told", core._draining(), flush=True)
    done.set()

core = wsmanager._hooks.core

async def main():
    global done
    done = asyncio.Event()
    {prepare}
    before = signal.getsignal(signal.SIGTERM)
    with wsmanager.install_drain(deadline=2, jitter=0) as installed:
        get_websocket_manager("ann").add_connection(Socket())
        os.kill(os.getpid(), signal.SIGTERM)
        {wait}
    assert signal.getsignal(signal.SIGTERM) is before
    print("end", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("prepare", "wait", "out", "status"),
    [
        ("signal.signal(signal.SIGTERM, told)", "await done.wait()", "closed 1012\ntold True\nend\n", 0),
        ("pass", "await asyncio.sleep(30)", "closed 1012\n", -signal.SIGTERM),
        (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "await asyncio.sleep(1)", "closed 1012\nend\n", 0,
        ),
    ],
    ids=["handler", "default", "ignored"],
)  # fmt: skip
def test_what_was_there_before_comes_after(
    run_isolated: Any, prepare: str, wait: str, out: str, status: int
) -> None:
    outcome = run_isolated(PLAIN.replace("{prepare}", prepare).replace("{wait}", wait), timeout=60)
    assert (outcome.out, outcome.status) == (out, status), outcome.explain()


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_a_signal_of_the_loop_itself_cannot_be_put_off(isolated: Any, library: str) -> None:
    pytest.importorskip(library)
    isolated(
        """
import asyncio, importlib, logging, signal, sys
import wsmanager
records = []
class Keep(logging.Handler):
    def emit(self, record): records.append(record.getMessage())
logging.getLogger("wsmanager.drain").addHandler(Keep())
async def main():
    loop = asyncio.get_running_loop()
    fired = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, fired.set)
    with wsmanager.install_drain() as installed:
        assert not installed.installed
    assert "SIGTERM" in records[0], records
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(fired.wait(), 5)
loop = importlib.import_module(sys.argv[1]).new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
        library,
    )


def test_in_another_thread_nothing_is_installed(
    loop_thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    async def install() -> bool:
        with install_drain() as installed:
            return installed.installed

    before = signal.getsignal(signal.SIGTERM)
    with caplog.at_level(logging.INFO, "wsmanager.drain"):
        assert loop_thread.run(install()) is False
    assert "not the main thread" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_loop_it_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        install_drain()


async def test_the_limit_is_still_told_apart() -> None:
    wsmanager.configure(max_connections_per_user=1)
    manager = get_websocket_manager("ann")
    manager.add_connection(StarletteSocket())
    with pytest.raises(ConnectionLimitError):
        manager.add_connection(StarletteSocket())
    await drain(deadline=2, jitter=0)
    with pytest.raises(ServerDraining):
        manager.add_connection(StarletteSocket())


async def test_an_agent_run_is_not_cut_short() -> None:
    """The five events of a run that goes on meanwhile: to the client, or kept for its return."""
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
        await tab.client.send("run")
        await tab.read(5)
        assert tuple(tab.types) == FIVE_EVENTS
        await drain(deadline=3, jitter=0)
        receipt = await get_websocket_manager("ann").emit_event("agent_completed", {})
        assert receipt.stored == 1
    eventually_sync(lambda: get_manager_registry_status()["total_connections"] == 0)
