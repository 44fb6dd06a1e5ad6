"""The application: log-in, the WebSocket, the start of an agent's run, and the pages."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Header, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from wsmanager import ResumeError, get_websocket_manager_async
from wsmanager.asgi import OperationsApp
from wsmanager.client import client_app
from wsmanager.inbound import handle_client_message
from wsmanager.resume import receive_resume

from .agent import User, answer, stream
from .frozen import FrozenTab

HERE = Path(__file__).parent
FILES = {
    "/": (HERE / "page.html", "text/html"),
    "/tab": (HERE / "tab.html", "text/html"),
    "/demo.css": (HERE / "demo.css", "text/css"),
}
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


class Stream(BaseModel):
    """How many lines to stream to all of one's tabs."""

    lines: int = Field(ge=1, le=20_000)


class Run(BaseModel):
    """The run that was started."""

    run_id: str


class Sessions:
    """Who is logged in, by token; for each, the frozen tab that was opened last."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}
        self._frozen: dict[str, FrozenTab] = {}

    def begin(self, name: str) -> Session:
        """A new session of the user of that name."""
        session = Session(user_id=f"user-{name}", token=secrets.token_urlsafe(24))
        self._users[session.token] = session.user_id
        return session

    def user_of(self, token: str) -> User | None:
        """Whose token it is, if it is anyone's."""
        user_id = self._users.get(token)
        return None if user_id is None else User(user_id)

    def freeze(self, url: str, user: User) -> None:
        """Open a frozen tab of *user*, in place of an earlier one."""
        session = self.begin(user.user_id.removeprefix("user-"))
        earlier = self._frozen.pop(user.user_id, None)
        if earlier is not None:
            earlier.close()
        self._frozen[user.user_id] = FrozenTab(url, session.token)

    def end(self) -> None:
        """Close the frozen tabs; before the server stops, which would wait for them."""
        for tab in self._frozen.values():
            tab.close()
        self._frozen.clear()


def create_app(pace: float) -> FastAPI:
    """The application; its agent waits *pace* seconds between two events."""
    sessions = Sessions()
    workers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="agent")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.shutdown(wait=True)

    app = FastAPI(title="wsmanager demo", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.sessions = sessions
    for path, (file, kind) in FILES.items():
        app.get(path, include_in_schema=False)(_serves(file, kind))
    app.mount("/wsmanager", client_app)
    app.mount("/ops", OperationsApp())

    def logged_in(authorization: str) -> User:
        user = sessions.user_of(authorization.removeprefix("Bearer "))
        if user is None:
            raise HTTPException(401, "log in first")
        return user

    def begin(work: Callable[..., None], *arguments: object) -> Run:
        run_id = f"run-{secrets.token_hex(4)}"
        workers.submit(work, run_id, *arguments).add_done_callback(_log_failure)
        return Run(run_id=run_id)

    @app.post("/login")
    def login(request: Login) -> Session:
        return sessions.begin(request.name)

    @app.post("/run", status_code=202)
    def run(request: Question, authorization: str = Header(default="")) -> Run:
        return begin(answer, logged_in(authorization), request.question, pace)

    @app.post("/stream", status_code=202)
    def start_stream(request: Stream, authorization: str = Header(default="")) -> Run:
        return begin(stream, logged_in(authorization), request.lines)

    @app.post("/frozen", status_code=204)
    def freeze(request: Request, authorization: str = Header(default="")) -> None:
        sessions.freeze(str(request.base_url).rstrip("/"), logged_in(authorization))

    @app.websocket("/ws")
    async def events(websocket: WebSocket) -> None:
        await websocket.accept()
        user = sessions.user_of(await _first_message(websocket))
        if user is None:
            await websocket.close(NOT_LOGGED_IN, "log in first")
            return
        manager = await get_websocket_manager_async(user)
        try:
            position = await receive_resume(websocket)
            connection_id = manager.add_connection(websocket, resume=position)
        except (ResumeError, WebSocketDisconnect):
            await websocket.close(1008, "say where to resume")
            return
        channel = manager.active_connections[connection_id].channel
        manager.send_message(connection_id, {"type": "ready", "payload": {"channel": channel}})
        try:
            async for text in websocket.iter_text():
                handle_client_message(manager, connection_id, text)
        finally:
            manager.remove_connection(connection_id)

    return app


def _serves(file: Path, kind: str) -> Callable[[], FileResponse]:
    def serve() -> FileResponse:
        return FileResponse(file, media_type=kind)

    return serve


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
