"""What the C core asks about an event loop."""

from __future__ import annotations

import socket
from asyncio import BaseEventLoop
from asyncio.selector_events import BaseSelectorEventLoop
from typing import Any


def waker(loop: Any) -> socket.socket | None:
    """Return the socket whose peer *loop* selects on, if that is how it is woken.

    A byte written to it is all that ``call_soon_threadsafe`` adds to
    ``call_soon`` in asyncio's own selector loops. None for any other loop, and
    for one whose class does either in a way of its own.
    """
    kind = type(loop)
    if (
        getattr(kind, "call_soon_threadsafe", None) is not BaseEventLoop.call_soon_threadsafe
        or getattr(kind, "call_soon", None) is not BaseEventLoop.call_soon
        or getattr(kind, "_write_to_self", None)
        is not getattr(BaseSelectorEventLoop, "_write_to_self", loop)
    ):
        return None
    found = getattr(loop, "_csock", None)
    return found if isinstance(found, socket.socket) else None
