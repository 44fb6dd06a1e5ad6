"""Real tabs of a real browser on a real server: nothing lost, doubled or reordered unsaid."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.browser import Browser, Page, chromium
from support.events import source
from support.ledger import faults
from support.node import planted
from support.scripted import relay
from support.servers import UvicornServer
from support.stream_app import Storm, stream_app
from support.waiting import eventually, eventually_sync

import wsmanager
from wsmanager import get_websocket_manager

TESTS = Path(__file__).resolve().parent
EXAMPLES = TESTS.parent / "examples"
DIRECT = "wsmanager.uvicorn:WebSocketProtocol"


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(tmp_path) as running:
        yield running


@contextmanager
def serving(app: Any = None, **config: Any) -> Iterator[UvicornServer]:
    settings = {"lifespan": "on", "ws": DIRECT, **config}
    with UvicornServer(app or stream_app(), **settings) as server:
        yield server


async def log_of(page: Page, last: int) -> list[Any]:
    """What the page has seen, once it has the event *last*."""
    await page.until(f"window.last && last() >= {last}", 30)
    found: list[Any] = await page.evaluate("log")
    return found


async def ready(page: Page) -> None:
    await page.until("window.log && log.some(([kind]) => kind === 'resumed')")


# -- reloads and tabs -----------------------------------------------------------


async def test_two_tabs_and_reloads_in_the_middle_of_a_storm(browser: Browser) -> None:
    with serving() as server:
        url = f"{server.http}/?user=ann"
        pages = [await browser.open(url), await browser.open(url)]
        for page in pages:
            await ready(page)
        with Storm("ann") as storm:
            for turn in range(6):
                page = pages[turn % 2]
                before = storm.last
                await page.reload()
                await page.until(f"window.last && last() > {before}", 30)
        for page in pages:
            log = await log_of(page, storm.last)
            assert faults(log, storm.last) == []
            resumed = [value for kind, value in log if kind == "resumed"]
            assert [each["recovered"] for each in resumed] == [False, True, True, True]
            assert any(each["replayed"] > 0 for each in resumed[1:])


async def test_a_reload_that_missed_too_much_is_told_so(browser: Browser) -> None:
    with serving() as server:
        page = await browser.open(f"{server.http}/?user=ann")
        await ready(page)
        wsmanager.configure(journal_max_events=10)
        manager = get_websocket_manager("ann")
        manager.emit_event("n", {"n": 1})
        await log_of(page, 1)
        await page.evaluate("client.close()")
        await eventually(lambda: len(manager) == 0)
        for n in range(2, 40):
            manager.emit_event("n", {"n": n})
        await page.reload()
        await page.until("window.log && log.filter(([kind]) => kind === 'resumed').length === 2")
        manager.emit_event("n", {"n": 40})
        log = await log_of(page, 40)
        assert faults(log, 40) != []
        assert faults(log, 40, gaps_allowed=True) == []


async def test_a_killed_tab_leaves_and_harms_no_other(browser: Browser) -> None:
    with serving() as server:
        manager = get_websocket_manager("ann")
        url = f"{server.http}/?user=ann"
        doomed, other = await browser.open(url), await browser.open(url)
        await ready(doomed)
        await ready(other)
        with Storm("ann") as storm:
            await other.until("window.last && last() > 20")
            await doomed.kill()
            await eventually(lambda: len(manager) == 1, 15)
            before = storm.last
            await other.until(f"last() > {before}")
            again = await browser.open(url)  # a new tab, with no position
            await ready(again)
            await again.until("window.last && last() > 0")
        assert faults(await log_of(other, storm.last), storm.last) == []
        log = await log_of(again, storm.last)
        first = next(value for kind, value in log if kind == "event")
        assert faults(log, storm.last, first=first) == []


async def test_a_killed_browser_leaves(tmp_path: Path) -> None:
    with serving() as server:
        manager = get_websocket_manager("ann")
        async with chromium(tmp_path) as browser:
            await ready(await browser.open(f"{server.http}/?user=ann"))
            assert len(manager) == 1
            browser.process.kill()
            await browser.process.wait()
            await eventually(lambda: len(manager) == 0, 15)


# -- links ----------------------------------------------------------------------


async def cut_links(browser: Browser, module: Any = None, cuts: int = 12) -> tuple[list[Any], int]:
    """A storm, while the link is reset again and again, also in the middle of a replay."""
    app = stream_app() if module is None else stream_app(module)
    with serving(app) as server:
        async with relay(server.port) as link:
            page = await browser.open(f"http://127.0.0.1:{link.port}/?user=ann")
            await ready(page)
            with Storm("ann") as storm:
                for _ in range(cuts):
                    count = await page.evaluate("log.filter(([k]) => k === 'resumed').length")
                    link.cut()
                    await page.until(f"log.filter(([k]) => k === 'resumed').length > {count}", 30)
                    await asyncio.sleep(random.uniform(0, 0.05))
            await page.until("client.state === 'open'")
            # One more, after the storm, so that every page comes to its end.
            get_websocket_manager("ann").emit_event("n", {"n": storm.last + 1})
            return await log_of(page, storm.last + 1), storm.last + 1


async def test_links_that_are_reset_in_the_middle_of_a_storm(browser: Browser) -> None:
    log, last = await cut_links(browser)
    assert faults(log, last) == []
    assert sum(kind == "resumed" for kind, _ in log) >= 13


def serve_module(path: Path) -> Any:
    text = path.read_bytes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/javascript")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    return app


async def test_control_the_checker_sees_doubles(browser: Browser, tmp_path: Path) -> None:
    """A position that lags behind makes doubles, which the window of ids hides: so both are broken."""
    module = planted("position stands still", tmp_path)
    module.write_text(module.read_text().replace("this.#seen.has(event.id)", "false"))
    log, last = await cut_links(browser, serve_module(module), cuts=4)
    assert any("doubled" in fault for fault in faults(log, last))


async def test_control_the_checker_sees_a_loss(browser: Browser, tmp_path: Path) -> None:
    """A client that connects anew without its position, and does not say so."""
    module = planted("says nothing of a failed resume", tmp_path)
    text = module.read_text()
    old = "url.searchParams.set(resumeParam, this.#position)"
    assert old in text
    module.write_text(text.replace(old, "url.searchParams.set(resumeParam, '')"))
    log, last = await cut_links(browser, serve_module(module), cuts=4)
    assert any("without a word" in fault for fault in faults(log, last))


async def test_a_half_open_link_is_noticed_and_resumed(browser: Browser) -> None:
    with serving(ws_ping_interval=None) as server:
        async with relay(server.port) as link:
            page = await browser.open(f"http://127.0.0.1:{link.port}/?user=ann&beat=300")
            await ready(page)
            with Storm("ann", 0.01) as storm:
                await page.until("last() > 5")
                link.go_silent()
                seen = storm.last
                await page.until(f"last() > {seen + 10}", 30)
            log = await log_of(page, storm.last)
        assert faults(log, storm.last) == []
        reasons = [value["reason"] for kind, value in log if kind == "close"]
        assert "heartbeat timeout" in reasons


async def patient(page: Page) -> None:
    """Another client in the page, which waits for minutes before it comes back."""
    await page.evaluate(
        "import('/module/wsmanager.js').then(({connect}) => { client.close(); "
        "window.client = connect('/ws?user=ann', {minDelay: 600000, maxDelay: 600000}); })"
    )
    await page.until("client.state === 'open'")
    await page.evaluate("void (Math.random = () => 0.9)")


async def test_back_online_it_does_not_wait(browser: Browser) -> None:
    """Waiting for minutes: the browser's event that the network is back ends the wait."""
    with serving() as server:
        manager = get_websocket_manager("ann")
        page = await browser.open(f"{server.http}/?user=ann")
        await ready(page)
        await patient(page)
        manager.close_all_connections(1012, "service restart")
        await page.until("client.state === 'waiting'")
        await page.offline()
        await page.until("navigator.onLine === false")
        assert await page.evaluate("client.state") == "waiting"
        await page.offline(False)
        await page.until("client.state === 'open'")
        # And not before the time that the server has named.
        manager.close_all_connections(1012, "service restart; retry-after=3000")
        await page.until("client.state === 'waiting'")
        await page.offline()
        await page.offline(False)
        await page.until("navigator.onLine")
        assert await page.evaluate("client.state") == "waiting"


