"""A user's events as server-sent events (SSE), for where a WebSocket does not get through.

::

    @app.get("/events")
    async def events(request: Request) -> EventStream:
        return EventStream(user_id_of(request))

    const source = new EventSource("/events");          // the page
    source.onmessage = (message) => show(JSON.parse(message.data));

The stream is an ordinary connection of the user's manager: the same events,
the same positions and the same limits for a slow one. ``EventSource`` connects
again by itself and resumes by its ``Last-Event-ID``; a page may as well go on
by WebSocket from the position it has. The format is that of the WHATWG HTML
standard, section 9.2.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from . import events
from ._bounded import within
from ._wsmanager import get_websocket_manager
from .close_codes import close_code, retry_after
from .errors import ConnectionLimitError, ServerDraining, UserLimitError
from .resume import resume_token

if TYPE_CHECKING:

    class _Response:
        """What is used of Starlette's."""

        background: Any
        media_type: str
        raw_headers: list[tuple[bytes, bytes]]
        status_code: int
else:
    try:  # FastAPI lets pass what is a Response; anything else it would encode as JSON
        from starlette.responses import Response as _Response
    except ImportError:
        _Response = object

__all__ = ["EventStream"]

LAST_WORDS: Final = 2.0
"""Seconds the end of a stream may take to be written to a client that does not read."""

