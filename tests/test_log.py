"""What is logged, and what never is: payloads, ids, forged lines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.sockets import FailingSocket, HangingSocket, StarletteSocket
from support.waiting import eventually

import wsmanager
from wsmanager import _log, get_websocket_manager, get_websocket_manager_async

CANARIES = ["canary-payload", "canary-user", "canary-token", "canary-thread"]


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """Records of one kind are held back for a while; each test starts without that."""
    _log._last.clear()
    yield
    _log._last.clear()


async def everything_goes_wrong() -> None:
    """One of each thing that is worth a record, with secrets in every place."""
    wsmanager.configure(outbox_max_events=2, error_limit=1)
    manager = get_websocket_manager({"user_id": "canary-user", "token": "canary-token"})
    manager.add_connection(StarletteSocket(), thread_id="canary-thread")
    manager.add_connection(FailingSocket(ConnectionResetError("canary-token")))
    manager.add_connection(FailingSocket(ValueError("bug\nFORGED 2026 CRITICAL line")))
    manager.add_connection(HangingSocket())
    for _ in range(5):
        await manager.emit_event("x", {"secret": "canary-payload"})
    await eventually(lambda: len(manager) == 1)

    async def check() -> bool:
        raise RuntimeError("canary-token\r\nFORGED")

    wsmanager.configure(availability_check=check)
    await get_websocket_manager_async({"user_id": "canary-user-2"})


async def test_no_secret_and_no_id_above_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "wsmanager"):
        await everything_goes_wrong()
    assert caplog.records, "nothing at all was logged: this proves nothing"
    for record in caplog.records:
        text = record.getMessage() + repr(record.__dict__.get("args"))
        text += "".join(str(v) for k, v in record.__dict__.items() if k not in ("exc_info", "args"))
        for canary in CANARIES:
            assert canary not in text
        assert record.name.startswith("wsmanager")


async def test_one_record_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "wsmanager"):
        await everything_goes_wrong()
    for record in caplog.records:
        message = record.getMessage()
        assert "\n" not in message
        assert "\r" not in message
        assert "\x1b" not in message


@pytest.mark.parametrize(
    "nasty", ["a\nb", "a\r\nb", "\x1b[31mred", "\u202edlrow", "a\u2028b", "a\x85b"]
)
async def test_forged_lines_are_escaped(caplog: pytest.LogCaptureFixture, nasty: str) -> None:
    class Evil(Exception):
        pass

    Evil.__name__ = Evil.__qualname__ = nasty
    with caplog.at_level(logging.DEBUG, "wsmanager"):
        manager = get_websocket_manager("ann")
        manager.add_connection(FailingSocket(Evil(nasty)))
        await manager.emit_event("x", {})
    assert caplog.records
    for record in caplog.records:
        assert record.getMessage().isprintable()


async def test_what_happens_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A failing socket a hundred times over is a record and a count, not a hundred records."""
    wsmanager.configure(error_limit=1000)
    manager = get_websocket_manager("ann")
    manager.add_connection(FailingSocket(ValueError("bug")))
    with caplog.at_level(logging.WARNING, "wsmanager"):
        for _ in range(100):
            await manager.emit_event("x", {})
    assert 1 <= len(caplog.records) <= 3


def test_the_import_is_silent_and_touches_nothing(isolated: Callable[..., Any]) -> None:
    """No log record, no thread, no task, no handler on the root logger."""
    outcome = isolated("""
import logging, threading, sys
records = []
class Handler(logging.Handler):
    def emit(self, record):
        records.append(record)
logging.getLogger().addHandler(Handler())
logging.getLogger().setLevel(0)
handlers = list(logging.getLogger().handlers)
import wsmanager
assert records == []
assert threading.active_count() == 1
assert logging.getLogger().handlers == handlers
for heavy in ("fastapi", "starlette", "uvicorn", "aiohttp", "websockets", "pydantic", "redis"):
    assert heavy not in sys.modules, heavy
""")
    assert outcome.out == ""
    assert outcome.err == ""
