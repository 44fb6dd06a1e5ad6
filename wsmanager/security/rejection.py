"""Turning a client away so that it learns why."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from .. import adapters
from ..close_codes import may_send
from ._handshake import scope_of
from .credentials import protocol_to_accept

__all__ = ["reject"]

_DENIAL: Final = "websocket.http.response"


async def reject(
    websocket: Any, code: int = 1008, reason: str = "", *, status: int | None = None
) -> None:
    """Refuse a WebSocket with a close code that the client gets to see; then return from the handler.

    A close *before* the accept is HTTP 403 to the client: a browser shows its
    page 1006 and no reason, whatever code was given (WHATWG WebSockets; ASGI
    "close"). So the handshake is completed first, then closed with *code*.
    One that is accepted already is only closed. Call it on the socket's own
    loop. Starlette's ``TestClient`` shows the code either way; a browser does not.

    :param websocket: of Starlette, FastAPI, Litestar, ``websockets`` or
        aiohttp (prepared), or any object with ``accept`` and ``close``.
    :param code: one that ``wsmanager.close_codes`` says may be sent.
    :param reason: up to 123 bytes of UTF-8; the rest is cut. The client reads
        it: say nothing there that helps to guess.
    :param status: for clients that are programs: answer the handshake with
        this HTTP status (400 to 599) in place of code and reason, where the
        ASGI server has the extension ``websocket.http.response`` (uvicorn,
        hypercorn and others) and nothing was accepted yet.
    :raises ValueError: for a code or status that may not be sent.

    A client that asked for subprotocols is given one of them, since a browser
    breaks the connection off otherwise, before the code arrives; one that
    carries a credential only if there is no other.
    """
    _check(code, status)
    if _is_waiting(websocket):
        scope = scope_of(websocket)
        extensions = (scope or {}).get("extensions") or {}
        if status is not None and _DENIAL in extensions:
            await _deny(websocket, status)
            return
        protocol = protocol_to_accept(websocket)
        await (websocket.accept() if protocol is None else websocket.accept(protocol))
    await adapters.close(websocket, code, reason)


def _check(code: int, status: int | None) -> None:
    if not may_send(code):
        raise ValueError(f"{code} is no close code that may be sent (RFC 6455, 7.4)")
    if status is not None and not 400 <= status <= 599:
        raise ValueError(f"{status} does not refuse a handshake: 400 to 599 do")


def _is_waiting(websocket: Any) -> bool:
    """Whether the handshake is not answered yet; a library that answers it itself has no accept()."""
    if not callable(getattr(websocket, "accept", None)):
        return False
    state = getattr(websocket, "application_state", getattr(websocket, "connection_state", None))
    return getattr(state, "name", state) in (
        "CONNECTING",
        "init",
        "connect",
    )  # Litestar's are texts


async def _deny(websocket: Any, status: int) -> None:
    try:
        text = HTTPStatus(status).phrase
    except ValueError:
        text = "Refused"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await websocket.send({"type": f"{_DENIAL}.start", "status": status, "headers": headers})
    await websocket.send({"type": f"{_DENIAL}.body", "body": text.encode()})