_ID: Final = re.compile(r"[!-~]{1,200}")  # printable ASCII: no line feed, no NUL
_LINES: Final = re.compile(r"\r\n|\r|\n")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class EventStream(_Response):
    """One user's events over one HTTP response.

    It is an ASGI application, and with Starlette installed a ``Response`` as
    well, so a route of Starlette or FastAPI returns it. Each event is
    ``id: <position>`` and ``data: <the JSON a WebSocket gets>``; of no event
    type of its own, so ``onmessage`` gets them all. The first is the control
    event ``resumed``. When the server ends a stream for good, by a close code
    after which a client is not to come back, it sends ``event: close`` with
    the code and the reason as JSON; call ``source.close()`` then.

    While the process is draining the answer is 503, over the limit of the
    user's connections 429, both with ``Retry-After``.

    :param user_context: whose events: what ``get_websocket_manager`` takes.
    :param last_event_id: the position to resume from; ``None``: the
        ``Last-Event-ID`` header, else ``?resume=`` in the URL.
    :param thread_id: the chat thread it shows, for ``send_to_thread``.
    :param heartbeat: seconds of silence after which a comment is sent, below
        the 60 of common proxies.
    :param retry: seconds after which the browser is to come back; each stream
        is given its own between half and one and a half of it, so that they
        do not all come back at once.
    :param headers: further headers of the response.
    :raises InvalidUserContext: at once, as ``get_websocket_manager`` does.
    :raises ValueError: if *heartbeat* or *retry* is not above 0.
    """

    def __init__(
        self,
        user_context: Any,
        last_event_id: str | None = None,
        *,
        thread_id: str | None = None,
        heartbeat: float = 25.0,
        retry: float = 2.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not (heartbeat > 0 and retry > 0):
            raise ValueError("heartbeat and retry are numbers of seconds above 0")
        self.manager = get_websocket_manager(user_context)
        self.last_event_id = last_event_id
        self.thread_id = thread_id
        self.heartbeat = heartbeat
        self.retry = retry
        # What Starlette's Response has; its own __init__ would set a length.
        self.status_code = 200
        self.media_type = "text/event-stream"
        self.background = None
        self.raw_headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx
        ]
        for name, value in (headers or {}).items():
            self.raw_headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = _Line(send)
        if scope["method"] == "HEAD":
            await line.start(self.status_code, self.raw_headers)
            await line.end()
            return
        try:
            # Held back until the response has begun: an event goes after the headers.
            connection_id = self.manager.add_connection(
                line, thread_id=self.thread_id, resume=self._position(scope)
            )
        except (ConnectionLimitError, UserLimitError, ServerDraining) as error:
            await _refuse(line, error)
            return
        try:
            await line.start(self.status_code, self.raw_headers)
            await line.write(_retry(random.uniform(0.5, 1.5) * self.retry))
            line.open()
            await self._live(line, receive)
            await _end(line)
        finally:
            self.manager.remove_connection(connection_id)
            line.leave()
        if self.background is not None:
            await self.background()

    def _position(self, scope: Scope) -> str:
        if self.last_event_id is not None:
            return self.last_event_id
        for name, value in scope["headers"]:
            if name.lower() == b"last-event-id":
                return bytes(value).decode("utf-8", "replace")
        return resume_token(scope) or ""

    async def _live(self, line: _Line, receive: Receive) -> None:
        """Until one of both sides ends it."""
        tasks = [
            asyncio.ensure_future(each)
            for each in (_left(line, receive), line.closed.wait(), _beat(line, self.heartbeat))
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


class _Line:
    """The connection object of a stream: what its manager sends to, and what it closes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ready = asyncio.Event()
        self._turn = asyncio.Lock()  # a comment is never written inside an event
        self._sent_at = 0.0
        self.closed = asyncio.Event()
        self.gone = False  # the client has
        self.farewell = ""

    # -- the manager's side -----------------------------------------------------

    async def send_text(self, text: str) -> None:
        """Write one event; suspends as long as the client does not read."""
        if not self._ready.is_set():
            await self._ready.wait()
        if self.closed.is_set():
            raise ConnectionResetError("the event stream has ended")
        try:
            await self.write(_event(text))
        except OSError:  # ASGI 2.4
            self.gone = True
            self.closed.set()
            raise

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the stream, telling the client whether and when to come back."""
        if self.closed.is_set():
            return
        row = close_code(code)
        seconds = retry_after(reason)
        if seconds is None:
            seconds = row.retry_after
        if not row.reconnect:
            data = events.encode_any({"code": code, "reason": reason}).decode()
            self.farewell = f"event: close\ndata: {data}\n\n"
        elif seconds is not None:
            self.farewell = _retry(seconds)
        self.closed.set()

    # -- the response's side ----------------------------------------------------

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def open(self) -> None:
        self._ready.set()

    def leave(self) -> None:
        """From now on nothing is taken; what waits to be sent fails."""
        self.closed.set()
        self._ready.set()

    async def end(self) -> None:
        async with self._turn:
            body = self.farewell.encode()
            await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def write(self, text: str) -> None:
        async with self._turn:
            body = text.encode()
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            self._sent_at = asyncio.get_running_loop().time()

    def idle_left(self, heartbeat: float) -> float:
        """Seconds until a comment is due; while something is being written, none is."""
        if self._turn.locked():
            return heartbeat
        return max(0.0, self._sent_at + heartbeat - asyncio.get_running_loop().time())


async def _left(line: _Line, receive: Receive) -> None:
    """Return when the client has gone; a body it may have sent is passed over."""
    while (await receive())["type"] != "http.disconnect":
        pass
    line.gone = True


async def _beat(line: _Line, heartbeat: float) -> None:
    """A comment whenever nothing was written for so long; ends when the client has gone."""
    try:
        while True:
            await asyncio.sleep(line.idle_left(heartbeat))
            if not line.idle_left(heartbeat):
                await line.write(":\n\n")
    except OSError:
        line.gone = True


async def _end(line: _Line) -> None:
    """Complete the response, if there is anyone to read it, and not for ever."""
    if line.gone:
        return
    finished = await within(LAST_WORDS, line.end())
    error = None if finished is None or finished.cancelled() else finished.exception()
    if error is not None and not isinstance(error, OSError):
        raise error


async def _refuse(line: _Line, error: Exception) -> None:
    status = 429 if isinstance(error, ConnectionLimitError) else 503
    row = close_code(4000 + status)
    seconds = b"%d" % (row.retry_after or 1)
    headers = [(b"retry-after", seconds), (b"content-type", b"text/plain; charset=utf-8")]
    line.farewell = f"{row.name}\n"
    await line.start(status, headers)
    await line.end()


def _event(text: str) -> str:
    """One event of the wire format; its id is the position after it."""
    position = _position_after(text)
    head = f"id: {position}\n" if position and _ID.fullmatch(position) else ""
    if "\n" not in text and "\r" not in text:
        return f"{head}data: {text}\n\n"
    lines = "".join(f"data: {line}\n" for line in _LINES.split(text))
    return f"{head}{lines}\n"


def _position_after(text: str) -> str | None:
    """Its own id; after a failed resume, the position the server names; else unchanged."""
    event = events.decode(text)
    if not isinstance(event, dict):
        return None
    found = event.get("id")
    if found is None and event.get("type") == "resumed":
        payload = event.get("payload")
        if isinstance(payload, dict) and payload.get("recovered") is False:
            found = payload.get("position")
    return found if isinstance(found, str) else None


def _retry(seconds: float) -> str:
    return f"retry: {round(seconds * 1000)}\n\n"
