"""What a client says of the events it already has, on its way to ``add_connection``.

A client tells its position either in the URL, which is the browser client's
default, or in its first message::

    connection_id = manager.add_connection(websocket, resume=resume_token(websocket))
    connection_id = manager.add_connection(websocket, resume=await receive_resume(websocket))

Neither checks the position: ``add_connection`` does, and answers whatever is
forged, foreign or too old with ``recovered=false``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import unquote_plus, urlsplit

from ._bounded import within
from .errors import ResumeError

__all__ = ["MAX_MESSAGE_BYTES", "read_message", "receive_resume", "resume_token"]

MAX_MESSAGE_BYTES: Final = 1024
"""A message of a client to the package is short; a longer one is the application's own."""

_RECEIVERS: Final = ("receive_text", "receive_str", "recv")


def resume_token(websocket: Any, parameter: str = "resume") -> str | None:
    """The position in the URL that *websocket* was opened with.

    ``""`` is a client that has none yet and wants one; ``None`` one that does
    not take part. Give either to ``add_connection(resume=...)`` as it is.

    :param websocket: a WebSocket or request of Starlette, FastAPI, Litestar,
        Quart or Django Channels, a connection of ``websockets``, a request of
        aiohttp (its ``WebSocketResponse`` does not know its URL), or the scope
        of an ASGI connection.
    :param parameter: its name in the URL.
    :raises TypeError: if *websocket* does not lead to a URL.
    """
    for pair in _query(websocket).split("&"):
        name, _, value = pair.partition("=")
        if unquote_plus(name) == parameter:
            return unquote_plus(value)
    return None


async def receive_resume(websocket: Any, timeout: float = 5.0) -> str | None:
    """Receive the first message, ``{"type": "resume", "position": "..."}``, and give its position.

    For an accepted socket whose client is set to ``resume: "message"``; call it
    once, before ``add_connection`` and before anything else receives.

    :param websocket: a WebSocket of Starlette, FastAPI, Litestar (with
        ``receive_text``), ``websockets`` (``recv``), aiohttp (``receive_str``),
        or the ``receive`` of an ASGI application.
    :param timeout: seconds the client may take.
    :returns: the position; ``""`` for a client that has none yet.
    :raises ResumeError: if the first message is another one, or none comes in
        time. It has been received, so close the socket then (code 1008).
    :raises Exception: what the library raises when the peer has gone.
    """
    finished = await within(timeout, _receive(websocket))
    if finished is None:
        raise ResumeError(f"no resume message came within {timeout:g} seconds")
    if finished.cancelled():
        raise asyncio.CancelledError
    try:
        message = read_message(finished.result())
    except KeyError:  # Starlette's receive_text, of a binary message
        message = None
    if message is None or message["type"] != "resume":
        raise ResumeError(
            'the first message must be {"type": "resume", "position": "<epoch>:<seq>"}, '
            "and another one came"
        )
    position = message.get("position")
    return position if isinstance(position, str) else ""


def read_message(text: object) -> dict[str, Any] | None:
    """The JSON object with a ``"type"`` in a short text or bytes, or ``None`` for anything else."""
    if not isinstance(text, (str, bytes, bytearray)) or len(text) > MAX_MESSAGE_BYTES:
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    return message


def _query(websocket: Any) -> str:
    scope = websocket if isinstance(websocket, Mapping) else getattr(websocket, "scope", None)
    if isinstance(scope, Mapping) and "query_string" in scope:
        return bytes(scope["query_string"]).decode("latin-1")
    for text in (
        getattr(getattr(websocket, "request", None), "path", None),  # websockets
        getattr(websocket, "path_qs", None),  # aiohttp's request
    ):
        if isinstance(text, str):
            return urlsplit(text).query
    raise TypeError(
        f"a {type(websocket).__qualname__} does not lead to its URL; give the WebSocket of "
        "Starlette or FastAPI, a connection of websockets, aiohttp's request, or an ASGI scope"
    )


async def _receive(websocket: Any) -> object:
    for name in _RECEIVERS:
        method = getattr(websocket, name, None)
        if method is not None:
            return await cast(Callable[[], Awaitable[object]], method)()
    if not callable(websocket):
        raise TypeError(
            f"a {type(websocket).__qualname__} has none of {', '.join(_RECEIVERS)} and is not "
            "the receive of an ASGI application"
        )
    receive = cast(Callable[[], Awaitable[Mapping[str, Any]]], websocket)
    while True:
        message = await receive()
        if message["type"] == "websocket.receive":
            text = message.get("text")
            return message.get("bytes") if text is None else text
        if message["type"] == "websocket.disconnect":
            raise ResumeError("the client left before it sent its resume message")
