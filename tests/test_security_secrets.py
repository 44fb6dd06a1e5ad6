"""Canary tokens through every helper: in no log, repr, error, traceback or statistic."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import pickle
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from support.servers import UvicornServer
from support.waiting import eventually
from websockets.asyncio.client import connect

from wsmanager import _log, get_manager_registry_status, get_websocket_manager
from wsmanager.security import (
    InboundLimiter,
    InvalidCredential,
    InvalidTicket,
    SessionEnded,
    Sessions,
    TicketOffice,
    check_origin,
    first_message_credential,
    protocol_to_accept,
    reject,
    subprotocol_credential,
)
from wsmanager.security._seal import Seal
from wsmanager.testing import FakeStarlette, FakeText

CANARY = "canary7f3a9c"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that the package logs, at DEBUG, with what a formatter would not show."""
    text = io.StringIO()
    monkeypatch.setattr(_log, "_last", {})  # a record like one of the last seconds is left out else

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text.write(f"{record.getMessage()} {record.__dict__!r}\n")
            if record.exc_info:
                text.write("".join(traceback.format_exception(*record.exc_info)))

    handler = Everything()
    logger = logging.getLogger("wsmanager")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(before)


def everything(error: BaseException) -> str:
    """An error as a log or an error tracker shows it, without the locals of our callers."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)


async def test_no_canary_anywhere(log: io.StringIO) -> None:
    seen: list[object] = []
    key = f"{CANARY}-key-{'k' * 32}".encode()
    for office in (TicketOffice(), TicketOffice(signing_key=key)):
        ticket = office.issue({"user_id": f"{CANARY}-user", "secret": f"{CANARY}-context"})
        seen += [repr(office), str(office), repr(Seal(key)), office.redeem(ticket) and ""]
        for wrong in (ticket, ticket[:-1], CANARY, CANARY * 1000, f"{CANARY}é"):
            with pytest.raises(InvalidTicket) as refused:
                office.redeem(wrong)
            seen.append(str(refused.value) + repr(refused.value))
        with pytest.raises(TypeError):
            pickle.dumps(office)
    with pytest.raises(TypeError) as unfit:
        office.issue({"user_id": CANARY, "x": (CANARY,)})
    seen.append(everything(unfit.value))

    sessions = Sessions()
    manager = get_websocket_manager(f"{CANARY}-user")
    for ending in ("close", "expire", "refuse"):
        client = FakeText()
        connection_id = manager.add_connection(client)
        expires = time.time() + (0.5 if ending == "expire" else 3600)
        if ending == "refuse":
            with pytest.raises(SessionEnded) as ended:
                sessions.register(manager, connection_id, f"{CANARY}-close")
            seen.append(everything(ended.value))
        else:
            sessions.register(manager, connection_id, f"{CANARY}-{ending}", expires)
        seen.append(repr(sessions))
        if ending == "close":
            sessions.close_session(f"{CANARY}-close")
        await eventually(lambda client=client: client.closed_with)
        seen.append(client.closed_with)

    limiter = InboundLimiter(max_bytes=4, burst=1)
    websocket = limiter.guard(FakeStarlette(), f"{CANARY}-user")
    websocket.push(f"{CANARY}-message")
    seen += [await websocket.receive(), limiter.stats(), repr(limiter), websocket.closed_with]

    headers = [("Origin", f"https://{CANARY}.com"), ("Cookie", CANARY), ("Authorization", CANARY)]
    foreign = FakeStarlette(headers=headers, subprotocols=[CANARY, f"x{CANARY}"], accepted=False)
    assert not check_origin(foreign)
    with pytest.raises(InvalidCredential) as missing:
        subprotocol_credential(foreign)
    seen.append(everything(missing.value))
    await reject(foreign, 1008, "no")
    for message in (CANARY, json.dumps({"type": "auth", "token": [CANARY]})):
        first = FakeStarlette()
        first.push(message)
        with pytest.raises(InvalidCredential) as wrong_message:
            await first_message_credential(first)
        seen.append(str(wrong_message.value) + repr(wrong_message.value))
    seen += [get_manager_registry_status(), manager.get_stats()]
    shown = "\n".join(map(str, seen)) + log.getvalue()
    assert "session closed" in shown and "session expired" in shown and "origin refused" in shown
    assert "inbound message refused" in shown, "the log was read"
    assert CANARY not in shown, [line for line in shown.splitlines() if CANARY in line]


async def test_a_ticket_in_the_handshake_is_in_no_access_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """uvicorn's access log prints the URL; the control finds there what was put into it."""
    office = TicketOffice()
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        token = websocket.query_params.get("ticket") or subprotocol_credential(websocket)
        office.redeem(token)
        await websocket.accept(protocol_to_accept(websocket))
        await websocket.send_text("welcome")

    caplog.set_level(logging.INFO)
    with UvicornServer(app, log_level="info", log_config=None) as server:
        good, leaked = office.issue("ann"), office.issue("ann")
        async with connect(server.url, subprotocols=["v1", f"wsmanager.ticket.{good}"]) as client:  # type: ignore[list-item]
            assert await client.recv() == "welcome"
        async with connect(f"{server.url}?ticket={leaked}") as client:
            assert await client.recv() == "welcome"
        await eventually(lambda: leaked in caplog.text)
    assert good not in caplog.text
    with pytest.raises(InvalidTicket):
        office.redeem(leaked)  # and who finds it there finds it used


async def test_a_redeemed_context_is_not_kept() -> None:
    class Context:
        user_id = "ann"

    office = TicketOffice()
    ticket = office.issue(Context())
    assert isinstance(office.redeem(ticket), Context)
    await asyncio.sleep(0)
    assert not office._out._table and not office._by_user
    gc.collect()


def test_control_the_search_finds_a_canary(log: io.StringIO) -> None:
    logging.getLogger("wsmanager.security").debug("oops", extra={"token": CANARY})
    assert CANARY in log.getvalue()
    context: Any = {"user_id": CANARY}
    assert CANARY in repr(context)
