"""Any other object: closed by its ``close``, if it has one, in the way that takes our arguments."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from .._wsmanager import Channel

__all__ = ["channel", "closing", "transport"]


def channel(websocket: Any) -> Channel | None:
    """None is known."""
    return None


def transport(websocket: Any) -> asyncio.Transport | None:
    """None is known."""
    return None


def closing(websocket: Any, code: int, reason: str) -> Any:
    """Call ``close`` with those of the code and the reason that it takes."""
    method = getattr(websocket, "close", None)
    if not callable(method):
        return None
    places, names = _arguments(method, code, reason)
    return method(*places, **names)


def _arguments(method: Any, code: int, reason: str) -> tuple[list[Any], dict[str, Any]]:
    """What to call *method* with: by name where it has our names, else in the order of the places it must have."""
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):  # of a class in C that does not say
        return [], {}
    takes_any_name = any(each.kind is each.VAR_KEYWORD for each in parameters)
    known = {"code": code, "status": code, "status_code": code, "reason": reason}
    rest = [code, reason]
    places: list[Any] = []
    names: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            names = {"code": code, "reason": reason, **names}
        elif parameter.kind is parameter.VAR_POSITIONAL:
            places += [] if takes_any_name else rest[len(places) :]
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            places += rest[len(places) : len(places) + 1]
        elif parameter.name in known:
            names[parameter.name] = known[parameter.name]
        elif parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
            places += rest[len(places) : len(places) + 1]
    return places, names
