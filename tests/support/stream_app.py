"""An application with all that a browser's stream needs; also a process of its own.

``python -m uvicorn --app-dir tests support.stream_app:app`` serves it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

import wsmanager
from wsmanager import get_websocket_manager
from wsmanager.client import client_app
from wsmanager.inbound import handle_client_message
from wsmanager.resume import receive_resume, resume_token
from wsmanager.sse import EventStream

PAGE = """<!doctype html>
<title>stream</title>
<script type="module">
import { connect } from "/MODULE/wsmanager.js";

// What the page has seen outlives it, as what a page shows may: one entry a key.
window.log = [];
const size = Number(sessionStorage.getItem("size") ?? 0);
for (let i = 0; i < size; i++) log.push(JSON.parse(sessionStorage.getItem("log" + i)));
function note(kind, value) {
  sessionStorage.setItem("log" + log.length, JSON.stringify([kind, value]));
  log.push([kind, value]);
  sessionStorage.setItem("size", log.length);
}
const query = new URLSearchParams(location.search);
window.states = [];
window.client = connect("/ws?user=" + query.get("user"), {
  storage: sessionStorage,
  minDelay: 20,
  maxDelay: 200,
  heartbeat: { interval: Number(query.get("beat") ?? 25000), timeout: Number(query.get("beat") ?? 10000) },
  onState: (state) => states.push(state),
  onClose: (info) => note("close", info),
  onResumed: (info) => note("resumed", info),
  onGap: (gap) => note("gap", gap),
  onError: (error) => note("error", String(error)),
});
client.on("n", (event) => note("event", event.payload.n));
window.events = () => log.filter(([kind]) => kind === "event").length;
window.last = () => log.filter(([kind]) => kind === "event").at(-1)?.[1] ?? 0;
</script>
"""


class Storm:
    """A thread that emits numbered events to one user, until it is stopped."""

    def __init__(self, user: str, pause: float = 0.001) -> None:
        self.user = user
        self.pause = pause
        self.last = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        manager = get_websocket_manager(self.user)
        while not self._stop.is_set():
            manager.emit_event("n", {"n": self.last + 1})
            self.last += 1
            if self.pause:
                time.sleep(self.pause)

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def stream_app(module: Any = client_app) -> FastAPI:
    """*module* serves the client: one with a bug planted, for the controls."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        wsmanager.configure(journal_max_events=100_000, journal_max_bytes=64 << 20)
        if os.environ.get("STREAM_DRAIN"):
            with wsmanager.install_drain(deadline=5.0, jitter=0.5, retry_after=0.1):
                yield
        else:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/module", module)

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE.replace("MODULE", "module"))

    @app.websocket("/ws")
    async def stream(websocket: WebSocket, user: str, by: str = "query") -> None:
        await websocket.accept()
        manager = get_websocket_manager(user)
        resume = await receive_resume(websocket) if by == "message" else resume_token(websocket)
        connection_id = manager.add_connection(websocket, resume=resume)
        try:
            async for text in websocket.iter_text():
                if not handle_client_message(manager, connection_id, text):
                    await websocket.send_text("echo:" + text)
        except WebSocketDisconnect:
            pass
        finally:
            manager.remove_connection(connection_id)

    @app.get("/events")
    async def events(request: Request, user: str, heartbeat: float = 25.0) -> EventStream:
        return EventStream(user, heartbeat=heartbeat, retry=0.05)

    @app.post("/emit")
    def emit(user: str, first: int, last: int) -> dict[str, Any]:
        manager = get_websocket_manager(user)
        deliveries = [manager.emit_event("n", {"n": n}) for n in range(first, last + 1)]
        return {"ids": [delivery.id for delivery in deliveries], "position": manager.position}

    @app.get("/status")
    def status(user: str) -> dict[str, Any]:
        return {"connections": len(get_websocket_manager(user))}

    return app


app = stream_app()
