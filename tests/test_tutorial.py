"""The tutorial's own blocks: its files run in a real server and a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import importlib
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.browser import Browser, Page, chromium
from support.servers import UvicornServer

from wsmanager import AGENT_EVENTS

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.rst"

pytestmark = pytest.mark.skipif(
    not TUTORIAL.exists(), reason="the documentation is not beside these tests"
)

BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?:   :caption: (?P<file>\S+)\n)?\n"
    r"(?P<text>(?:   .*\n|\n)+)",
    re.M,
)
PACE = 0.15  # seconds; the tutorial's own is for the eye


def blocks() -> list[tuple[str, str | None, str]]:
    """Language, file name and text of each block, in their order."""
    found = []
    for match in BLOCK.finditer(TUTORIAL.read_text()):
        text = "\n".join(line[3:] for line in match["text"].splitlines()).strip() + "\n"
        found.append((match["language"], match["file"], text))
    return found


def versions(name: str) -> list[str]:
    """The texts of a file: the tutorial may replace one by a later one."""
    return [text for _, file, text in blocks() if file == name]


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The application in a folder of its own, as the reader has it after step 3."""
    for name in ("chat.py", "agent.py", "chat.html"):
        (tmp_path / name).write_text(versions(name)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.import_module("agent"), "PACE", PACE)
    yield importlib.import_module("chat")
    for name in ("chat", "agent"):
        del sys.modules[name]


def test_there_is_something_to_try() -> None:
    files = [file for _, file, _ in blocks() if file]
    assert files == ["chat.py", "agent.py", "chat.html", "chat.html"]
    assert sum(text.startswith(">>>") for _, _, text in blocks()) == 3


def test_the_prompts_say_what_python_says() -> None:
    session = "\n".join(text for _, _, text in blocks() if text.startswith(">>>"))
    test = doctest.DocTestParser().get_doctest(session, {}, "tutorial", str(TUTORIAL), 0)
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    failures, tried = doctest.DocTestRunner(optionflags=flags).run(test)
    assert tried >= 8
    assert failures == 0


async def types(page: Page) -> list[str]:
    text: list[str] = await page.evaluate(
        "[...document.querySelectorAll('li')].map((item) => item.textContent.split(' ')[0])"
    )
    return text


async def shows(page: Page, count: int) -> None:
    await page.until(f"document.querySelectorAll('li').length >= {count}")


async def ask(page: Page) -> None:
    await page.evaluate("document.getElementById('ask').click()")


async def open_chat(browser: Browser, server: UvicornServer, user: str = "ann") -> Page:
    page = await browser.open(f"{server.http}/?user={user}")
    # The server has the socket, not only the browser: an event emitted now reaches it.
    await page.until("window.performance.getEntriesByType('resource').length > 0")
    return page


@pytest.mark.parametrize("ws", ["auto", "wsmanager.uvicorn:WebSocketProtocol"])
async def test_two_tabs_and_a_stranger(chat: ModuleType, tmp_path: Path, ws: str) -> None:
    """Steps 1 to 3, and step 7."""
    with UvicornServer(chat.app, ws=ws) as server:
        async with chromium(tmp_path) as browser:
            tabs = [await open_chat(browser, server) for _ in range(2)]
            stranger = await open_chat(browser, server, "bob")
            await asyncio.to_thread(_wait_for_connections, "ann", 2)
            await ask(tabs[0])
            for tab in tabs:
                await shows(tab, len(AGENT_EVENTS))
                assert await types(tab) == list(AGENT_EVENTS)
            assert await types(stranger) == []


@contextlib.asynccontextmanager
async def in_mid_run(chat: ModuleType, folder: Path) -> AsyncIterator[Page]:
    """One tab, which shows the first two events of a run."""
    with UvicornServer(chat.app) as server:
        async with chromium(folder) as browser:
            tab = await open_chat(browser, server)
            await asyncio.to_thread(_wait_for_connections, "ann", 1)
            await ask(tab)
            await shows(tab, 2)
            yield tab


async def test_a_lost_connection(chat: ModuleType, tmp_path: Path) -> None:
    """Step 4: events emitted while the network is gone are there when it is back."""
    async with in_mid_run(chat, tmp_path) as tab:
        manager = chat.get_websocket_manager("ann")
        manager.close_all_connections(1012, "gone for a moment")
        await shows(tab, len(AGENT_EVENTS))
        assert await types(tab) == list(AGENT_EVENTS)


async def test_a_reload_in_mid_run(chat: ModuleType, tmp_path: Path) -> None:
    """Step 5: the later page has all five, once and in order, after a reload."""
    (tmp_path / "chat.html").write_text(versions("chat.html")[1])
    async with in_mid_run(chat, tmp_path) as tab:
        await tab.reload()
        await shows(tab, len(AGENT_EVENTS))
        assert await types(tab) == list(AGENT_EVENTS)


async def test_control_the_first_page_forgets(chat: ModuleType, tmp_path: Path) -> None:
    """Without step 5 the reload loses what was shown: the test above would see it."""
    async with in_mid_run(chat, tmp_path) as tab:
        await tab.reload()
        await tab.until(f"document.body.textContent.includes('{AGENT_EVENTS[-1]}')")
        assert len(await types(tab)) < len(AGENT_EVENTS)


def _wait_for_connections(user: str, count: int) -> None:
    from support.waiting import eventually_sync

    from wsmanager import get_websocket_manager

    eventually_sync(lambda: len(get_websocket_manager(user)) >= count, 20, "the tabs are connected")
