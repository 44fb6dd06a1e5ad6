"""``wsmanager top``: against a real server, and against one that means harm."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.clients import open_tab
from support.servers import UvicornServer, chat_app
from support.sockets import HangingSocket
from support.waiting import eventually_sync

from wsmanager import __main__, _log, get_websocket_manager, readiness, top
from wsmanager._status import percentile, snapshot
from wsmanager.asgi import OperationsApp

TOKEN = "an-operators-token-of-some-length"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WSMANAGER_OPS_URL", "WSMANAGER_OPS_TOKEN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[UvicornServer]:
    app = chat_app()
    app.mount("/ops", OperationsApp(token=TOKEN))
    with UvicornServer(app) as server:
        yield server


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wsmanager", "top", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def run_here(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """The same in this process, which is faster to start."""
    with monkeypatch.context() as patched:
        for name, setting in environment.items():
            patched.setenv(name, setting)
        try:
            status: Any = __main__.main(["top", *arguments])
        except SystemExit as end:
            status = end.code
    shown = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, status, shown.out, shown.err)


async def test_one_look_at_a_server(server: UvicornServer) -> None:
    tab = await open_tab(server.url, "ann")
    await get_websocket_manager("ann").emit_event("agent_started", {})
    await tab.read(1)
    done = await asyncio.to_thread(run, f"{server.http}/ops", "--once", WSMANAGER_OPS_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "ready" in done.stdout
    assert "connections 1 (0 direct)" in done.stdout
    assert re.search(r"^agent_started +- +- +1 +1 +0 +0$", done.stdout, re.M)
    assert "\x1b" not in done.stdout
    assert "ann" not in done.stdout
    await tab.client.close()


def test_json_is_what_the_service_said(server: UvicornServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    done = run(f"{server.http}/ops/top", "--once", "--json", "--token-file", str(file))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["counters"]["connections"] == 0


def test_the_status_tells_whether_it_is_ready(server: UvicornServer) -> None:
    readiness.add_check("x", lambda: "a reason\nforged")
    try:
        done = run(f"{server.http}/ops", "--once", WSMANAGER_OPS_TOKEN=TOKEN)
    finally:
        readiness.remove_check("x")
    assert done.returncode == 1
    assert "NOT READY" in done.stdout
    assert "\n  - x: a reason\\nforged\n" in done.stdout


def test_this_very_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["top", "--once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == os.getpid()


def test_what_cannot_be_read(
    server: UvicornServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        ([f"{server.http}/ops"], {}, "401"),
        ([f"{server.http}/ops"], {"WSMANAGER_OPS_TOKEN": "wrong"}, "401"),
        ([f"{server.http}/nothing"], {"WSMANAGER_OPS_TOKEN": TOKEN}, "404"),
        (["http://127.0.0.1:1/ops"], {}, "127.0.0.1"),
        ([f"https://127.0.0.1:{server.port}/ops"], {}, "127.0.0.1"),
    ]
    for arguments, environment, said in cases:
        done = run_here(capsys, monkeypatch, *arguments, "--once", **environment)
        assert done.returncode == 3, done
        assert said in done.stderr
        assert done.stdout == ""
        assert TOKEN not in done.stderr
        assert "Traceback" not in done.stderr


def test_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for arguments in (
        ["ftp://host/ops"], ["http://"], ["http://[::1"], ["http://host:port/ops"], ["http://me:s3cr3t@host/ops"],
        ["http://host/ops?token=s3cr3t"], ["http://host", "--token-file", str(empty)],
        ["http://host", "--token-file", str(tmp_path / "none")], ["--interval", "0"], ["--token", "x"],
    ):  # fmt: skip
        done = run_here(capsys, monkeypatch, *arguments, "--once")
        assert done.returncode == 2, done
        assert "s3cr3t" not in done.stderr


# -- a terminal -------------------------------------------------------------------


def in_a_terminal(arguments: list[str], until: str, **environment: str) -> tuple[str, int]:
    """Run it on a pseudo-terminal until *until* was shown, then press Control-C."""
    main, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "wsmanager", "top", *arguments],
        stdin=child, stdout=child, stderr=subprocess.STDOUT, start_new_session=True,
        env={**os.environ, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(child)
    shown = ""
    deadline = time.monotonic() + 30
    try:
        while len(re.findall(until, shown)) < 2 and time.monotonic() < deadline:
            if select.select([main], [], [], 0.1)[0]:
                shown += os.read(main, 65536).decode(errors="replace")
        process.send_signal(2)
        return shown, process.wait(15)
    finally:
        process.kill()
        process.wait()
        os.close(main)


def test_it_refreshes_until_control_c(server: UvicornServer) -> None:
    shown, status = in_a_terminal(
        [f"{server.http}/ops", "--interval", "0.1"], "EVENT ", WSMANAGER_OPS_TOKEN=TOKEN
    )
    assert status == 0, shown
    assert shown.count("\x1b[H\x1b[2J") >= 2
    assert "\x1b[1;32mready\x1b[0m" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("how", ["NO_COLOR", "--no-color"])
def test_no_colour_where_none_is_wanted(server: UvicornServer, how: str) -> None:
    environment = {"WSMANAGER_OPS_TOKEN": TOKEN}
    arguments = [f"{server.http}/ops", "--interval", "0.1"]
    if how == "NO_COLOR":
        environment[how] = "1"
    else:
        arguments.append(how)
    shown, _ = in_a_terminal(arguments, "EVENT ", **environment)
    assert "EVENT" in shown
    assert not re.search(r"\x1b\[[\d;]*m", shown)


def test_rates_are_of_the_time_between_two_looks() -> None:
    before = snapshot()
    manager = get_websocket_manager("ann")
    for _ in range(10):
        manager.emit_event("agent_started", {})
    now = {**snapshot(), "time": before["time"] + 2.0}
    (line,) = [line for line in top.lines(now, before) if line.startswith("agent_started")]
    assert line.split()[1:3] == ["5.0", "0.0"]
    assert "-" in next(x for x in top.lines(now, {**before, "pid": 1}) if x.startswith("other"))


def test_percentiles() -> None:
    assert percentile([], 0.5) is None
    assert percentile([(1.0, 99), (2.0, 1)], 0.5) == 1.0
    assert percentile([(1.0, 99), (2.0, 1)], 0.99) == 1.0
    assert percentile([(1.0, 98), (2.0, 2)], 0.99) == 2.0
    assert percentile([(1.0, 1), (2.0, 1)], 1.0) == 2.0


# -- a service that means harm ------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2J\r\nFORGED\u202e\x00\x9b31m"


def poisoned(value: Any) -> Any:
    """Every text in it, and every key, is a terminal's command."""
    if isinstance(value, dict):
        return {name: poisoned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner) for inner in value]
    return EVIL if isinstance(value, str) else value


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def poisoned_stats() -> dict[str, Any]:
    _log.report("error", "why", None)
    manager = get_websocket_manager("ann")
    socket = HangingSocket()
    manager.add_connection(socket)
    manager.emit_event("x", {})
    manager.emit_event("x", {})
    stats = poisoned({**snapshot(), "reasons": ["why"], "ready": False})
    assert EVIL in json.dumps(stats, ensure_ascii=False) or stats["version"] == EVIL
    socket.release()
    assert await manager.emit_event("x", {}).flushed(5)
    return dict(stats)


