"""The demo: its proof in a terminal, and its pages in a real browser.

With WSMANAGER_SCREENSHOTS=FOLDER the pictures of the README are taken as well.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from support.browser import Page, chromium

import wsmanager
from wsmanager import AGENT_EVENTS, get_websocket_manager
from wsmanager.demo import app, server

PACE = 0.15  # seconds between two events of the agent
SIZE = (1440, 900)
DEMO = Path(app.__file__).parent
PICTURES = os.environ.get("WSMANAGER_SCREENSHOTS")
MOST_BYTES = 200_000  # of a picture


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Page]:
    """The page with two tabs of ada's, both connected."""
    demo = app.create_app(PACE)
    with server.Server(demo) as running:
        async with chromium(tmp_path) as browser:
            page = await browser.open("about:blank")
            width, height = SIZE
            await page.command(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=height, deviceScaleFactor=1, mobile=False,
            )  # fmt: skip
            await scheme(page, "light")
            await page.goto(running.url)
            await page.until(f"window.demo && demo.tabs.every({LIVE})")
            yield page
        demo.state.sessions.end()


LIVE = "(tab) => tab.page?.client.state === 'open' && tab.page.ready()"


async def scheme(page: Page, name: str) -> None:
    """Dark or light, as the reader's system has it."""
    await page.command(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}]
    )


async def act(page: Page, name: str) -> Any:
    """What a button does; a run's id where it starts one."""
    return await page.evaluate(f"demo.ACTS.{name}()")


async def counts(page: Page) -> list[dict[str, int]]:
    """What the two tabs say of themselves."""
    text = await page.evaluate("JSON.stringify(demo.tabs.map((tab) => tab.page.counts))")
    found: list[dict[str, int]] = json.loads(text)
    return found


async def seen(page: Page, number: int, events: int) -> None:
    """Wait until a tab, 0 or 1, has shown so many events."""
    await page.until(f"demo.tabs[{number}].page?.counts.events >= {events}", 40)


async def connected(page: Page, count: int) -> None:
    """Wait until the server's figures on the page say so."""
    await page.until(f"document.querySelector('#connected dd')?.textContent === '{count}'", 60)


async def steps(page: Page, number: int) -> list[str]:
    """The types of the events of the newest run a tab shows."""
    script = (
        f"[...demo.tabs[{number}].frame.contentDocument.querySelectorAll("
        "'.run:last-of-type li:not(.note)')].map((item) => item.classList[0])"
    )
    found: list[str] = await page.evaluate(script)
    return found


def whole(count: dict[str, int]) -> bool:
    return count["missing"] == count["twice"] == count["foreign"] == 0


STILL = """[document, ...demo.tabs.map((tab) => tab.frame.contentDocument)]
    .every((each) => each.getAnimations().length === 0)"""


async def picture(page: Page, name: str) -> None:
    """Keep what is to be seen when nothing moves any more, where pictures are wanted."""
    if PICTURES is None:
        return
    await page.until(STILL)
    answer = await page.command("Page.captureScreenshot", format="png")
    keep(f"{name}.png", base64.b64decode(answer["data"]))


