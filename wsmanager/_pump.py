"""Sends one event to many connections, one after the other, for the C core.

Each function takes the connections' objects as the core hands them out and
awaits their sends. The core notes what became of a send when it is asked for
the next object, so a coroutine here may end, raise or suspend at any ``await``
and nothing is lost: the core goes on with another. One that ends at an object
has sent to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dis import opmap
from typing import Any

_GET_AWAITABLE = opmap["GET_AWAITABLE"]


def _was_sent(error: TypeError) -> bool:
    """Whether a plain function sent and its result could not be awaited, here."""
    traceback = error.__traceback__
    if traceback is None or traceback.tb_next is not None:
        return False
    code = traceback.tb_frame.f_code.co_code
    return code[traceback.tb_lasti] == _GET_AWAITABLE


async def send_text(turns: Iterator[Any], text: str) -> None:
    """Send by ``send_text``: Starlette, FastAPI."""
    try:
        for websocket in turns:
            await websocket.send_text(text)
    except TypeError as error:
        if not _was_sent(error):
            raise


async def send_str(turns: Iterator[Any], text: str) -> None:
    """Send by ``send_str``: aiohttp."""
    try:
        for websocket in turns:
            await websocket.send_str(text)
    except TypeError as error:
        if not _was_sent(error):
            raise


async def send(turns: Iterator[Any], text: str) -> None:
    """Send by ``send``: websockets, and most others."""
    try:
        for websocket in turns:
            await websocket.send(text)
    except TypeError as error:
        if not _was_sent(error):
            raise
