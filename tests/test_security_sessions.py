"""Log-out, revocation and expiry reach open sockets: on their own loops, in time, and no others."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from support.loops import LoopThread
from support.servers import UvicornServer
from support.waiting import eventually, turns
from websockets.asyncio.client import connect

from wsmanager import ConnectionNotFound, WebSocketConnection, get_websocket_manager
from wsmanager.security import SessionEnded, Sessions
from wsmanager.testing import FakeStarlette, FakeText


def joined(
    sessions: Sessions, user: str, session: str, expires_at: Any = None, client: Any = None
) -> FakeText:
    client = FakeText() if client is None else client
    manager = get_websocket_manager(user)
    sessions.register(manager, manager.add_connection(client), session, expires_at)
    return client  # type: ignore[no-any-return]


async def test_closing_a_session_closes_its_sockets_and_no_others() -> None:
    sessions = Sessions()
    tab, phone = joined(sessions, "ann", "s1"), joined(sessions, "ann", "s2")
    other = joined(sessions, "bob", "s3")
    second = joined(sessions, "ann", "s1", client=FakeStarlette())
    assert len(sessions) == 4
    assert sessions.close_session("s1", reason="logged out") == 2
    receipt = await get_websocket_manager("ann").emit_event("secret", {})
    assert receipt.sent == 1, "at once: before the sockets have closed, nothing goes to them"
    await eventually(lambda: tab.closed_with and second.closed_with)
    assert tab.closed_with == second.closed_with == (3000, "logged out")
    assert (tab.types, phone.types) == ([], ["secret"])
    assert phone.closed_with is None and other.closed_with is None
    assert sessions.close_session("s1") == 0 and sessions.close_session("no such") == 0
    assert len(sessions) == 2


async def test_expiry_closes_in_time_and_not_before() -> None:
    sessions = Sessions(code=4401)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    client = joined(sessions, "ann", "s", time.time() + 0.5)
    await get_websocket_manager("ann").emit_event("before", {})
    await eventually(lambda: client.closed_with)
    took = loop.time() - begin
    assert took >= 0.49
    assert client.closed_with == (4401, "session expired")
    assert client.types == ["before"]
    assert len(sessions) == 0 and len(get_websocket_manager("ann")) == 0


async def test_refresh_without_a_reconnect() -> None:
    """Later, sooner, for ever; the connection stays the same one."""
    sessions = Sessions()
    soon = time.time() + 1.5
    later, control, never = (joined(sessions, "ann", f"s{n}", soon) for n in range(3))
    sooner = joined(sessions, "ann", "s3", time.time() + 3600)
    assert sessions.refresh("s0", time.time() + 3600) == 1
    assert sessions.refresh("s2", None) == 1
    assert sessions.refresh("s3", datetime.now(timezone.utc) + timedelta(seconds=0.05)) == 1
    assert sessions.refresh("no such", None) == 0
    await eventually(lambda: sooner.closed_with)
    await eventually(lambda: control.closed_with)
    await turns()
    assert later.closed_with is None and never.closed_with is None
    assert sessions.refresh("s0", time.time() - 1) == 1
    await eventually(lambda: later.closed_with)


async def test_control_a_session_that_is_not_told_stays_open() -> None:
    """Without refresh it closes; a connection that was never registered does not."""
    sessions = Sessions()
    kept = FakeText()
    get_websocket_manager("ann").add_connection(kept)
    gone = joined(sessions, "ann", "s", time.time() + 0.5)
    await eventually(lambda: gone.closed_with)
    sessions.close_session("s")
    await turns()
    assert kept.closed_with is None


async def test_from_other_threads_and_on_the_owning_loop(any_loop_thread: LoopThread) -> None:
    """Closed from here, by the loop it lives on."""
    sessions = Sessions()
    where: list[int] = []

    class Telling(FakeText):
        async def close(self, code: int = 1000, reason: str = "") -> None:
            where.append(threading.get_ident())
            await super().close(code, reason)

    first: Any = any_loop_thread.call(joined, sessions, "ann", "s", None, Telling())
    second: Any = any_loop_thread.call(joined, sessions, "ann", "t", time.time() + 0.5, Telling())
    await asyncio.to_thread(sessions.close_session, "s")
    await eventually(lambda: first.closed_with and second.closed_with)
    assert set(where) == {any_loop_thread.thread.ident}


async def test_metadata_of_the_connection_is_read() -> None:
    sessions = Sessions()
    manager = get_websocket_manager("ann")
    client = FakeText()
    record = WebSocketConnection(
        websocket=client,
        user_id="ann",
        metadata={"session_id": "s", "expires_at": time.time() + 0.5},
    )
    sessions.register(manager, manager.add_connection(record))
    await eventually(lambda: client.closed_with)


async def test_a_connection_opened_while_the_session_was_closed_is_refused() -> None:
    sessions = Sessions(remember=30)
    manager = get_websocket_manager("ann")
    client = FakeText()
    connection_id = manager.add_connection(client)
    sessions.close_session("s")
    with pytest.raises(SessionEnded):
        sessions.register(manager, connection_id, "s")
    await eventually(lambda: client.closed_with)
    late = FakeText()
    with pytest.raises(SessionEnded):
        sessions.register(manager, manager.add_connection(late), "t", time.time() - 1)
    await eventually(lambda: late.closed_with)
    assert len(sessions) == 0


async def test_what_is_remembered_is_bounded() -> None:
    sessions = Sessions(max_remembered=100)
    for number in range(1000):
        sessions.close_session(f"s{number}")
    assert len(sessions._ended) == 100
    joined(sessions, "ann", "s0")
    with pytest.raises(SessionEnded):
        joined(sessions, "ann", "s999")


async def test_connections_that_end_by_themselves_are_let_go() -> None:
    """Nobody unregisters them; their number stays bounded, and nothing keeps their sockets."""
    sessions = Sessions()
    manager = get_websocket_manager("ann")
    before = sum(isinstance(each, FakeText) for each in gc.get_objects())
    for number in range(500):
        client = FakeText()
        connection_id = manager.add_connection(client)
        sessions.register(manager, connection_id, f"s{number}", time.time() + 3600)
        manager.remove_connection(connection_id)
        await turns(2)
    del client
    assert len(sessions) <= 3 and len(sessions._by_session) <= 3
    await turns()
    gc.collect()
    assert sum(isinstance(each, FakeText) for each in gc.get_objects()) - before < 50


async def test_unregister_and_register_anew() -> None:
    sessions = Sessions()
    manager = get_websocket_manager("ann")
    client = FakeText()
    connection_id = manager.add_connection(client)
    expiry = time.time() + 1.0
    sessions.register(manager, connection_id, "s", expiry)
    sessions.register(manager, connection_id, "t")  # another session from now on, without an end
    assert sessions.close_session("s") == 0
    await eventually(lambda: time.time() > expiry + 0.05)
    assert client.closed_with is None
    assert sessions.unregister(manager, connection_id)
    assert not sessions.unregister(manager, connection_id)
    assert not sessions.unregister(manager, "no such")
    assert sessions.close_session("t") == 0 and client.closed_with is None


async def test_equal_ids_of_two_users_are_two_connections() -> None:
    sessions = Sessions()
    clients = {}
    for user in ("ann", "bob"):
        manager = get_websocket_manager(user)
        clients[user] = FakeText()
        manager.add_connection(clients[user], connection_id="tab")
        sessions.register(manager, "tab", user)
    assert sessions.close_session("ann") == 1
    await eventually(lambda: clients["ann"].closed_with)
    await turns()
    assert clients["bob"].closed_with is None


async def test_a_connection_of_another_user_is_not_found() -> None:
    sessions = Sessions()
    connection_id = get_websocket_manager("ann").add_connection(FakeText())
    with pytest.raises(ConnectionNotFound):
        sessions.register(get_websocket_manager("bob"), connection_id, "s")


@pytest.mark.parametrize(
    ("session", "expires_at", "error"),
    [
        (None, None, TypeError), ("", None, TypeError), (5, None, TypeError), ("s", "soon", TypeError),
        ("s", True, TypeError), ("s", float("nan"), ValueError), ("s", datetime(2030, 1, 1), ValueError),  # noqa: DTZ001
    ],
)  # fmt: skip
async def test_wrong_arguments(session: Any, expires_at: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        joined(Sessions(), "ann", session, expires_at)


def test_a_loop_that_is_closed_is_no_error() -> None:
    sessions = Sessions()
    with LoopThread() as thread:
        thread.call(joined, sessions, "ann", "s", time.time() + 3600)
    assert sessions.refresh("s", None) in (0, 1)
    assert sessions.close_session("s") in (0, 1)
    assert len(sessions) == 0


async def test_many_threads_at_once() -> None:
    """Register, refresh and close from all sides: each session's sockets close, once, none is left."""
    sessions = Sessions()
    clients = [
        joined(sessions, f"user {n % 7}", f"s{n % 20}", time.time() + 3600) for n in range(200)
    ]

    def churn(seed: int) -> None:
        for n in range(200):
            sessions.refresh(f"s{(n + seed) % 20}", time.time() + 3600 + n)
        for n in range(20):
            sessions.close_session(f"s{(n + seed) % 20}")

    await asyncio.gather(*(asyncio.to_thread(churn, seed) for seed in range(4)))
    await eventually(lambda: all(client.closed_with for client in clients))
    assert len(sessions) == 0 and not sessions._by_session


