"""What a client asked for in its opening handshake, whatever library holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["Headers", "headers_of", "scheme_of", "scope_of", "values"]

Headers = list[tuple[str, str]]
"""Names in lower case, and values, in the order they came; a name may come twice."""

_SCHEMES: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


def scope_of(source: Any) -> Mapping[str, Any] | None:
    """The ASGI scope that *source* is or carries; ``None``: it has none."""
    scope = source if isinstance(source, Mapping) else getattr(source, "scope", None)
    if isinstance(scope, Mapping) and "type" in scope and "headers" in scope:
        return scope
    return None


def headers_of(source: Any) -> Headers:
    """The request's headers.

    :param source: a WebSocket of Starlette, FastAPI, Litestar or
        ``websockets``, an aiohttp request, an ASGI scope, or the headers
        themselves: a mapping or pairs, of ``str`` or ``bytes``.
    :raises TypeError: for anything else.
    """
    scope = scope_of(source)
    if scope is not None:
        return _pairs(scope["headers"])
    if _is_response(source):
        raise TypeError("the headers of an aiohttp WebSocketResponse are our own; give its request")
    request = getattr(source, "request", None)  # websockets
    found = getattr(request if hasattr(request, "headers") else source, "headers", source)
    return _pairs(found)


def scheme_of(source: Any) -> str | None:
    """``"http"`` or ``"https"``, as the server saw it; ``None`` where headers are all there is."""
    scope = scope_of(source)
    if scope is not None:
        return _SCHEMES.get(str(scope.get("scheme", "ws")).lower())
    scheme = getattr(source, "scheme", None)  # aiohttp's request
    if isinstance(scheme, str):
        return _SCHEMES.get(scheme.lower())
    transport = getattr(source, "transport", None)  # websockets
    if transport is not None and callable(getattr(transport, "get_extra_info", None)):
        return "http" if transport.get_extra_info("ssl_object") is None else "https"
    return None


def values(headers: Headers, name: str) -> list[str]:
    """Every value of a header, without the blanks around it."""
    return [value.strip(" \t") for key, value in headers if key == name]


def _is_response(source: Any) -> bool:
    return any(
        (base.__module__, base.__qualname__) == ("aiohttp.web_ws", "WebSocketResponse")
        for base in type(source).__mro__
    )


def _pairs(headers: Any) -> Headers:
    raw = getattr(
        headers, "raw_items", None
    )  # websockets: items() joins, or refuses, what comes twice
    items = raw() if callable(raw) else getattr(headers, "items", lambda: headers)()
    if isinstance(headers, (str, bytes)) or not isinstance(items, Iterable):
        raise TypeError(
            "a WebSocket, an ASGI scope, an aiohttp request or headers are expected, "
            f"not {type(headers).__name__}"
        )
    try:
        return [(_text(name).lower(), _text(value)) for name, value in items]
    except (TypeError, ValueError):
        raise TypeError(
            f"{type(headers).__name__} holds no pairs of header names and values"
        ) from None


def _text(part: Any) -> str:
    if isinstance(part, bytes):
        return part.decode("latin-1")
    if isinstance(part, str):
        return part
    raise TypeError("a header is str or bytes")
