"""Secrets stay out of logs, ours and the servers'; no text from outside can forge a line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from support.outsider import ask
from support.servers import UvicornServer, chat_app
from support.sockets import FailingSocket, HangingSocket, StarletteSocket
from support.waiting import eventually
from websockets.asyncio.client import connect

import wsmanager
from wsmanager import _log, get_websocket_manager, get_websocket_manager_async, logs, metrics
from wsmanager._status import settings, snapshot
from wsmanager.asgi import OperationsApp
from wsmanager.logs import MARK, RedactingFilter, redact, redact_access_logs


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Records of one kind are held back for a while; here every one is wanted."""
    _log._last.clear()
    _log._recent.clear()
    monkeypatch.setattr(_log, "QUIET_SECONDS", 0.0)
    yield
    _log._last.clear()
    _log._recent.clear()


class Lines(logging.Handler):
    """What a file would hold: every record formatted, exceptions and all extras with it."""

    def __init__(self) -> None:
        super().__init__(0)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.texts: list[str] = []
        self.extras: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
        self.extras.append(repr(sorted(record.__dict__.items(), key=lambda item: item[0])))


@pytest.fixture
def everything() -> Iterator[Lines]:
    """All that is logged by anybody, at every level."""
    lines = Lines()
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(lines)
    root.setLevel(1)
    yield lines
    root.removeHandler(lines)
    root.setLevel(level)


# -- ids --------------------------------------------------------------------------


def test_a_hash_tells_nothing_without_the_key(isolated: Callable[..., Any]) -> None:
    script = "from wsmanager import logs; print(logs.hash_id('ann'))"
    one, two = isolated(script).out.strip(), isolated(script).out.strip()
    assert one != two != logs.hash_id("ann") != one
    assert logs.hash_id("ann") == logs.hash_id("ann") != logs.hash_id("bob")