async def test_a_page_that_is_shown_again_does_not_wait(browser: Browser) -> None:
    with serving() as server:
        manager = get_websocket_manager("ann")
        page = await browser.open(f"{server.http}/?user=ann")
        await ready(page)
        await patient(page)
        other = await browser.open("about:blank")
        await page.until("document.visibilityState === 'hidden'")
        manager.close_all_connections(1012, "service restart")
        await page.until("client.state === 'waiting'")
        await other.close()
        await page.command("Page.bringToFront")
        await page.until("client.state === 'open'")


# -- the example ------------------------------------------------------------------


async def test_the_example_page(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page and its application, word for word; reloaded in the middle of a run."""
    spec = importlib.util.spec_from_file_location("browser_app", EXAMPLES / "browser_app.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "browser_app", example)
    spec.loader.exec_module(example)
    with serving(example.app) as server:
        page = await browser.open(f"{server.http}/?user=bob")
        await page.until("document.querySelector('#state').textContent === 'open'")
        await page.evaluate("void document.querySelector('#run').click()")
        await page.until("document.querySelectorAll('li').length >= 4")
        await page.reload()
        await page.until("document.querySelector('#events').innerText.includes('agent_completed')")
        texts = await page.evaluate(
            "[...document.querySelectorAll('li')].map((li) => li.innerText)"
        )
        assert [text.strip() for text in texts] == [
            "agent_started",
            *(f"agent_thinking {n}" for n in range(1, 21)),
            "agent_completed",
        ]
        async with source(f"{server.http}/events/bob") as stream:
            assert (await stream.events(1))[0]["type"] == "resumed"


# -- the server goes and comes back ---------------------------------------------


class Process:
    """The application in a process of its own, on a port that is kept over restarts."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "uvicorn", "--app-dir", str(TESTS), "--port", str(self.port),
                "--ws", DIRECT, "--log-level", "warning", "support.stream_app:app",
            ],
            env={**os.environ, "STREAM_DRAIN": "1"},
        )  # fmt: skip
        eventually_sync(self.answers, 30, "the server has started")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the server ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def stop(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)

    def post(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture
def process() -> Iterator[Process]:
    running = Process()
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop(signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_server_that_restarts_says_what_it_does_not_know(
    browser: Browser, process: Process, how: signal.Signals
) -> None:
    """One process's journal ends with it: the page is told, and goes on from the new position."""
    page = await browser.open(f"{process.url}/?user=ann")
    await ready(page)
    await asyncio.to_thread(process.post, "/emit?user=ann&first=1&last=50")
    await log_of(page, 50)
    await asyncio.to_thread(process.stop, how)
    await asyncio.to_thread(process.start)
    await page.until("log.filter(([kind]) => kind === 'resumed').length === 2", 30)
    await asyncio.to_thread(process.post, "/emit?user=ann&first=51&last=100")
    log = await log_of(page, 100)
    assert faults(log, 100, gaps_allowed=True) == []
    assert [kind for kind, _ in log].count("gap") == 1
    code = next(value["code"] for kind, value in log if kind == "close")
    assert code == (1012 if how is signal.SIGTERM else 1006)
    if how is signal.SIGTERM:
        reasons = [value["reason"] for kind, value in log if kind == "close"]
        assert reasons[0] == "service restart; retry-after=0.1"
