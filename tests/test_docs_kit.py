"""The examples of docs/testing.rst and docs/security.rst are run as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.waiting import eventually

import wsmanager
from wsmanager import get_websocket_manager, security, testing
from wsmanager.testing import FakeStarlette

DOCS = Path(__file__).resolve().parents[1] / "docs"
TESTING, SECURITY = DOCS / "testing.rst", DOCS / "security.rst"

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(not SECURITY.exists(), reason="the docs are not beside these tests")


def blocks(page: Path) -> list[str]:
    found = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", page.read_text(), re.M)
    return ["\n".join(line[3:] for line in block.splitlines()).strip() + "\n" for block in found]


def test_every_example_of_testing_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a session of its own, each block a test module; and a broken one fails, the control."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    paths = [str(Path(wsmanager.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        "addopts = --strict-markers -p no:cacheprovider -p pytest_asyncio.plugin "
        "-p wsmanager.testing.plugin\nfilterwarnings = error\n"
    )
    examples = blocks(TESTING)
    pytester.makepyfile(**{f"test_{n}": block for n, block in enumerate(examples)})
    pytester.runpytest_subprocess(timeout=100).assert_outcomes(passed=len(examples))
    broken = examples[0].replace('"agent_started", {', '"agent_begun", {')
    pytester.makepyfile(test_0=broken)
    pytester.runpytest_subprocess(timeout=100).assert_outcomes(passed=len(examples) - 1, failed=1)


def security_example(words: str) -> dict[str, Any]:
    (block,) = [block for block in blocks(SECURITY) if words in block]
    names: dict[str, Any] = {}
    exec(compile(block, str(SECURITY), "exec"), names)
    return names


async def test_origin_example() -> None:
    endpoint = security_example("check_origin(")["endpoint"]
    good = FakeStarlette(headers=[("Origin", "https://app.example.com")], accepted=False)
    await endpoint(good)
    assert good.application_state.name == "CONNECTED"
    bad = FakeStarlette(headers=[("Origin", "https://evil.com")], accepted=False)
    await endpoint(bad)
    assert bad.closed_with == (1008, "origin")


async def test_ticket_example() -> None:
    names = security_example("def ticket(")
    ticket = names["ticket"]("ann")["ticket"]
    protocols = ["events.v1", f"wsmanager.ticket.{ticket}"]
    websocket = FakeStarlette(subprotocols=protocols, accepted=False)
    assert await names["endpoint"](websocket) == {"user_id": "ann"}
    assert websocket.server.subprotocol == "events.v1"
    again = FakeStarlette(subprotocols=protocols, accepted=False)
    assert await names["endpoint"](again) is None
    assert again.closed_with == (3000, "log in first")


async def test_first_message_example() -> None:
    endpoint = security_example("first_message_credential(")["endpoint"]
    websocket = FakeStarlette(accepted=False)
    websocket.push('{"type": "auth", "token": "abc"}')
    assert await endpoint(websocket) == "abc"


def test_shared_store_example() -> None:
    class Store(dict[str, int]):
        def set(self, name: str, value: int, *, nx: bool, px: int) -> bool | None:
            assert nx and 0 < px <= 30_000
            if name in self:
                return None
            self[name] = value
            return True

    store = Store()
    office_of = security_example("def office_of(")["office_of"]
    offices = [office_of(store, b"k" * 32) for _ in range(2)]
    ticket = offices[0].issue("ann")
    assert offices[1].redeem(ticket) == "ann"
    with pytest.raises(security.InvalidTicket):
        offices[0].redeem(ticket)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of this test's own, on a socket file."""
    import shutil
    import subprocess

    pytest.importorskip("redis")
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server on this machine")
    path = tmp_path / "redis.sock"
    command = [
        server,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait(10)


def test_shared_store_example_on_a_real_redis(redis_url: str) -> None:
    """The documented claim, word for word: once among processes that share a key and a store."""
    import redis

    office_of = security_example("def office_of(")["office_of"]
    with redis.Redis.from_url(redis_url) as client:
        offices = [office_of(client, b"k" * 32) for _ in range(3)]
        for _ in range(20):
            ticket = offices[0].issue("ann")
            taken = 0
            for office in offices:
                try:
                    taken += office.redeem(ticket) == "ann"
                except security.InvalidTicket:
                    pass
            assert taken == 1
        names = [name.decode() for name in client.scan_iter()]
        assert len(names) == 20 and not any("ann" in name for name in names)
        assert all(0 < client.pttl(name) <= 30_000 for name in names)


async def test_sessions_example() -> None:
    names = security_example("sessions = Sessions()")
    websocket = FakeStarlette(accepted=False)
    claims = {"sub": "ann", "sid": "s", "exp": time.time() + 60}
    handler = asyncio.ensure_future(names["endpoint"](websocket, claims))
    await eventually(lambda: len(names["sessions"]) == 1)
    assert names["token_renewed"]("s", time.time() + 120) == 1
    assert await asyncio.to_thread(names["log_out"], "s") == 1
    await asyncio.wait_for(handler, 5)
    assert websocket.closed_with == (3000, "logged out")
    late = FakeStarlette(accepted=False)
    await asyncio.wait_for(names["endpoint"](late, claims), 5)
    await eventually(lambda: late.closed_with)
    assert len(get_websocket_manager("ann")) == 0


async def test_limiter_example() -> None:
    endpoint = security_example("InboundLimiter(")["endpoint"]
    websocket = FakeStarlette(accepted=False)
    websocket.push("hello")
    websocket.push("x" * (64 * 1024 + 1))
    assert await endpoint(websocket, "ann") == ["hello"]
    assert websocket.closed_with == (1009, "message too big")


def test_every_block_is_run() -> None:
    """A new example in docs/security.rst needs a test here."""
    assert len(blocks(SECURITY)) == 6


@pytest.mark.parametrize("page", [TESTING, SECURITY], ids=lambda page: page.name)
def test_names_in_the_docs_exist(page: Path) -> None:
    text = page.read_text()
    for module, names in ((security, security.__all__), (testing, testing.__all__)):
        for name in names:
            assert getattr(module, name) is not None
    known = {*security.__all__, *testing.__all__, "Recorder", "WebSocketConnection", "LoopThread"}
    for name in set(re.findall(r"``([A-Z][A-Za-z]+)(?:``|\()", text)):
        assert (
            name in known
            or hasattr(wsmanager, name)
            or name in ("Origin", "Host", "TestClient", "WebSocket")
        ), name
    for path in set(re.findall(r"``(examples/[\w.]+)``", text)):
        assert (DOCS.parent / path).exists(), path