@pytest.mark.parametrize("chosen", [False, True])
def test_the_key_of_a_child_is_its_own_unless_one_was_chosen(
    isolated: Callable[..., Any], chosen: bool
) -> None:
    script = (
        "import os\n"
        "from wsmanager import logs\n"
        f"{'logs.use_key(bytes(16))' if chosen else ''}\n"
        "print(logs.hash_id('ann'), flush=True)\n"
        "if os.fork() == 0:\n"
        "    print(logs.hash_id('ann'), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    parent, child = isolated(script).out.split()
    assert (parent == child) is chosen


def test_several_processes_can_share_a_key(isolated: Callable[..., Any]) -> None:
    script = "from wsmanager import logs; logs.use_key(%s); print(logs.hash_id('ann'))"
    names = {isolated(script % key).out for key in ("'0123456789abcdef'", "b'0123456789abcdef'")}
    assert len(names) == 1
    assert names != {isolated(script % "'another-key-of-some-size'").out}
    with pytest.raises(ValueError, match="at least 16 bytes"):
        logs.use_key("short")


# -- one record, one line ----------------------------------------------------------

NASTY = [
    "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00", "\x07", "\x08",
    "\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\u202e", "\u2066", "\u200f", "\u061c", "\ufeff",
    "\u200b", "\x7f", "\ud800", "\udcff", "\U000e0041", "\ufff9",
]  # fmt: skip


def nasty_texts(count: int) -> list[str]:
    chance = random.Random(3)
    return [
        "".join(
            chance.choice(NASTY)
            if chance.random() < 0.4
            else chance.choice("aZ9 =:%{}\u00e9\u4e2d")
            for _ in range(chance.randint(1, 40))
        )
        + chance.choice(NASTY)
        + "2026-01-01 CRITICAL wsmanager FORGED"
        for _ in range(count)
    ]


def is_one_plain_line(text: str) -> bool:
    return text.isprintable() and len(text.splitlines()) == 1


async def test_a_thousand_texts_that_would_forge_a_line(everything: Lines) -> None:
    """In a user's id, a connection's, a thread's, an error's type and text, and a payload."""
    wsmanager.configure(error_limit=1)
    texts = nasty_texts(1000)
    for text in texts:
        error = type("E", (Exception,), {})
        error.__qualname__ = error.__name__ = (
            text.encode("utf-8", "replace").decode().replace("\0", "0")
        )
        user = "u" + text.replace("\0", "").encode("utf-8", "ignore").decode()
        manager = get_websocket_manager(user)
        manager.add_connection(FailingSocket(error(text)), connection_id=text, thread_id=text)
        await manager.emit_event("x", {"text": "payload"})
        assert len(manager) == 0
    assert len(everything.texts) >= 2 * len(texts), "too little was logged: this proves little"
    for line, extra in zip(everything.texts, everything.extras, strict=True):
        assert is_one_plain_line(line), ascii(line)
        assert is_one_plain_line(extra), ascii(extra)
    for row in _log.recent():
        assert is_one_plain_line(row["reason"]), ascii(row)


async def test_control_without_the_escape_lines_are_forged(
    everything: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "one_line", lambda text, limit=200: text)
    manager = get_websocket_manager("ann")
    manager.add_connection(FailingSocket(type("E\nFORGED", (Exception,), {})("x")))
    await manager.emit_event("x", {})
    assert any("\nFORGED" in line for line in everything.texts)


async def test_an_availability_check_forges_nothing(everything: Lines) -> None:
    for text in nasty_texts(50):

        async def check(text: str = text) -> bool:
            raise RuntimeError(text)

        wsmanager.configure(availability_check=check)
        await get_websocket_manager_async(f"ann{hash(text)}")
    assert any("availability check" in line for line in everything.texts)
    for line in everything.texts:
        assert is_one_plain_line(line), ascii(line)


# -- a secret that is anywhere is nowhere ---------------------------------------------

CANARY = "CaNaRy"


async def secrets_everywhere() -> list[str]:
    """Every kind of thing that is told of, with a canary in every place; what is shown of it."""
    wsmanager.configure(outbox_max_events=2, error_limit=1, slow_policy="close")

    async def check() -> bool:
        raise RuntimeError(f"redis://user:{CANARY}-redis@host/0")

    wsmanager.configure(availability_check=check)
    await get_websocket_manager_async(f"{CANARY}-other-user")
    manager = get_websocket_manager({"user_id": f"{CANARY}-user", "token": f"{CANARY}-context"})
    hanging = HangingSocket()
    record = wsmanager.WebSocketConnection(
        user_id=f"{CANARY}-user", websocket=StarletteSocket(), metadata={"token": f"{CANARY}-meta"}
    )
    manager.add_connection(record)
    manager.add_connection(hanging, thread_id=f"{CANARY}-thread")
    manager.add_connection(FailingSocket(ValueError(f"Authorization: Bearer {CANARY}-header")))
    manager.add_connection(FailingSocket(ConnectionResetError(f"wss://h/?token={CANARY}-url")))
    shown: list[str] = []
    for _ in range(5):
        delivery = manager.emit_event("x", {"secret": f"{CANARY}-payload"}, run_id=f"{CANARY}-run")
        receipt = await delivery
        shown += [repr(delivery), str(delivery), repr(receipt)]
    await eventually(lambda: len(manager) == 1)
    for connection in manager.active_connections.values():
        shown += [repr(connection), str(connection)]
    shown += [repr(manager), str(manager), json.dumps(manager.get_stats(), default=repr)]
    shown += [repr(manager.metrics), json.dumps(wsmanager.get_manager_registry_status())]
    shown += [json.dumps(snapshot()), json.dumps(settings()), metrics.exposition()]
    return shown


def refused() -> list[str]:
    """Tracebacks of what is refused, as a server would log them."""
    manager = get_websocket_manager(f"{CANARY}-user")
    wsmanager.configure(max_event_bytes=1000)
    texts = []
    for call in (
        lambda: manager.emit_event("x", {"secret": {"key": object()}}),
        lambda: manager.emit_event("x", {"secret": CANARY * 500}),
        lambda: manager.emit_event("x", {"secret": [CANARY, float("nan")]}),
        lambda: manager.emit_event("x", {"a": {"key": float("inf")}, "b": CANARY}),
        lambda: manager.send_to_user(
            f"someone-else-{CANARY[:0]}", {"type": "x", "payload": CANARY}
        ),
        lambda: manager.send_to_user({"no_type": CANARY}),
    ):
        try:
            call()
        except wsmanager.WebSocketManagerError as error:
            texts.append("".join(traceback.format_exception(error)[-1:]))
        except ValueError as error:
            texts.append(str(error))
        else:
            raise AssertionError("that was to be refused")
    return texts


async def test_a_secret_is_found_nowhere(everything: Lines) -> None:
    shown = await secrets_everywhere()
    assert len(everything.texts) > 3, "too little was logged: this proves little"
    for text in [*everything.texts, *everything.extras]:
        if (
            not text.startswith("DEBUG")
            and "DEBUG" not in text[:20]
            and "('levelno', 10)" not in text
        ):
            assert CANARY not in text
    for text in shown:
        assert CANARY not in text, text


async def test_even_at_debug_no_payload_and_no_id(everything: Lines) -> None:
    """The text of an application's own error is shown at DEBUG, as it says; nothing else is."""
    await secrets_everywhere()
    for text in [*everything.texts, *everything.extras]:
        for place in ("payload", "user", "other-user", "thread", "context", "meta", "run"):
            assert f"{CANARY}-{place}" not in text


def test_errors_name_the_place_and_not_the_value() -> None:
    texts = refused()
    assert len(texts) == 6
    for text in texts:
        assert CANARY not in text, text


def test_control_the_canary_is_noticed(everything: Lines) -> None:
    logging.getLogger("wsmanager.writer").warning("%s", f"{CANARY}-payload")
    assert any(CANARY in text for text in everything.texts)


async def test_no_route_shows_a_secret() -> None:
    token = f"{CANARY}-token-of-operators"
    app = chat_app()
    app.mount("/ops", OperationsApp(token=token))
    headers = [("Authorization", f"Bearer {token}")]
    with UvicornServer(app) as server:
        await secrets_everywhere()
        for path in (
            "/health",
            "/ready",
            "/config",
            "/stats",
            "/metrics",
            "/top",
            "/",
            f"/{CANARY}",
        ):
            answer = await asyncio.to_thread(ask, server.port, f"/ops{path}", headers=headers)
            assert CANARY.encode() not in answer.body + repr(answer.headers).encode(), path
            outside = await asyncio.to_thread(ask, server.port, f"/ops{path}?t={CANARY}")
            assert CANARY.encode() not in outside.body + repr(outside.headers).encode(), path


# -- the servers' logs ---------------------------------------------------------------

HIDDEN = [
    f"GET /ws?token={CANARY} HTTP/1.1",
    f"GET /ws?a=1&access_token={CANARY}&b=2",
    f"/ws?ACCESS-TOKEN={CANARY}",
    f"/ws?x;token={CANARY}",
    f"/ws?t%6Fken={CANARY}",
    f"/ws?user_token={CANARY}",
    f"/ws?tokens={CANARY}",
    f"/ws?ticket={CANARY}#frag",
    f"/ws?api_key={CANARY}", f"/ws?apikey={CANARY}", f"/ws?key={CANARY}", f"/cb?code={CANARY}&state={CANARY}",
    f"/ws?next=%2Fa%3Ftoken%3d{CANARY}",
    f"Authorization: Bearer {CANARY}xyz",
    f"authorization: Basic {CANARY}xyz==",
    f"'authorization': 'Bearer {CANARY}xyz'",
    f'{{"Authorization": "Bearer {CANARY}xyz"}}',
    f"Cookie: session={CANARY}; other={CANARY}",
    f"> Sec-WebSocket-Protocol: bearer, {CANARY}xyz",
    f"subprotocols: bearer, {CANARY}xyz",
    f"redis://user:{CANARY}@host:6379/0", f"redis://:{CANARY}@host", f"postgresql+asyncpg://a:{CANARY}@h/db",
    f"password={CANARY}", f"password: {CANARY}", f'{{"password": "{CANARY}"}}', f"client_secret='{CANARY}'",
    f"eyJhbGciOiJIUzI1NiJ9.{CANARY}.sig",
]  # fmt: skip

PLAIN = [
    "GET /ws?user=ann&page=2 HTTP/1.1", "connection closed, code=1006", "status_code=200 took 5 ms",
    "the key: value store", "INFO: 127.0.0.1:5 - \"WebSocket /ws\" [accepted]", "http://host:8000/path@x",
    "exit code: 5", "session: 12 users", "tokenizer=fast", "monkey=1", "basic usage",
]  # fmt: skip


@pytest.mark.parametrize("text", HIDDEN)
def test_what_is_hidden(text: str) -> None:
    assert CANARY not in redact(text)
    assert MARK in redact(text)
    assert redact(redact(text)).count(CANARY) == 0


@pytest.mark.parametrize("text", PLAIN)
def test_control_what_is_not(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "unit",
    ["a.", "a-", "eyJ", "eyJ-", "token", "token=", "?%41", "x://", "bearer ", "cookie:", "%3d"],
)
def test_no_line_takes_long(unit: str) -> None:
    begun = time.process_time()
    redact(unit * (200_000 // len(unit)))
    assert time.process_time() - begun < 20


def filtered(*args: Any, msg: str = "%s", exc_info: Any = None, **extra: Any) -> tuple[str, str]:
    """A record through the filter: as formatted, and all there is in it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("x")
    logger.addHandler(handler)
    kept: list[logging.LogRecord] = []
    handler.addFilter(lambda record: kept.append(record) or True)  # type: ignore[func-returns-value]
    logger.error(msg, *args, extra=extra, exc_info=exc_info)
    everything = {k: v for k, v in kept[0].__dict__.items() if k != "exc_info"}
    return stream.getvalue(), repr(everything)


def test_every_part_of_a_record_is_looked_at() -> None:
    class Odd:
        def __str__(self) -> str:
            return f"/ws?token={CANARY}"

    try:
        raise ValueError(f"/ws?token={CANARY}")
    except ValueError:
        failure = sys.exc_info()
    for text, whole in (
        filtered(f"/ws?token={CANARY}"),
        filtered(msg=f"/ws?token={CANARY}"),
        filtered({"path": f"/ws?token={CANARY}"}, msg="%(path)s"),
        filtered({"token": CANARY}, msg="%(token)s"),
        filtered(CANARY, msg="token=%s"),
        filtered(Odd()),
        filtered(f"/ws?token={CANARY}".encode()),
        filtered("plain", request_line=f"GET /?token={CANARY}", token=CANARY),
        filtered("plain", exc_info=failure),
    ):
        assert CANARY not in text
        assert CANARY not in whole


def test_what_holds_no_secret_keeps_its_type() -> None:
    seen: list[Any] = []

    class Keep(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(record.args)
            return True

    logger = logging.Logger("x")
    logger.addFilter(RedactingFilter())
    logger.addFilter(Keep())
    logger.error("%s %d %s %r", "a", 200, None, [1])
    assert seen == [("a", 200, None, [1])]
    logger.error("%d", "not a number", extra={"n": 5})  # logging's own error, not ours
    assert seen[1] == ("not a number",)


def test_further_names() -> None:
    logger = logging.Logger("x")
    handler = Lines()
    logger.addHandler(handler)
    logger.addFilter(RedactingFilter(names=["magic_word"]))
    logger.error("/ws?magic-word=%s&token=%s", CANARY, CANARY)
    assert CANARY not in handler.texts[0]
    assert handler.texts[0].count(MARK) == 2


def test_it_is_installed_once() -> None:
    logger = logging.getLogger("tests.redacted")
    assert logger.filters == []
    one = redact_access_logs("tests.redacted")
    two = redact_access_logs(logger)
    assert logger.filters == [two] != [one]
    logger.removeFilter(two)


async def one_visit(server: UvicornServer) -> None:
    await asyncio.to_thread(ask, server.port, f"/ws/health?token={CANARY}&page=2")
    async with connect(
        f"{server.url}?user=ann&token={CANARY}",
        additional_headers={"Authorization": f"Bearer {CANARY}-header", "Cookie": f"sid={CANARY}"},
    ) as client:
        await client.send("hello")
        await client.recv()


@pytest.mark.parametrize("protected", [True, False], ids=["filtered", "control: not filtered"])
async def test_a_real_servers_access_log(everything: Lines, protected: bool) -> None:
    """uvicorn's own log configuration and formatter, at its most talkative."""
    stream = io.StringIO()
    config = json.loads(json.dumps(__import__("uvicorn").config.LOGGING_CONFIG))
    for handler in config["handlers"].values():
        handler["stream"] = "ext://sys.stderr"
    for logger in config["loggers"].values():
        logger["propagate"] = True
    installed = redact_access_logs() if protected else None
    kept, sys.stderr = sys.stderr, stream
    try:
        with UvicornServer(log_level="trace", log_config=config, access_log=True) as server:
            await one_visit(server)
    finally:
        sys.stderr = kept
        for name in logs.ACCESS_LOGGERS:
            logger = logging.getLogger(name)
            if installed is not None:
                logger.removeFilter(installed)
        for name in ("uvicorn", "uvicorn.access", "uvicorn.error", "uvicorn.asgi"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).setLevel(logging.NOTSET)
    servers = [t for t in everything.texts if "uvicorn." in t or "websockets.server" in t]
    found = stream.getvalue() + "\n".join(servers)
    assert "page=2" in found
    assert '"WebSocket /ws' in found
    assert "Traceback" not in stream.getvalue()
    assert (CANARY not in found) is protected
    assert websockets.__version__


def test_the_docstring_names_every_logger() -> None:
    """But for the demo's, which is no part of a service."""
    folder = Path(str(logs.__file__)).parent
    used = {
        name
        for path in folder.rglob("*.py")
        for name in re.findall(r'getLogger\("(wsmanager\.\w+)"\)', path.read_text())
    }
    assert "wsmanager.security" in used
    named = set(re.findall(r"``(wsmanager\.\w+)``", str(logs.__doc__)))
    assert used - {"wsmanager.demo"} == named
