"""``connections_closed_total{code,reason}``: how connections really end is how they are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from support.clients import open_tab
from support.servers import AiohttpServer, UvicornServer, WebsocketsServer
from support.sockets import FailingSocket, HangingSocket, StarletteSocket
from support.waiting import eventually

import wsmanager
from wsmanager import _wsmanager as core
from wsmanager import drain, get_websocket_manager, metrics
from wsmanager.close_codes import CLOSE_CODES
from wsmanager.security import Sessions

DIRECT = "wsmanager.uvicorn:WebSocketProtocol"
PLAIN = "websockets-sansio"
Counts = dict[tuple[str, str], int]


def counted() -> Counts:
    """What was closed so far, by reason and code."""
    rows: dict[str, dict[str, int]] = core._counters()["closed_codes"]  # type: ignore[attr-defined]
    return {(reason, code): n for reason, codes in rows.items() for code, n in codes.items()}


class Said(StarletteSocket):
    """An object that says its close code, as those of websockets and aiohttp do."""

    def __init__(self, code: object) -> None:
        super().__init__()
        self.close_code = code


class Odd(StarletteSocket):
    @property
    def close_code(self) -> int:
        raise ValueError("odd")


# -- the labels ---------------------------------------------------------------------


async def test_each_code_of_the_table_is_a_label_and_no_other_is() -> None:
    manager = get_websocket_manager("ann")
    for code in (*CLOSE_CODES, 4000, 4999, 3001, 17):
        manager.remove_connection(manager.add_connection(Said(code)))
    for odd in (None, 0, -1, True, "1000", 10**30, 65536):
        manager.remove_connection(manager.add_connection(Said(odd)))
    for socket in (Odd(), StarletteSocket()):
        manager.remove_connection(manager.add_connection(socket))
    expected = {("removed", str(code)): 1 for code in CLOSE_CODES}
    assert counted() == {**expected, ("removed", "other"): 4, ("removed", "none"): 9}


async def test_the_sums_by_reason_are_those_of_the_codes() -> None:
    manager = get_websocket_manager("ann")
    for code in (1000, 1001, 1001, None):
        manager.remove_connection(manager.add_connection(Said(code)))
    counters = core._counters()  # type: ignore[attr-defined]
    assert counters["closed"]["removed"] == 4 == counters["connected"]["count"]
    for reason, codes in counters["closed_codes"].items():
        assert sum(codes.values()) == counters["closed"][reason]


async def test_the_metric_has_both_labels_and_every_reason_from_the_start() -> None:
    manager = get_websocket_manager("ann")
    manager.remove_connection(manager.add_connection(Said(1001)))
    (family,) = [f for f in metrics.families() if f.name == "wsmanager_connections_closed_total"]
    samples = {sample.labels: sample.value for sample in family.samples}
    assert samples[("code", "1001"), ("reason", "removed")] == 1
    reasons = core._counters()["closed"]  # type: ignore[attr-defined]
    assert {dict(labels)["reason"] for labels in samples} == set(reasons)
    assert all(samples[("code", "none"), ("reason", reason)] == 0 for reason in reasons)


# -- the client closes -----------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 4403])
async def test_a_client_closes_a_direct_connection(code: int) -> None:
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
        await tab.client.close(code)
        await eventually(lambda: counted() == {("closed", str(code)): 1})


@pytest.mark.parametrize("server", [WebsocketsServer, AiohttpServer])
@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_client_closes_where_the_object_says_the_code(
    server: Callable[[], Any], code: int
) -> None:
    with server() as running:
        tab = await open_tab(running.url, "ann")
        await tab.client.close(code)
        await eventually(lambda: sum(counted().values()) == 1)
        ((_, label),) = counted()
        assert label == str(code)


async def test_control_where_nobody_says_the_code_none_is_made_up() -> None:
    """Starlette's object over uvicorn's own protocol has it in a message only the application sees."""
    with UvicornServer(ws=PLAIN) as server:
        tab = await open_tab(server.url, "ann")
        await tab.client.close(1001)
        await eventually(lambda: counted() == {("removed", "none"): 1})


async def test_a_transport_that_is_lost_is_1006() -> None:
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
        tab.client.transport.abort()
        await eventually(lambda: counted() == {("closed", "1006"): 1})


async def test_the_server_goes() -> None:
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
    await tab.client.wait_closed()
    await eventually(lambda: counted() == {("closed", "1012"): 1})


# -- we close ---------------------------------------------------------------------------


@pytest.mark.parametrize("ws", [DIRECT, PLAIN])
async def test_somebody_is_disconnected(ws: str) -> None:
    with UvicornServer(ws=ws) as server:
        tab = await open_tab(server.url, "ann")
        await get_websocket_manager("ann").disconnect_user("ann", code=4403)
        await tab.client.wait_closed()
        assert tab.client.close_code == 4403
        assert counted() == {("removed", "4403"): 1}


@pytest.mark.parametrize("ws", [DIRECT, PLAIN])
async def test_a_drain(ws: str) -> None:
    with UvicornServer(ws=ws) as server:
        tabs = [await open_tab(server.url, f"user-{n}") for n in range(3)]
        summary = await drain(deadline=5, jitter=0.1)
        assert summary.closed == 3
        for tab in tabs:
            await tab.client.wait_closed()
            assert tab.client.close_code == 1012
        found = counted()
        assert {code for _, code in found} == {"1012"}
        assert sum(found.values()) == 3


async def test_a_session_is_closed() -> None:
    sessions = Sessions(code=4401)
    manager = get_websocket_manager("ann")
    for session in ("s1", "s1", "s2"):
        sessions.register(manager, manager.add_connection(StarletteSocket()), session)
    assert sessions.close_session("s1") == 2
    assert sessions.close_session("s2", 3000) == 1
    assert counted() == {("removed", "4401"): 2, ("removed", "3000"): 1}


async def test_a_slow_consumer_and_sockets_that_are_dead() -> None:
    wsmanager.configure(error_limit=1, outbox_max_events=1)
    manager = get_websocket_manager("ann")
    slow = HangingSocket()
    for websocket in (slow, FailingSocket(ConnectionResetError()), FailingSocket(ValueError("x"))):
        manager.add_connection(websocket)
    for _ in range(3):
        await manager.emit_event("x", {})
    await eventually(lambda: len(manager) == 0)
    assert counted() == {("outbox", "1013"): 1, ("gone", "none"): 1, ("errors", "1011"): 1}


async def test_a_slow_consumer_that_is_cut_off() -> None:
    """Its transport takes nothing, so no close frame can be sent: what it sees is 1006."""
    wsmanager.configure(outbox_max_age=0.3)
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
        with closing(tab.client.transport):
            tab.client.transport.pause_reading()
            manager = get_websocket_manager("ann")
            for _ in range(200):
                manager.emit_event("x", {"pad": "x" * 100_000})
                await asyncio.sleep(0)
                if not len(manager):
                    break
            await eventually(lambda: len(manager) == 0, 15)
            (((reason, code), count),) = counted().items()
            assert (reason in ("age", "outbox"), count) == (True, 1)
            assert code in ("1006", "1013")


# -- several ends at once -----------------------------------------------------------------


async def test_the_first_code_counts() -> None:
    """Closed by the server, the client's echo and the lost transport come later: one end, one code."""
    with UvicornServer(ws=DIRECT) as server:
        tab = await open_tab(server.url, "ann")
        (connection,) = core._connections()  # type: ignore[attr-defined]
        done = asyncio.run_coroutine_threadsafe(
            connection.websocket.close(4408, "too slow"), connection.loop
        )
        await asyncio.wrap_future(done)
        await tab.client.wait_closed()
        await eventually(lambda: counted() == {("closed", "4408"): 1})


async def test_a_close_of_our_own_is_no_news_where_the_peer_was_first() -> None:
    manager = get_websocket_manager("ann")
    socket = Said(1001)
    manager.add_connection(socket)
    await wsmanager.adapters.close(socket, 1012, "late")
    (kept,) = manager.get_user_connections()
    manager.remove_connection(kept)
    assert counted() == {("removed", "1001"): 1}
