"""Where a browser can put a credential, since it cannot set a header on a WebSocket.

Not into the URL: access logs, proxies and error trackers keep URLs. What is
left: the list of subprotocols, which is a header of the handshake, and the
first message after it.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final

from .._bounded import within
from ._handshake import headers_of, values
from ._messages import receive_message
from .errors import InvalidCredential

__all__ = [
    "CREDENTIAL_PREFIX",
    "first_message_credential",
    "offered_protocols",
    "protocol_to_accept",
    "subprotocol_credential",
]

CREDENTIAL_PREFIX: Final = "wsmanager.ticket."
"""What a subprotocol that carries a credential begins with, unless told otherwise."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_MAX_OFFERED: Final = 32


def offered_protocols(source: Any) -> list[str]:
    """The subprotocols the client asks for, in its order.

    :param source: what :func:`~wsmanager.security.check_origin` takes.
    :returns: none if there are more than 32, or one is no token (RFC 6455, 4.1).
    """
    lines = values(headers_of(source), "sec-websocket-protocol")
    names = [name.strip(" \t") for line in lines for name in line.split(",")]
    if len(names) > _MAX_OFFERED or not all(map(_TOKEN.fullmatch, names)):
        return []
    return names


def subprotocol_credential(source: Any, prefix: str = CREDENTIAL_PREFIX) -> str:
    """The credential among the subprotocols, without *prefix*; to be read before the accept.

    In the browser::

        new WebSocket(url, ["chat.v1", "wsmanager.ticket." + ticket])

    Only letters, digits and ``!#$%&'*+-.^_`|~`` can be in it: tickets and
    JWTs are of these. Accept with :func:`protocol_to_accept`, never with the
    credential's own name.

    :raises InvalidCredential: if there is none, or more than one.
    """
    found = [name[len(prefix) :] for name in offered_protocols(source) if name.startswith(prefix)]
    if len(found) != 1 or not found[0]:
        raise InvalidCredential(
            f"one subprotocol that begins with {prefix!r:.40} is expected; {len(found)} came"
        )
    return found[0]


def protocol_to_accept(source: Any, prefix: str = CREDENTIAL_PREFIX) -> str | None:
    """The subprotocol to accept with: the first offered that is no credential.

    If a client offers only its credential, that one: a browser ends a
    connection whose server chose none of those it asked for. The server's
    answer then repeats it, so let clients offer a plain one as well.
    ``None``: the client asked for none.
    """
    names = offered_protocols(source)
    plain = [name for name in names if not name.startswith(prefix)]
    return next(iter(plain or names), None)


async def first_message_credential(
    websocket: Any, *, timeout: float = 5.0, max_bytes: int = 8192
) -> str:
    """The credential in the first message of an accepted WebSocket.

    The message is a text, ``{"type": "auth", "token": "..."}``. Nothing of
    the user's may be sent, and the connection not be registered, before it
    came and was good; close the socket if this raises.

    :param websocket: of Starlette, FastAPI, ``websockets``, aiohttp, or an
        ``AsgiWebSocket``; on its own loop.
    :param timeout: seconds the client may take.
    :param max_bytes: the most bytes the message may have, as UTF-8.
    :raises InvalidCredential: if the message is late, is not such a message,
        is too large, or the client left.
    """
    finished = await within(timeout, receive_message(websocket))
    if finished is None:
        raise InvalidCredential(f"no credential within {timeout:g} seconds")
    try:
        message = finished.result()
    except asyncio.CancelledError:
        raise InvalidCredential("the connection ended before a credential came") from None
    if message is None:
        raise InvalidCredential("the connection ended before a credential came")
    return _token(message, max_bytes)


def _token(message: str | bytes, max_bytes: int) -> str:
    wrong = InvalidCredential('the first message is {"type": "auth", "token": "..."}, as text')
    if not isinstance(message, str):
        raise wrong
    if len(message) > max_bytes or len(message.encode("utf-8", "surrogatepass")) > max_bytes:
        raise InvalidCredential(f"the first message is larger than {max_bytes} bytes")
    try:
        read = json.loads(message)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or read.get("type") != "auth":
        raise wrong
    token = read.get("token")
    if not isinstance(token, str) or not token or not token.isascii():
        raise wrong
    return token
