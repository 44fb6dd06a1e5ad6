"""uvicorn in a thread of this process."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import uvicorn
from fastapi import FastAPI

START_SECONDS = 20.0
STOP_SECONDS = 20.0


class Server:
    """A running server; a context manager. *port* 0 takes a free one.

    It listens on the loopback interface only: anyone can log in to a demo.
    """

    def __init__(self, app: FastAPI, port: int = 0) -> None:
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            ws="wsmanager.uvicorn:WebSocketProtocol",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="uvicorn", daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start; its log above says why")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start within {START_SECONDS:g} seconds")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Its address for a browser."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def loop(self) -> str:
        """The library its event loop is of, such as ``asyncio`` or ``uvloop``."""
        factory = self._server.config.get_loop_factory()
        return "asyncio" if factory is None else factory.__module__.partition(".")[0]

    def wait(self) -> None:
        """Until the server ends, or Ctrl-C."""
        while self._thread.is_alive():
            self._thread.join(0.5)
