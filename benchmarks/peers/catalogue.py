"""Which peers there are, how each is started, and in which version it is here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass

from ..arena import Entrant
from ..build import program


@dataclass(frozen=True)
class Peer:
    """A contender of the fan-out: its name in the table and what it needs to run."""

    key: str
    name: str
    module: str = ""
    option: str = ""
    needs: tuple[str, ...] = ()  # distributions, the first gives the version shown
    imports: tuple[str, ...] = ()
    path: str = "/ws"
    hello: str = "-"

    @property
    def version(self) -> str:
        """Return e.g. ``"starlette 1.0, uvicorn 0.51"``; empty for a C program."""
        return ", ".join(f"{name} {version_of(name)}" for name in self.needs)

    def missing(self) -> str | None:
        """Return why it cannot run here, or None."""
        for name in self.imports:
            try:
                found = importlib.util.find_spec(name)
            except ImportError:
                found = None
            if found is None:
                return f"{name} is not installed"
        return None

    def entrant(self) -> Entrant:
        """Return how the arena starts it."""
        if self.module:
            option = (self.option,) if self.option else ()
            command = (sys.executable, "-m", f"benchmarks.peers.{self.module}", *option)
        else:
            command = (str(program("reference")), self.option)
        return Entrant(self.name, command, self.path, self.hello)


def version_of(distribution: str) -> str:
    """Return the installed version, or ``"-"``."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "-"


REFERENCE = Peer("h", "C loop of send(2)", option="send")

# Ours: the same events through each way to a transport.
OURS = Peer(
    "ours",
    "direct channel on uvicorn",
    "ours_asgi",
    "wsmanager.uvicorn:WebSocketProtocol",
    ("wsmanager", "uvicorn"),
    ("wsmanager", "uvicorn", "starlette", "websockets"),
)
OUR_OTHERS = (
    Peer(
        "ours_websockets",
        "direct channel on websockets",
        "ours_websockets",
        "",
        ("wsmanager", "websockets"),
        ("wsmanager", "websockets"),
    ),
    Peer(
        "ours_aiohttp",
        "direct channel on aiohttp",
        "ours_aiohttp",
        "",
        ("wsmanager", "aiohttp"),
        ("wsmanager", "aiohttp"),
    ),
)
OURS_GENERIC = Peer(
    "ours_generic",
    "generic channel on uvicorn's default",
    "ours_asgi",
    "auto",
    ("wsmanager", "uvicorn"),
    ("wsmanager", "uvicorn", "starlette", "websockets"),
)

PEERS = (
    Peer("batch", "C, one send(2) for what is ready", option="batch"),
    Peer("uring", "C, io_uring", option="uring"),
    Peer("socket", "Python socket.send loop", "raw_frames", "socket"),
    Peer("transport", "asyncio transport.write loop", "raw_frames", "transport"),
    Peer("picows", "picows", "picows_loop", "", ("picows",), ("picows",)),
    Peer("aiohttp", "aiohttp send_str loop", "aiohttp_loop", "", ("aiohttp",), ("aiohttp",)),
    Peer(
        "websockets",
        "websockets.broadcast",
        "websockets_broadcast",
        "",
        ("websockets",),
        ("websockets",),
    ),
    Peer(
        "starlette",
        "Starlette send_text loop on uvicorn",
        "starlette_loop",
        "auto",
        ("starlette", "uvicorn"),
        ("starlette", "uvicorn", "websockets"),
    ),
    Peer(
        "fastapi",
        "FastAPI docs' ConnectionManager",
        "fastapi_manager",
        "",
        ("fastapi", "uvicorn"),
        ("fastapi", "uvicorn", "websockets"),
    ),
    Peer(
        "socketio",
        "python-socketio emit(room=)",
        "socketio_room",
        "",
        ("python-socketio", "uvicorn"),
        ("socketio", "uvicorn", "websockets"),
        "/socket.io/?EIO=4&transport=websocket",
        "40",
    ),
    Peer(
        "channels",
        "Channels in-memory group_send",
        "channels_group",
        "",
        ("channels", "uvicorn"),
        ("channels", "django", "uvicorn", "websockets"),
    ),
)
