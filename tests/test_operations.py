"""The routes for operators: what they say, over a real server, mounted and by themselves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount
from support.clients import open_tab
from support.loops import LoopThread
from support.outsider import ask
from support.servers import UvicornServer, chat_app
from support.sockets import FailingSocket, HangingSocket, StarletteSocket
from support.waiting import eventually, eventually_sync

import wsmanager
from wsmanager import _log, _probe, get_websocket_manager, readiness
from wsmanager.asgi import OperationsApp
from wsmanager.readiness import Readiness, check_ready, validate_startup

TOKEN = "an-operators-token-of-some-length"
SHOWN = [("Authorization", f"Bearer {TOKEN}")]
ROUTES = ["/health", "/ready", "/config", "/stats", "/metrics", "/top"]


def mounted_app() -> FastAPI:
    app = chat_app()
    app.mount("/ops", OperationsApp(token=TOKEN))
    return app


@pytest.fixture
def server() -> Iterator[UvicornServer]:
    with UvicornServer(mounted_app()) as server:
        yield server


def get(server: UvicornServer, path: str) -> Any:
    answer = ask(server.port, "/ops" + path, headers=SHOWN)
    assert answer.status == 200, answer
    return answer.json()


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_answers(server: UvicornServer, path: str) -> None:
    answer = ask(server.port, "/ops" + path, headers=SHOWN)
    assert answer.status == 200
    assert int(answer.headers["content-length"]) == len(answer.body) > 0
    assert answer.headers["cache-control"] == "no-store"
    head = ask(server.port, "/ops" + path, "HEAD", headers=SHOWN)
    assert (head.status, head.body) == (200, b"")


def test_the_index_names_the_routes(server: UvicornServer) -> None:
    assert get(server, "/")["routes"] == sorted(ROUTES)
    assert ask(server.port, "/ops/nothing", headers=SHOWN).status == 404


@pytest.mark.parametrize(
    "wrap",
    [
        lambda app: app,
        lambda app: Starlette(routes=[Mount("/", app=app)]),
    ],
    ids=["by itself", "at the root"],
)
def test_it_is_served_without_a_mount_too(wrap: Callable[[Any], Any]) -> None:
    with UvicornServer(wrap(OperationsApp(token=TOKEN)), lifespan="on") as server:
        for path in ROUTES:
            assert ask(server.port, path, headers=SHOWN).status == 200


def test_it_knows_its_place_below_mounts_and_proxies() -> None:
    """A mount in a mount, and a proxy that took a prefix off (``--root-path``)."""
    inner = Starlette(routes=[Mount("/ops", app=OperationsApp(token=TOKEN))])
    with UvicornServer(Starlette(routes=[Mount("/deep", app=inner)])) as server:
        assert ask(server.port, "/deep/ops/ready", headers=SHOWN).status == 200
        assert ask(server.port, "/deep/ops", headers=SHOWN).status in (200, 307)
    with UvicornServer(OperationsApp(token=TOKEN), root_path="/api") as server:
        assert ask(server.port, "/ready", headers=SHOWN).status == 200


async def test_stats_add_up(server: UvicornServer) -> None:
    tabs = [await open_tab(server.url, "ann", 1), await open_tab(server.url, "ann", 2)]
    manager = get_websocket_manager("ann")
    for _ in range(5):
        await manager.emit_event("agent_thinking", {})
    for tab in tabs:
        await tab.read(5)
    stats = await asyncio.to_thread(get, server, "/stats")
    counters = stats["counters"]
    assert counters["connections"] == 2 == sum(loop["connections"] for loop in stats["loops"])
    assert counters["emitted"]["agent_thinking"] == 5
    assert counters["sent"]["agent_thinking"] == 10 == counters["emit_to_write"]["count"]
    assert 0 < stats["latency"]["p50"] <= stats["latency"]["p99"] < 10
    assert stats["ready"] is True
    assert stats["reasons"] == []
    for tab in tabs:
        await tab.client.close()


async def test_metrics_are_what_prometheus_reads(server: UvicornServer) -> None:
    tab = await open_tab(server.url, "ann")
    await get_websocket_manager("ann").emit_event("tool_executing", {})
    await tab.read(1)
    answer = await asyncio.to_thread(ask, server.port, "/ops/metrics", headers=SHOWN)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    samples = {
        (s.name, *sorted(s.labels.values())): s.value for f in found.values() for s in f.samples
    }
    assert samples["wsmanager_connections", "generic"] == 1
    assert samples["wsmanager_events_delivered_total", "tool_executing"] == 1
    assert samples["wsmanager_emit_to_write_seconds_count",] == 1
    assert found["wsmanager_emit_to_write_seconds"].type == "histogram"
    await tab.client.close()


# -- ready, and why not ---------------------------------------------------------


def test_ready_while_all_is_well(server: UvicornServer) -> None:
    assert get(server, "/ready") == {"ready": True, "reasons": [], "draining": False}


def test_a_loop_that_is_stuck_is_seen_from_another_thread(server: UvicornServer) -> None:
    """The server's own loop turns; a second one, with a connection, is held up."""
    held = threading.Event()
    with LoopThread() as thread:
        thread.call(get_websocket_manager("ann").add_connection, StarletteSocket())
        assert get(server, "/ready")["ready"] is True  # and the heartbeat begins
        thread.loop.call_soon_threadsafe(held.wait, 30)

        def reasons() -> list[str]:
            return list(ask(server.port, "/ops/ready", headers=SHOWN).json()["reasons"])

        try:
            eventually_sync(reasons, 10, "the stuck loop is noticed")
            answer = ask(server.port, "/ops/ready", headers=SHOWN)
            assert answer.status == 503
            (reason,) = answer.json()["reasons"]
            assert reason.startswith("event loop 1 of 1 (1 connections) has been stuck for ")
            assert get(server, "/stats")["loops"][0]["lag"] > readiness.MAX_LOOP_LAG
            assert ask(server.port, "/ops/health", headers=SHOWN).status == 200
        finally:
            held.set()
        eventually_sync(lambda: not reasons(), 10, "it turns again")
    assert reasons() == [], "a loop that has closed is not stuck"
    get_websocket_manager("ann").close_all_connections()
    eventually_sync(lambda: get(server, "/stats")["loops"] == [], 10)