async def test_the_terminal_is_not_the_services_to_command() -> None:
    stats = await poisoned_stats()
    stats["counters"]["emitted"] = {EVIL: 1}
    stats["counters"]["sent"] = {EVIL: 1}
    stats["counters"]["failed"] = {EVIL: 1}
    stats["counters"]["dropped"] = {EVIL: {EVIL: 1}}
    with answering(json.dumps(stats).encode()) as url:
        done = await asyncio.to_thread(run, url, "--once")
    assert done.returncode == 1, done
    assert "FORGED" in done.stdout, "nothing of it was shown: this proves nothing"
    for line in done.stdout.splitlines():
        assert line.isprintable()
        assert not line.startswith("FORGED")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"null", b'{"counters": 5}', b'{"counters": {}, "ready": true}', b"\xff\xfe",
     b"[" * 100_000, b'{"counters": "' + b"x" * (9 << 20) + b'"}'],
    ids=["empty", "list", "object", "null", "wrong", "hollow", "binary", "deep", "huge"],
)  # fmt: skip
def test_an_answer_that_is_none(
    body: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(body) as url:
        done = run_here(capsys, monkeypatch, url, "--once")
    assert done.returncode == 3, done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_service_that_never_answers() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        done = run(f"127.0.0.1:{silent.getsockname()[1]}", "--once", "--timeout", "0.3")
    assert done.returncode == 3
    assert "no answer within 0.3 s" in done.stderr
    assert time.monotonic() - begun < 20


def test_a_service_that_comes_back_is_shown_again(server: UvicornServer) -> None:
    """Unreachable at one look, there at the next: without --once it goes on."""
    import socket

    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "wsmanager", "top", f"127.0.0.1:{port}/ops", "--interval", "0.1"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "WSMANAGER_OPS_TOKEN": TOKEN},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert "cannot be read" in process.stdout.readline()
        relay = socket.create_server(("127.0.0.1", port))
        app = chat_app()
        app.mount("/ops", OperationsApp(token=TOKEN))
        again = UvicornServer(app)
        again.socket.close()
        again.socket, again.port = relay, port
        again.thread = threading.Thread(target=again.server.run, args=([relay],), daemon=True)
        with again:
            found = threading.Event()

            def read() -> None:
                for line in process.stdout or ():
                    if "EVENT" in line:
                        found.set()

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            eventually_sync(found.is_set, 20)
            process.send_signal(2)
            assert process.wait(15) == 0
            reader.join(10)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