async def test_over_a_real_server() -> None:
    """A browser's socket closes with the code when its user logs out elsewhere, and when its token ends."""
    sessions = Sessions()
    app = FastAPI()

    @app.websocket("/ws/{session}/{seconds}")
    async def endpoint(websocket: WebSocket, session: str, seconds: float) -> None:
        await websocket.accept()
        manager = get_websocket_manager("ann")
        connection_id = manager.add_connection(websocket)
        sessions.register(manager, connection_id, session, time.time() + seconds)
        try:
            async for _ in websocket.iter_text():
                pass
        finally:
            manager.remove_connection(connection_id)

    @app.post("/logout/{session}")
    def logout(session: str) -> int:  # in a worker thread
        return sessions.close_session(session, reason="logged out")

    import httpx

    for ws in ("auto", "wsmanager.uvicorn:WebSocketProtocol"):
        with UvicornServer(app, ws=ws) as server:
            base = f"ws://127.0.0.1:{server.port}/ws"
            out = await connect(f"{base}/out{ws[:2]}/60")
            stays = await connect(f"{base}/stays{ws[:2]}/60")
            await eventually(lambda: len(get_websocket_manager("ann")) == 2)
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.post(f"{server.http}/logout/out{ws[:2]}")).json() == 1
            short = await connect(f"{base}/short{ws[:2]}/0.5")
            await asyncio.wait_for(out.wait_closed(), 5)
            await asyncio.wait_for(short.wait_closed(), 5)
            assert (out.close_code, out.close_reason) == (3000, "logged out")
            assert (short.close_code, short.close_reason) == (3000, "session expired")
            assert stays.close_code is None
            await stays.close()
            await eventually(lambda: len(get_websocket_manager("ann")) == 0)
