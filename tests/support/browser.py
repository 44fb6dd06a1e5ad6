"""Headless Chromium, driven by its DevTools protocol over one WebSocket.

::

    async with chromium(tmp_path) as browser:
        page = await browser.open(url)
        assert await page.evaluate("document.title") == "..."

https://chromedevtools.github.io/devtools-protocol/ names the commands.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.waiting import STEP, eventually

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell")
OPTIONS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers give little
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--password-store=basic",
)
START_SECONDS = 60.0


def find_chromium() -> str:
    """Its path; a skip that says how to get it, if it is not here."""
    for name in (os.environ.get("WSMANAGER_CHROMIUM", ""), *NAMES):
        path = shutil.which(name) if name else None
        if path is not None:
            return path
    pytest.skip("no Chromium here; on Debian: apt-get install --no-install-recommends chromium")


class CommandFailed(AssertionError):
    """The browser refused a command, or a script in a page threw."""


class Page:
    """One tab."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser = browser
        self.target = target
        self.session = session

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        return await self.browser.command(method, session=self.session, **params)

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = await self.command(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise CommandFailed(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def until(self, script: str, timeout: float = 20.0) -> Any:
        """Wait until an expression is true, across reloads; its value."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            try:
                value = await self.evaluate(script)
            except CommandFailed:  # the page is between two documents
                value = None
            if value:
                return value
            if loop.time() > end:
                raise AssertionError(f"not true within {timeout} s in the page: {script}")
            await asyncio.sleep(5 * STEP)

    async def goto(self, url: str) -> None:
        """Load *url*; returns when its document is complete."""
        await self.command("Page.navigate", url=url)
        await self.until(f"location.href.startsWith({json.dumps(url)}) && {_COMPLETE}")

    async def reload(self) -> None:
        """As the user's reload; returns when the new document is complete."""
        await self.evaluate("void (window.beforeReload = true)")
        await self.command("Page.reload")
        await self.until(f"!window.beforeReload && {_COMPLETE}")

    async def offline(self, offline: bool = True) -> None:
        """Cut the page's network, or give it back; the page gets the event."""
        await self.command(
            "Network.emulateNetworkConditions",
            offline=offline,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    async def kill(self) -> None:
        """Crash its process: the server gets no close frame."""
        self.browser.post("Page.crash", session=self.session)  # which nobody is left to answer
        await eventually(lambda: self.session in self.browser.crashed, 10)

    async def close(self) -> None:
        await self.browser.command("Target.closeTarget", targetId=self.target)


_COMPLETE = "document.readyState === 'complete'"


class Browser:
    """A running Chromium with a profile of its own."""

    def __init__(self, socket: ClientConnection, process: asyncio.subprocess.Process) -> None:
        self.socket = socket
        self.process = process
        self.crashed: set[str] = set()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                message = json.loads(text)
                waiting = self._waiting.pop(message.get("id", 0), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
                elif message.get("method") == "Inspector.targetCrashed":
                    self.crashed.add(message["sessionId"])
        except ConnectionClosed:
            pass
        for waiting in self._waiting.values():
            waiting.cancel("the browser has gone")

    def post(self, method: str, session: str | None = None, **params: Any) -> int:
        """Send a command; nobody waits for its answer."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        task = asyncio.ensure_future(self.socket.send(json.dumps(message)))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return number

    async def command(
        self, method: str, session: str | None = None, timeout: float = 30.0, **params: Any
    ) -> dict[str, Any]:
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self.post(method, session, **params)] = future
        answer = await asyncio.wait_for(future, timeout)
        if "error" in answer:
            raise CommandFailed(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str) -> Page:
        """A new tab with *url* in it; returns when its document is complete."""
        target = await self.command("Target.createTarget", url="about:blank")
        target_id = target["targetId"]
        attached = await self.command("Target.attachToTarget", targetId=target_id, flatten=True)
        page = Page(self, target_id, attached["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Inspector"):
            await page.command(f"{domain}.enable")
        await page.goto(url)
        return page

    async def end(self) -> None:
        await self.socket.close()
        await self._reader
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """A Chromium whose profile and log are in *folder*."""
    profile = folder / "chromium"
    profile.mkdir(parents=True, exist_ok=True)
    command = [find_chromium(), *OPTIONS, f"--user-data-dir={profile}"]
    if os.getuid() == 0:
        command.append("--no-sandbox")  # it refuses to run as root with one
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, "about:blank", stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL
        )
    port_file = profile / "DevToolsActivePort"
    try:
        await eventually(
            lambda: process.returncode is not None or _has_two_lines(port_file), START_SECONDS
        )
        assert process.returncode is None, (folder / "chromium.log").read_text()[-2000:]
        port, path = port_file.read_text().split()
        url = f"ws://127.0.0.1:{port}{path}"
        socket = await connect(url, max_size=None, ping_interval=None, proxy=None)
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise
    browser = Browser(socket, process)
    try:
        yield browser
    finally:
        await browser.end()


def _has_two_lines(path: Path) -> bool:
    return path.exists() and len(path.read_text().split()) == 2
