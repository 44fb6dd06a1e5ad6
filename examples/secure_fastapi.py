"""Who may open a WebSocket, for how long, and how much may come: ``uvicorn secure_fastapi:app``.

A page logs in by HTTP, fetches a ticket, and opens the WebSocket with it:

    const {ticket} = await (await fetch("/ticket", {method: "POST"})).json();
    const ws = new WebSocket("wss://" + location.host + "/ws",
                             ["events.v1", "wsmanager.ticket." + ticket]);

Your own log-in takes the place of ``log_in`` and ``SESSIONS``, which keep a
cookie's session in memory; the rest is as it would be.
"""

import os
import secrets
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Response, WebSocket

from wsmanager import get_websocket_manager
from wsmanager.security import (
    InboundLimiter,
    InvalidCredential,
    InvalidTicket,
    SessionEnded,
    Sessions,
    TicketOffice,
    check_origin,
    protocol_to_accept,
    reject,
    subprotocol_credential,
)

# None: the same origin as the server's own. Behind a proxy name the origins.
ALLOWED_ORIGINS = os.environ.get("ALLOWED_ORIGINS", "").split() or None
SESSION_SECONDS = float(os.environ.get("SESSION_SECONDS", "900"))


@dataclass(frozen=True)
class Login:
    """What a WebSocket is opened with; the ticket carries it over from HTTP."""

    user_id: str
    session_id: str


app = FastAPI()
office = TicketOffice()
sockets = Sessions()
limiter = InboundLimiter(max_bytes=16 * 1024, rate=10, burst=20)
SESSIONS: dict[str, tuple[Login, float]] = {}  # by cookie: who, and until when


def logged_in(session: Annotated[str, Cookie()] = "") -> Login:
    """The user of an HTTP request."""
    login, expires_at = SESSIONS.get(session, (None, 0.0))
    if login is None or expires_at <= time.time():
        raise HTTPException(401, "log in first")
    return login


CurrentLogin = Annotated[Login, Depends(logged_in)]


@app.post("/login/{user_id}")
def log_in(user_id: str, response: Response) -> dict[str, float]:
    """Stands for your own log-in, which asks for more than a name."""
    cookie = secrets.token_urlsafe()
    expires_at = time.time() + SESSION_SECONDS
    SESSIONS[cookie] = (Login(user_id, session_id=secrets.token_urlsafe()), expires_at)
    response.set_cookie("session", cookie, httponly=True, samesite="strict")
    return {"expires_at": expires_at}


@app.post("/ticket")
def ticket(login: CurrentLogin) -> dict[str, str]:
    """One ticket, good once and for seconds: what a log keeps of it later opens nothing."""
    return {"ticket": office.issue(login, ttl=10)}


@app.post("/refresh")
def refresh(login: CurrentLogin, session: Annotated[str, Cookie()]) -> dict[str, int]:
    """A longer log-in; the sockets that are open stay open."""
    expires_at = time.time() + SESSION_SECONDS
    SESSIONS[session] = (login, expires_at)
    return {"sockets": sockets.refresh(login.session_id, expires_at)}


@app.post("/logout")
def log_out(login: CurrentLogin, session: Annotated[str, Cookie()]) -> dict[str, int]:
    """The log-in ends, and with it every socket and every ticket."""
    SESSIONS.pop(session, None)
    office.revoke(login.user_id)
    return {"sockets": sockets.close_session(login.session_id, reason="logged out")}


@app.post("/say/{text}")
def say(text: str, login: CurrentLogin) -> None:
    """Something to see: an event to all tabs of the user."""
    get_websocket_manager(login.user_id).emit_event("said", {"text": text})


@app.websocket("/ws")
async def events(websocket: WebSocket) -> None:
    """Origin, ticket, accept, register, limit; each step that fails says so by its close code."""
    if not check_origin(websocket, ALLOWED_ORIGINS):
        await reject(websocket, 1008, "origin")
        return
    try:
        login: Login = office.redeem(subprotocol_credential(websocket))
    except (InvalidCredential, InvalidTicket):
        await reject(websocket, 3000, "log in first")
        return
    expires_at = max(
        (until for known, until in list(SESSIONS.values()) if known == login), default=0.0
    )
    await websocket.accept(protocol_to_accept(websocket))
    manager = get_websocket_manager(login)
    connection_id = manager.add_connection(websocket)
    try:
        sockets.register(manager, connection_id, login.session_id, expires_at)
        async for text in limiter.guard(websocket, login.user_id).iter_text():
            manager.emit_event("echo", {"text": text})
    except SessionEnded:
        pass  # logged out meanwhile; the socket is closed
    finally:
        manager.remove_connection(connection_id)
