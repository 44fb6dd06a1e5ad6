"""A page that misses nothing: ``uvicorn browser_app:app``, then http://127.0.0.1:8000.

Reload it in the middle of a run, open it twice, or restart the server. In a
real application the user's id comes from your log-in, not from the URL.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse

from wsmanager import get_websocket_manager, install_drain
from wsmanager.client import client_app
from wsmanager.inbound import handle_client_message
from wsmanager.resume import resume_token
from wsmanager.sse import EventStream

PAGE = Path(__file__).with_name("browser.html")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with install_drain(deadline=10.0, jitter=5.0):
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/wsmanager", client_app)


@app.get("/")
def page() -> FileResponse:
    return FileResponse(PAGE)


@app.websocket("/ws/{user_id}")
async def events(websocket: WebSocket, user_id: str) -> None:
    await websocket.accept()
    manager = get_websocket_manager(user_id)
    connection_id = manager.add_connection(websocket, resume=resume_token(websocket))
    try:
        async for text in websocket.iter_text():
            if not handle_client_message(manager, connection_id, text):
                await websocket.send_text("not a message of the client's")
    finally:
        manager.remove_connection(connection_id)


@app.get("/events/{user_id}")  # the same stream where a WebSocket does not get through
async def stream(user_id: str) -> EventStream:
    return EventStream(user_id)


@app.post("/run/{user_id}")
def run(user_id: str, steps: int = 20) -> None:  # plain code: FastAPI runs it in a thread
    manager = get_websocket_manager(user_id)
    manager.emit_event("agent_started", {"agent_name": "demo"})
    for step in range(1, steps + 1):
        time.sleep(0.25)
        manager.emit_event("agent_thinking", {"agent_name": "demo", "step_number": step})
    manager.emit_event("agent_completed", {"agent_name": "demo"}, ack=True)
