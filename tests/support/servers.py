"""Real servers on free ports of 127.0.0.1, all with the same chat behind them.

Each is a context manager; ``url`` is where a WebSocket client connects. A
client logs in as the user named by ``?user=``; the text ``run`` starts the
agent in a worker thread, any other text is echoed back with ``echo:`` before it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from aiohttp import web
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, serve

from support.agent import run_agent
from support.loops import LoopThread
from support.waiting import eventually_sync
from wsmanager import get_manager_registry_status, get_websocket_manager


def chat_app() -> FastAPI:
    """A FastAPI application: log-in, the chat socket, and three plain status handlers."""
    app = FastAPI()
    tokens: dict[str, str] = {}

    @app.post("/login/{name}")
    def login(name: str) -> dict[str, str]:
        token = f"token-{len(tokens)}-{name}"
        tokens[token] = f"user-{name}"
        return {"token": token, "user_id": tokens[token]}

    @app.get("/ws/health")
    def health() -> dict[str, Any]:
        manager = get_websocket_manager(None)
        return {"status": "healthy", "active": len(manager.active_connections)}

    @app.get("/ws/config")
    def config() -> dict[str, Any]:
        manager = get_websocket_manager(user_context=None)
        return {"mode": manager.mode.name, "service_available": manager.service_available}

    @app.get("/ws/stats")
    def stats() -> dict[str, Any]:
        return {
            "registry": get_manager_registry_status(),
            "own": get_websocket_manager().get_stats(),
        }

    @app.websocket("/ws")
    async def chat(websocket: WebSocket) -> None:
        query = websocket.query_params
        user = query.get("user") or tokens.get(query.get("token", ""))
        if user is None:
            await websocket.close(1008)
            return
        await websocket.accept()
        manager = get_websocket_manager({"user_id": user, "thread_id": "chat"})
        connection = manager.add_connection(websocket, thread_id="chat")
        try:
            while True:
                text = await websocket.receive_text()
                if text == "run":
                    await asyncio.to_thread(run_agent, user)
                else:
                    await websocket.send_text("echo:" + text)
        except WebSocketDisconnect:
            pass
        finally:
            manager.remove_connection(connection)

    return app


class UvicornServer:
    """uvicorn in a thread; *config* goes to ``uvicorn.Config`` (``ws=``, ``loop=``, ``ssl_…``)."""

    def __init__(self, app: Any = None, address: str = "127.0.0.1", **config: Any) -> None:
        self.socket = socket.create_server((address, 0), backlog=256)
        self.port = self.socket.getsockname()[1]
        self.secure = "ssl_certfile" in config
        settings: dict[str, Any] = {"log_level": "warning", "lifespan": "off", **config}
        self.server = uvicorn.Server(uvicorn.Config(app or chat_app(), **settings))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)

    @property
    def url(self) -> str:
        return f"ws{'s' * self.secure}://127.0.0.1:{self.port}/ws"

    @property
    def http(self) -> str:
        return f"http{'s' * self.secure}://127.0.0.1:{self.port}"

    def __enter__(self) -> UvicornServer:
        self.thread.start()
        eventually_sync(lambda: self.server.started, 15, "uvicorn has started")
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.should_exit = True
        self.thread.join(15)
        self.socket.close()
        assert not self.thread.is_alive(), "uvicorn did not stop"


async def websockets_chat(connection: ServerConnection) -> None:
    """The chat as a handler of ``websockets.serve``."""
    assert connection.request is not None
    user = parse_qs(urlsplit(connection.request.path).query)["user"][0]
    manager = get_websocket_manager({"user_id": user, "thread_id": "chat"})
    registered = manager.add_connection(connection, thread_id="chat")
    try:
        async for text in connection:
            if text == "run":
                await asyncio.to_thread(run_agent, user)
            else:
                await connection.send(f"echo:{text!s}")
    finally:
        manager.remove_connection(registered)


class WebsocketsServer:
    """``websockets.serve`` on a loop of its own; *options* go to it (``ssl=``, ``compression=``)."""

    def __init__(
        self,
        factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        handler: Any = websockets_chat,
        **options: Any,
    ) -> None:
        self.thread = LoopThread(factory)
        self.handler = handler
        self.options = options

    def __enter__(self) -> WebsocketsServer:
        self.thread.__enter__()

        async def start() -> Any:
            return await serve(self.handler, "127.0.0.1", 0, **self.options)

        self.server = self.thread.run(start())
        self.port = next(iter(self.server.sockets)).getsockname()[1]
        self.url = f"ws{'s' * ('ssl' in self.options)}://127.0.0.1:{self.port}/ws"
        return self

    def __exit__(self, *exc: object) -> None:
        async def stop() -> None:
            self.server.close()
            await self.server.wait_closed()

        self.thread.run(stop())
        self.thread.close()


async def aiohttp_chat(request: web.Request) -> web.WebSocketResponse:
    """The chat as an aiohttp handler."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    user = request.query["user"]
    manager = get_websocket_manager({"user_id": user, "thread_id": "chat"})
    registered = manager.add_connection(websocket, thread_id="chat")
    try:
        async for message in websocket:
            if message.data == "run":
                await asyncio.to_thread(run_agent, user)
            else:
                await websocket.send_str(f"echo:{message.data}")
    finally:
        manager.remove_connection(registered)
    return websocket


class AiohttpServer:
    """aiohttp's own server on a loop of its own."""

    def __init__(
        self,
        factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        handler: Any = aiohttp_chat,
    ) -> None:
        self.thread = LoopThread(factory)
        self.handler = handler

    def __enter__(self) -> AiohttpServer:
        self.thread.__enter__()

        async def start() -> web.AppRunner:
            app = web.Application()
            app.router.add_get("/ws", self.handler)
            runner = web.AppRunner(app, shutdown_timeout=1.0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        self.runner = self.thread.run(start())
        self.port = self.runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        return self

    def __exit__(self, *exc: object) -> None:
        self.thread.run(self.runner.cleanup())
        self.thread.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, made by the openssl command."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def server_context(folder: Path) -> ssl.SSLContext:
    certificate, key = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def client_context(folder: Path) -> ssl.SSLContext:
    """Trusts the certificate that :func:`self_signed` left in *folder*, and no other."""
    return ssl.create_default_context(cafile=str(folder / "certificate.pem"))
