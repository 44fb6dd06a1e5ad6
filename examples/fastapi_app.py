"""Events to every tab of a user: ``uvicorn fastapi_app:app``.

In a real application the user's id comes from your log-in, not from the URL.
"""

from fastapi import FastAPI, WebSocket

from wsmanager import get_websocket_manager

app = FastAPI()


@app.websocket("/ws/{user_id}")
async def events(websocket: WebSocket, user_id: str) -> None:
    await websocket.accept()
    manager = get_websocket_manager(user_id)
    connection_id = manager.add_connection(websocket)
    try:
        async for _ in websocket.iter_text():
            pass
    finally:
        manager.remove_connection(connection_id)


@app.post("/run/{user_id}")
def run(user_id: str) -> None:  # plain code: FastAPI runs it in a thread
    get_websocket_manager(user_id).emit_event("agent_started", {"agent_name": "demo"})
