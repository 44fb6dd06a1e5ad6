"""aiohttp's server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import ref

from .._wsmanager import Channel
from ._first import First
from ._transport import as_transport

__all__ = ["TYPES", "channel", "closing", "transport"]

TYPES: Final = (("aiohttp.web_ws", "WebSocketResponse"),)

_SENDS: Final = ("send_frame", "_send_frame")
"""The method of its writer that writes every frame; the second is its name before version 3.11."""


def channel(websocket: Any) -> Channel | None:
    """The direct way to its transport; ``None`` for TLS, or if a part is not where it is known to be."""
    found = transport(websocket)
    writer = getattr(websocket, "_writer", None)
    if found is None or websocket.closed or not isinstance(getattr(writer, "_closing", None), bool):
        return None
    name = next((name for name in _SENDS if callable(getattr(writer, name, None))), None)
    if name is None:
        return None
    try:
        return Channel(found, ready=_ready(websocket, writer, _writing(websocket, writer, name)))
    except (TypeError, ValueError):
        return None


class _Writing(First):
    """In place of the writer's method: the emits before it first, unless one of both sides has closed."""

    __slots__ = ("_before", "_name", "_websocket", "_writer")

    def __init__(self, websocket: Any, writer: Any, name: str) -> None:
        super().__init__()
        self._websocket = ref(websocket)
        self._writer = ref(writer)
        self._before = vars(writer).get(name)
        self._name = name

    def __call__(self, *places: Any, **names: Any) -> Any:
        websocket, writer = self._websocket(), self._writer()
        if (
            websocket is not None
            and writer is not None
            and not writer._closing
            and websocket.close_code is None
        ):
            self.flush(websocket, whole=not websocket.closed)
        if self._before is not None:
            return self._before(*places, **names)
        return getattr(type(writer), self._name)(writer, *places, **names)


def _writing(websocket: Any, writer: Any, name: str) -> First:
    found = vars(writer).get(name)
    if not isinstance(found, _Writing):
        found = _Writing(websocket, writer, name)
        setattr(writer, name, found)
    return found


def _ready(websocket: Any, writer: Any, first: First) -> Callable[[], bool]:
    """Whether a frame may be written now; aiohttp writes each message in one frame at one time."""

    def ready() -> bool:
        return first.flushing or not (writer._closing or websocket.closed)

    return ready


def transport(websocket: Any) -> asyncio.Transport | None:
    """The transport of its writer, which it has from ``prepare()`` on."""
    return as_transport(getattr(getattr(websocket, "_writer", None), "transport", None))


def closing(websocket: Any, code: int, reason: str) -> Any:
    """aiohttp names the reason ``message``, and takes it as bytes."""
    return websocket.close(code=code, message=reason.encode())
