"""uvicorn's WebSocket protocol with the direct channel::

    uvicorn app:app --ws wsmanager.uvicorn:WebSocketProtocol

``UVICORN_WS``, ``uvicorn.Config(ws=...)`` and ``CONFIG_KWARGS = {"ws": ...}`` of
a gunicorn worker class take the same text. Apps need no change: what is
emitted to a WebSocket of Starlette, FastAPI, Litestar, Quart or Django
Channels goes to its socket directly from then on, past the ASGI middlewares
and the ``send`` they may have wrapped; all that the app sends itself goes on
as before, and the order of both is kept.

It is uvicorn's own sans-I/O implementation over the ``websockets`` library,
which is what ``--ws auto`` is from uvicorn 0.50.0 on; nothing but the entry
``"wsmanager.channel"`` in the scope's extensions is new. The floor is uvicorn
0.44.0: before it this implementation sent no keepalive pings, so choosing it
would have switched off ``--ws-ping-interval``.
"""

from __future__ import annotations

from asyncio import BaseTransport, Transport
from typing import TYPE_CHECKING, Any, cast

from ._wsmanager import Channel
from .adapters.asgi import EXTENSION

try:
    from uvicorn import __version__ as _version
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError as _missing:
    raise ImportError(
        "wsmanager.uvicorn needs uvicorn 0.44.0 or later and the websockets library: "
        "pip install 'uvicorn>=0.44.0' websockets. Without it leave --ws out: "
        "all works, by uvicorn's own send."
    ) from _missing

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

__all__ = ["WebSocketProtocol"]

_NEEDED = (
    "connection_lost",
    "connection_made",
    "handle_close",
    "handle_parser_exception",
    "keepalive_timeout",
    "run_asgi",
    "send",
    "shutdown",
    "start_keepalive",
)
# Of uvicorn's own classes: asyncio's Protocol, below them, has some of these and does nothing in them.
# It may be left to do so for pause_writing and resume_writing, as it was before uvicorn 0.53: a channel
# looks at the transport itself.
_own = {
    name
    for kind in WebSocketsSansIOProtocol.__mro__
    if kind.__module__.partition(".")[0] == "uvicorn"
    for name in vars(kind)
}
_absent = [name for name in _NEEDED if name not in _own]
if _absent:
    raise ImportError(
        f"wsmanager.uvicorn does not know the WebSocket protocol of uvicorn {_version} "
        f"(it has no {', '.join(_absent)}): 0.44.0 is the oldest it works with. Leave --ws out "
        "until one of both is upgraded: all works, by uvicorn's own send."
    )


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection of uvicorn, with a channel beside its own way to send.

    The channel is open from the moment the handshake's answer was written
    until a close frame is written or received or the transport closes. Each
    of these comes with a method of the base class, which does all of the
    work. Under TLS there is no channel.
    """

    channel: Channel | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        try:
            self.channel = Channel(cast(Transport, transport), open=False)
        except (TypeError, ValueError):  # TLS, or a transport of an unknown kind
            self.channel = None

    def run_asgi(self) -> Any:  # the base class's coroutine, without one of our own around it
        # Not in handle_connect(): with eager tasks the app has started by its end.
        if self.channel is not None:
            scope: Any = self.scope
            scope["extensions"][EXTENSION] = self.channel
            self.app = _flushing(self.app, self.channel)
        return super().run_asgi()

    async def send(self, message: ASGISendEvent) -> None:
        if self.channel is not None:
            # Events emitted before it leave before it; a close does not wait for a slow peer.
            self.channel.flush(message["type"] != "websocket.close")
        await super().send(message)
        # Nothing has run since the base class wrote the frame.
        kind = message["type"]
        if kind == "websocket.accept":
            if (
                self.channel is not None
                and self.handshake_complete
                and not self.transport.is_closing()
            ):
                self.channel.opened()
        elif kind == "websocket.close":
            code = message.get("code")
            self._close_channel(code if isinstance(code, int) else 1000)

    def pause_writing(self) -> None:
        if self.channel is not None:
            self.channel.pause()
        super().pause_writing()

    def resume_writing(self) -> None:
        if self.channel is not None:
            self.channel.resume()
        super().resume_writing()

    def handle_close(self, event: Any) -> None:
        # The code that the peer sent; 1005 where it sent none.
        self._close_channel(getattr(self.conn.close_rcvd, "code", 1005))
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        self._close_channel(getattr(self.conn.close_sent, "code", 1002))
        super().handle_parser_exception()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        if self.transport.is_closing():
            self._close_channel(1011)

    def shutdown(self) -> None:
        if self.channel is not None:
            self.channel.flush(False)
        self._close_channel(1012)
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._close_channel(1006)
        super().connection_lost(exc)

    def _close_channel(self, code: int) -> None:
        if self.channel is not None:
            self.channel.closed(code)


def _flushing(app: Any, channel: Channel) -> Any:
    """*app*, and at its end what it emitted last: the base class closes the transport then."""

    async def run(scope: Any, receive: Any, send: Any) -> Any:
        try:
            return await app(scope, receive, send)
        finally:
            channel.flush(False)

    return run
