"""The example applications, each as its own process: the same five events, the same order."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from wsmanager import AGENT_EVENTS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the examples are not beside these tests"
)

UVICORN = [sys.executable, "-m", "uvicorn", "agent_fastapi:app", "--log-level", "warning"]
COMMANDS = {
    "uvicorn": [*UVICORN, "--port"],
    "uvicorn --ws": [*UVICORN, "--ws", "wsmanager.uvicorn:WebSocketProtocol", "--port"],
    "websockets": [sys.executable, "agent_websockets.py"],
    "aiohttp": [sys.executable, "agent_aiohttp.py"],
}


@contextmanager
def served(command: list[str]) -> Iterator[str]:
    """The URL of the example that *command*, completed by a free port, serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [*command, str(port)],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"ws://127.0.0.1:{port}/ws"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
        assert "Traceback" not in errors, errors


async def tab(url: str) -> ClientConnection:
    """A client, as soon as the server answers."""
    for _ in range(600):
        try:
            return await connect(url)
        except OSError:
            await asyncio.sleep(0.05)
    raise AssertionError(f"nothing answers at {url}")


async def read(client: ClientConnection, count: int) -> list[str]:
    return [json.loads(await asyncio.wait_for(client.recv(), 20))["type"] for _ in range(count)]


@pytest.mark.golden_path
@pytest.mark.parametrize("name", COMMANDS)
async def test_every_tab_of_the_user_gets_the_five_events(name: str) -> None:
    with served(COMMANDS[name]) as url:
        tabs = [await tab(f"{url}/ann"), await tab(f"{url}/ann")]
        stranger = await tab(f"{url}/bob")
        await tabs[0].send("run")
        for each in tabs:
            assert await read(each, 5) == list(AGENT_EVENTS)
        await stranger.send("run")
        assert await read(stranger, 5) == list(AGENT_EVENTS), "its own, and nothing before them"
        for each in (*tabs, stranger):
            await each.close()