def keep(name: str, data: bytes) -> None:
    assert PICTURES is not None
    assert len(data) < MOST_BYTES
    folder = Path(PICTURES)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def run_demo(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wsmanager.demo", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "SERVE"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_the_proof_in_a_terminal() -> None:
    with run_demo() as child:
        out, err = child.communicate(timeout=60)
    assert child.returncode == 0, out + err
    assert err == ""
    assert "20 events received, 0 of them another user's" in out
    assert out.rstrip().splitlines()[-1].startswith("OK:")


def test_it_stays_up_until_it_is_interrupted() -> None:
    with run_demo("--serve") as child:
        assert child.stdout is not None
        lines = iter(child.stdout.readline, "")
        url = next(match[1] for line in lines if (match := re.match(r"Open (http://\S+)", line)))
        assert url.startswith("http://127.0.0.1:")
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert err == ""


def test_the_pages_ask_for_nothing_of_others() -> None:
    for file in DEMO.glob("*.*"):
        if file.suffix in (".html", ".css"):
            assert not re.search(r"(?:https?:)?//[a-z]", file.read_text()), file.name


async def test_both_tabs_see_a_run(stage: Page) -> None:
    run = await act(stage, "ask")
    assert re.fullmatch(r"run-[0-9a-f]{8}", run)
    for number in (0, 1):
        await seen(stage, number, len(AGENT_EVENTS))
        assert await steps(stage, number) == list(AGENT_EVENTS)
    assert all(whole(count) and count["replayed"] == 0 for count in await counts(stage))


async def test_a_reload_in_mid_run(stage: Page) -> None:
    await act(stage, "ask")
    for number in (0, 1):
        await seen(stage, number, 5)
    await act(stage, "reload")
    for number in (0, 1):
        await seen(stage, number, 10)
        assert await steps(stage, number) == list(AGENT_EVENTS)
    assert all(whole(count) and count["events"] == 10 for count in await counts(stage))


async def test_a_tab_that_was_closed_in_mid_run(stage: Page) -> None:
    await act(stage, "away")
    await seen(stage, 1, 5)
    assert await steps(stage, 1) == list(AGENT_EVENTS)
    first, second = await counts(stage)
    assert whole(first)
    assert whole(second)
    assert 1 <= second["replayed"] <= 3  # by the machine's load: how long a tab takes to go
    await connected(stage, 2)
    await picture(stage, "demo-resumed")
    await scheme(stage, "dark")
    await stage.evaluate("document.getElementById('scheme').click()")
    await picture(stage, "demo-dark")


async def test_another_user_sees_nothing(stage: Page) -> None:
    await stage.evaluate("(demo.tabs[1].user.value = 'grace', demo.tabs[1].user.onchange())")
    await stage.until("demo.tabs[1].page?.session.user_id === 'user-grace'")
    await stage.until(f"({LIVE})(demo.tabs[1])")
    await act(stage, "ask")
    await seen(stage, 0, 5)
    first, second = await counts(stage)
    assert whole(first)
    assert second["events"] == 0


async def test_a_frozen_tab_harms_itself_only(stage: Page) -> None:
    await act(stage, "ask")
    await seen(stage, 0, 5)
    await act(stage, "frozen")
    ada = get_websocket_manager("user-ada")
    await connected(stage, 3)
    await act(stage, "stream")
    await stage.until(
        "document.querySelector('#connections .busy td:nth-child(3)')?.textContent.includes('KiB')"
    )
    await picture(stage, "demo-frozen")
    await stage.until("demo.tabs.every((tab) => tab.page.counts.lines === 3000)", 60)
    await connected(stage, 2)
    assert len(ada) == 2
    assert wsmanager.get_manager_registry_status()["slow_consumers"] == 1
    await act(stage, "ask")
    for number in (0, 1):
        await seen(stage, number, 10)
        assert await steps(stage, number) == list(AGENT_EVENTS)
    assert all(whole(count) for count in await counts(stage))


async def test_control_a_tab_says_what_is_missing(stage: Page) -> None:
    """A run of which the last event only is sent: the counts above would not be zero."""
    payload = {"agent_name": "x", "result": "y", "execution_time_ms": 1}
    get_websocket_manager("user-ada").emit_event("agent_completed", payload, run_id="run-x")
    for number in (0, 1):
        await seen(stage, number, 1)
    assert [count["missing"] for count in await counts(stage)] == [4, 4]
    assert not any(whole(count) for count in await counts(stage))


async def test_the_live_page_of_the_server_is_there(stage: Page) -> None:
    await stage.until("document.querySelectorAll('#figures dd').length === 9")
    assert await stage.evaluate("fetch('/ops/top').then((answer) => answer.status)") == 200
    own = await stage.evaluate(
        "performance.getEntriesByType('resource').every(({ name }) => name.startsWith(location.origin))"
    )
    assert own
