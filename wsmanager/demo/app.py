"""The application: log-in, the WebSocket, and the start of an agent run."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Header, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from wsmanager import get_websocket_manager_async

from .agent import User, answer

PAGE = Path(__file__).with_name("page.html")
LOGIN_SECONDS = 5.0
NOT_LOGGED_IN = 4401
"""The close code of a socket whose first message is not a valid token in time."""

_logger = logging.getLogger("wsmanager.demo")


class Login(BaseModel):
    """Who logs in; the demo asks for no password."""

    name: str = Field(min_length=1, max_length=40, pattern=r"^\S.*\S$|^\S$")


class Session(BaseModel):
    """What the log-in gives: the token to show from then on."""

    user_id: str
    token: str


class Question(BaseModel):
    """What the agent is asked."""

    question: str = Field(max_length=2000)


class Run(BaseModel):
    """The run that answers it."""

    run_id: str


def create_app(pace: float) -> FastAPI:
    """The application; its agent waits *pace* seconds between two events."""
    users: dict[str, str] = {}  # by token
    workers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="agent")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.shutdown(wait=True)

    app = FastAPI(title="wsmanager demo", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE, media_type="text/html")

    @app.post("/login")
    def login(request: Login) -> Session:
        token = secrets.token_urlsafe(24)
        users[token] = f"user-{request.name}"
        return Session(user_id=users[token], token=token)

    @app.post("/run", status_code=202)
    def run(request: Question, authorization: str = Header(default="")) -> Run:
        user_id = users.get(authorization.removeprefix("Bearer "))
        if user_id is None:
            raise HTTPException(401, "log in first")
        run_id = f"run-{secrets.token_hex(4)}"
        work = workers.submit(answer, User(user_id), run_id, request.question, pace)
        work.add_done_callback(_log_failure)
        return Run(run_id=run_id)

    @app.websocket("/ws")
    async def events(websocket: WebSocket) -> None:
        await websocket.accept()
        user_id = users.get(await _first_message(websocket))
        if user_id is None:
            await websocket.close(NOT_LOGGED_IN, "log in first")
            return
        manager = await get_websocket_manager_async(User(user_id))
        connection_id = manager.add_connection(websocket)
        channel = manager.active_connections[connection_id].channel
        manager.send_message(connection_id, {"type": "ready", "payload": {"channel": channel}})
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            pass  # the tab was closed; there is no one to tell
        finally:
            manager.remove_connection(connection_id)

    return app


async def _first_message(websocket: WebSocket) -> str:
    """The token, which is no part of the URL, since servers and proxies log those."""
    try:
        return await asyncio.wait_for(websocket.receive_text(), LOGIN_SECONDS)
    except (asyncio.TimeoutError, WebSocketDisconnect):
        return ""


def _log_failure(work: Future[None]) -> None:
    error = work.exception()
    if error is not None:
        _logger.error("an agent run failed", exc_info=error)