def test_control_a_loop_that_turns_is_not_called_stuck() -> None:
    """The same readings, over a longer time, of a loop that only is busy."""
    with LoopThread() as thread:
        thread.call(get_websocket_manager("ann").add_connection, StarletteSocket())
        check_ready()
        threading.Event().wait(readiness.MAX_LOOP_LAG / 2 + 3 * _probe.INTERVAL)
        assert check_ready(max_loop_lag=readiness.MAX_LOOP_LAG / 2).reasons == ()


async def test_heartbeats_end_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    get_websocket_manager("ann").add_connection(StarletteSocket())
    monkeypatch.setattr(_probe, "INTERVAL", 0.01)
    monkeypatch.setattr(_probe, "UNREAD_SECONDS", 0.05)
    _probe.loop_lags()
    (heart,) = _probe._hearts.hearts.values()
    assert heart.beating
    await eventually(lambda: not heart.beating)
    assert [lag.seconds for lag in _probe.loop_lags()] == [0.0]  # and begin again
    assert heart.beating


def test_not_ready_while_draining(server: UvicornServer) -> None:
    core_any: Any = wsmanager._wsmanager
    core_any._drain(True)
    try:
        answer = ask(server.port, "/ops/ready", headers=SHOWN)
        assert answer.status == 503
        assert answer.json()["reasons"] == ["draining: no new connections"]
        assert answer.json()["draining"] is True
        assert get(server, "/stats")["draining"] is True
        assert ask(server.port, "/ops/health", headers=SHOWN).status == 200
    finally:
        core_any._drain(False)
    assert get(server, "/ready")["ready"] is True


async def test_a_writer_that_stalls_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond outbox_max_age its own loop should have closed it; here that never looks."""
    wsmanager.configure(outbox_max_age=1000.0)
    socket = HangingSocket()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket)
    manager.emit_event("x", {})
    await eventually(lambda: wsmanager._wsmanager._counters()["longest_wait"] > 0.03)
    assert check_ready()  # a slow client alone is no reason
    wsmanager.configure(outbox_max_age=0.01)
    monkeypatch.setattr(readiness, "STALL_GRACE", 0.0)
    (reason,) = check_ready().reasons
    assert reason.startswith("a writer has waited ")
    wsmanager.configure(outbox_max_age=1000.0)
    socket.release()
    await eventually(lambda: check_ready())


async def test_a_client_that_never_reads_does_not_take_the_process_out() -> None:
    """It is closed in time, and the process stays ready all the while."""
    wsmanager.configure(outbox_max_age=0.2)
    manager = get_websocket_manager("ann")
    manager.add_connection(HangingSocket())
    manager.emit_event("x", {})
    while len(manager):
        assert check_ready()
        await asyncio.sleep(0.01)
    assert check_ready()


def test_further_checks_have_a_say() -> None:
    def broken() -> str | None:
        raise RuntimeError("secret\nline")

    readiness.add_check("backplane", lambda: "deaf for 3 s\nFORGED")
    readiness.add_check("broken", broken)
    try:
        assert check_ready().reasons == (
            "backplane: deaf for 3 s\\nFORGED", "broken: the check failed with RuntimeError",
        )  # fmt: skip
        readiness.add_check("backplane", lambda: None)
        assert len(check_ready().reasons) == 1
    finally:
        assert readiness.remove_check("backplane")
        assert readiness.remove_check("broken")
    assert not readiness.remove_check("broken")
    assert check_ready() == Readiness(())
    with pytest.raises(TypeError, match="a check is a function"):
        readiness.add_check("x", "no")  # type: ignore[arg-type]


def test_a_check_that_has_to_be_awaited_is_refused() -> None:
    """Its coroutine would be a reason not to be ready for ever."""

    async def well() -> None:
        pass

    with pytest.raises(TypeError, match="not async def"):
        readiness.add_check("x", well)  # type: ignore[arg-type]
    assert not readiness.remove_check("x")
    assert check_ready()


async def test_startup_is_validated() -> None:
    assert await validate_startup() == Readiness(())
    assert (await validate_startup(expected_connections=100)).ready
    refused = await validate_startup(expected_connections=1 << 40)
    assert "files may be open" in refused.reasons[0]

    async def says(what: Any) -> Any:
        if isinstance(what, Exception):
            raise what
        return what

    for what, reason in ((False, "said no"), (ValueError("secret"), "failed with ValueError")):
        wsmanager.configure(availability_check=lambda what=what: says(what))
        verdict = await validate_startup()
        assert not verdict
        assert verdict.reasons == (f"the availability check {reason}",)
    wsmanager.configure(availability_check=lambda: asyncio.sleep(60, True))
    verdict = await validate_startup(timeout=0.3)
    assert verdict.reasons == ("the availability check took too long",)
    with pytest.raises(ValueError, match="above 0"):
        await validate_startup(timeout=0)


# -- the page -------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a browser would look at."""

    VOID = frozenset(("meta", "link", "br", "hr", "img", "input"))

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[tuple[str, str, str]] = []
        self.handlers: list[str] = []
        self.script = ""
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                self.links.append((tag, name, value or ""))
            if name.startswith("on") or name == "style":
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script += data
        elif self.open and self.open[-1] == "style":
            self.style += data


