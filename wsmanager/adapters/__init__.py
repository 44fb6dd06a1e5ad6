"""What differs between the WebSocket objects of the libraries people use.

A library is known by the module and name of a class among the bases of the
object's type; none is imported to find out. An object of any other type works
all the same, by its ``send_text``, ``send_str`` or ``send``.

One file a library, each with three functions of its object:

``channel``    the direct way to its transport, or ``None``
``transport``  the transport itself, or ``None``; to cut a peer that hangs
``closing``    the awaitable of its own close call
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from .. import _wsmanager
from .._bounded import within
from .._log import error_name
from .._wsmanager import Channel
from . import aiohttp, asgi, other, starlette, websockets

__all__ = ["close", "cut", "resolve"]

CLOSE_TIMEOUT: Final = 5.0
"""Seconds a library's own close may take before the transport is cut."""

_MAX_REASON: Final = 123  # bytes; RFC 6455, 5.5: a control frame holds 125, two are the code

_ABNORMAL: Final = 1006  # never sent: what a peer sees that was cut off

_logger: Final = logging.getLogger("wsmanager.writer")
_core: Final[Any] = _wsmanager  # with what is not for users


class _Adapter(NamedTuple):
    channel: Callable[[Any], Channel | None]
    transport: Callable[[Any], asyncio.Transport | None]
    closing: Callable[[Any, int, str], Any]


_STARLETTE: Final = _Adapter(starlette.channel, starlette.transport, starlette.closing)
_ASGI: Final = _Adapter(asgi.channel, asgi.transport, asgi.closing)
_WEBSOCKETS: Final = _Adapter(websockets.channel, websockets.transport, websockets.closing)
_AIOHTTP: Final = _Adapter(aiohttp.channel, aiohttp.transport, aiohttp.closing)
_OTHER: Final = _Adapter(other.channel, other.transport, other.closing)

_KNOWN: Final = {
    **dict.fromkeys(starlette.TYPES, _STARLETTE),
    **dict.fromkeys(asgi.TYPES, _ASGI),
    **dict.fromkeys(websockets.TYPES, _WEBSOCKETS),
    **dict.fromkeys(aiohttp.TYPES, _AIOHTTP),
}
_by_type: WeakKeyDictionary[type, _Adapter] = WeakKeyDictionary()


def resolve(websocket: object) -> Channel | None:
    """The direct channel of *websocket*, or ``None``: then its own send is used.

    Never raises for an object of a shape it does not know.
    """
    try:
        return _adapter(type(websocket)).channel(websocket)
    except Exception as error:  # noqa: BLE001 - a property of a foreign class may raise anything
        _logger.debug(
            "no direct channel for %s: %s", type(websocket).__qualname__, error_name(error)
        )
        return None


async def close(websocket: object, code: int, reason: str) -> bool:
    """Close *websocket* as its library does it, within ``CLOSE_TIMEOUT`` seconds.

    A peer that does not let go in that time has its transport cut, where the
    object leads to it; where it does not (an ASGI server without a channel),
    the server's own keepalive ends it. Never raises but for cancellation; what
    the library raised is logged at DEBUG. False if it did not end in time.

    :param code: the WebSocket close code.
    :param reason: up to 123 bytes of UTF-8; what is beyond is cut off.
    """
    try:
        adapter = _adapter(type(websocket))
        going = adapter.closing(websocket, code, _short(reason))
        if not inspect.isawaitable(going):
            return True
        _core._closing(websocket, code)
        finished = await within(CLOSE_TIMEOUT, going)
        if finished is None:
            _logger.debug("close took longer than %g seconds; the transport is cut", CLOSE_TIMEOUT)
            cut(websocket)
            return False
        if not finished.cancelled():
            finished.result()
    except Exception as error:  # noqa: BLE001 - so may a foreign close
        _logger.debug("close failed with %s", error_name(error))
    return True


def cut(websocket: object) -> None:
    """Abort the transport of *websocket*, where the object leads to it; on its loop's thread."""
    transport = _adapter(type(websocket)).transport(websocket)
    if transport is not None:
        _core._closing(websocket, _ABNORMAL)
        transport.abort()


def _adapter(kind: type) -> _Adapter:
    found = _by_type.get(kind)
    if found is None:
        found = _OTHER
        for base in kind.__mro__:
            name = (base.__module__, base.__qualname__)
            if name in _KNOWN:
                found = _KNOWN[name]
                break
        _by_type[kind] = found
    return found


def _short(reason: str) -> str:
    encoded = reason.encode("utf-8", "replace")
    return encoded[:_MAX_REASON].decode("utf-8", "ignore")