def test_the_page_is_whole_and_asks_for_nothing_else(server: UvicornServer) -> None:
    import base64
    import hashlib
    import re

    answer = ask(server.port, "/ops/top", headers=SHOWN)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.body.decode())
    assert page.open == [], "elements that were never closed"
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert page.links == [("a", "href", "stats")]
    assert page.handlers == []
    assert len(page.ids) == len(set(page.ids))
    # every element the script asks for is there
    asked = set(re.findall(r'byId\("(\w+)"\)|fill\("(\w+)"', page.script))
    assert {one or other for one, other in asked} == set(page.ids)
    assert not re.search(r"https?://|//\w+\.\w|@import|url\(", page.script + page.style)
    # nothing that came from the service is ever read as HTML
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval", page.script
    )
    policy = answer.headers["content-security-policy"]
    for kind, text in (("script-src", page.script), ("style-src", page.style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


async def test_the_page_shows_what_stats_say(server: UvicornServer) -> None:
    """Each member the script reads is in the answer: a renamed one would show as nothing."""
    import re

    socket = HangingSocket()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket)
    manager.add_connection(FailingSocket(ValueError("bug")))
    for _ in range(3):
        manager.emit_event("x", {})
    await eventually(lambda: len(manager) == 1)
    page = await asyncio.to_thread(ask, server.port, "/ops/top", headers=SHOWN)
    stats = await asyncio.to_thread(get, server, "/stats")
    script = Page(page.body.decode()).script
    reads = {
        "now": stats, "c": stats["counters"], "x": stats["counters"], "from": stats["counters"],
        "row": {**stats["slowest"][0], **stats["errors"][0]}, "loop": stats["loops"][0],
    }  # fmt: skip
    seen = 0
    for name, source in reads.items():
        for member in re.findall(rf"\b{name}\.(\w+)", script):
            assert member in source, f"{name}.{member}"
            seen += 1
    assert seen > 40
    assert stats["errors"][0]["reason"] == "ValueError"
    assert stats["slowest"][0]["queued_events"] == 2
    socket.release()
    await eventually(lambda: wsmanager._wsmanager._counters()["queued_events"] == 0)


def test_the_settings_show_no_secret(server: UvicornServer) -> None:
    async def check(password: str = "canary") -> bool:
        return True

    wsmanager.configure(availability_check=check, envelope=lambda envelope: envelope)
    shown = get(server, "/config")["settings"]
    assert shown["availability_check"] == "set"
    assert shown["envelope"] == "set"
    assert shown["slow_policy"] == "close"
    assert set(shown) == set(wsmanager.get_config())


def test_the_last_errors_are_kept_few_and_counted() -> None:
    _log._recent.clear()
    for i in range(1000):
        _log.report("error", f"kind {i % 200}", {"error": type(f"E{i % 200}", (Exception,), {})()})
    rows = _log.recent()
    assert len(rows) == _log._MAX_RECENT
    assert all(row["count"] == 1 for row in rows)  # one that was pushed out begins anew
    _log.report("error", "again", {"error": ValueError()})
    _log.report("error", "again", {"error": ValueError()})
    assert _log.recent()[0]["count"] == 2
    json.dumps(rows)
    _log._recent.clear()
