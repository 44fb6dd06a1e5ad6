"""Who may open a WebSocket from a web page: the check that stops cross-site WebSocket hijacking.

A browser lets any page open a WebSocket to any server, and sends the cookies
of that server along. No CORS rule applies, and CORS middlewares of ASGI
frameworks never see a WebSocket. The one thing a page cannot forge is the
``Origin`` header (RFC 6455, 4.1 and 10.2).
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ._handshake import Headers, headers_of, scheme_of, values

__all__ = ["check_origin"]

_logger: Final = logging.getLogger("wsmanager.security")

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = r"(?:[a-z0-9_](?:[a-z0-9_.-]{0,252})|\[[0-9a-f:.]{2,45}\])"
_ORIGIN: Final = re.compile(rf"([a-z][a-z0-9+.-]{{0,31}})://({_HOST})(?::([0-9]{{1,5}}))?")
_AUTHORITY: Final = re.compile(rf"({_HOST})(?::([0-9]{{1,5}}))?")
_MAX: Final = 512  # characters; the longest host name has 253


class _Site(NamedTuple):
    scheme: str
    host: str
    port: int | None
    below: bool = False  # the host's sub-domains, and not the host itself


def check_origin(
    source: Any,
    allowed: Iterable[str] | None = None,
    *,
    allow_missing: bool = False,
    allow_null: bool = False,
    trust_forwarded_host: bool = False,
) -> bool:
    """Whether the page that opens this WebSocket may do so. Look before the accept::

        if not check_origin(websocket, allowed=["https://app.example.com"]):
            return await reject(websocket, 1008, "origin")

    Scheme, host and port must all be equal; a port that is the scheme's own
    (80, 443) need not be written. Any thread may call it.

    :param source: a WebSocket of Starlette, FastAPI, Litestar or
        ``websockets``, an aiohttp *request*, an ASGI scope, or the request's
        headers.
    :param allowed: origins such as ``"https://app.example.com"``,
        ``"http://localhost:5173"`` or ``"capacitor://localhost"``.
        ``"https://*.example.com"`` stands for every sub-domain at any depth,
        not for ``example.com`` itself. There is no ``"*"``. ``None``: the same
        origin only, that is the scheme the server saw and the ``Host`` header.
    :param allow_missing: accept a request with no ``Origin``. Every browser
        sends one, so such a client is a program, not a page; it is refused
        unless you expect such programs and they carry a credential that is no
        cookie.
    :param allow_null: accept ``Origin: null``. Any page can make a browser say
        that, by a sandboxed frame: with cookies it is as good as no check.
    :param trust_forwarded_host: compare with ``X-Forwarded-Host`` in place of
        ``Host``; only behind a proxy that always overwrites it. A list of
        hosts in it is refused.
    :returns: false for all that is not plainly allowed: two origins, two
        hosts, an origin that is no origin.
    :raises TypeError: if *allowed* is a single string, or *source* is nothing
        that has headers.
    :raises ValueError: for an entry of *allowed* that is no origin, or if
        *source* is headers only, which do not tell the scheme, and *allowed*
        is not given.
    """
    sites = _sites(allowed)
    headers = headers_of(source)
    origins = values(headers, "origin")
    if not origins:
        return allow_missing
    if len(origins) > 1:
        return _refused("two origins")
    if origins[0] == "null":
        return allow_null
    origin = _parsed(origins[0])
    if origin is None:
        return _refused("no origin")
    if sites is None:
        own = _own(source, headers, "x-forwarded-host" if trust_forwarded_host else "host")
        return origin == own or _refused("another origin")
    return any(_within(origin, site) for site in sites) or _refused("not an allowed origin")


def _refused(why: str) -> bool:
    """What a client sends is not logged; a page that is refused can ask for ever."""
    _logger.debug("origin refused: %s", why, extra={"event": "origin", "reason": why})
    return False


def _sites(allowed: Iterable[str] | None) -> tuple[_Site, ...] | None:
    if allowed is None:
        return None
    if isinstance(allowed, (str, bytes)):
        raise TypeError('allowed is a list of origins: ["https://app.example.com"], not one string')
    return tuple(_allowed(entry) for entry in allowed)


@functools.lru_cache(maxsize=1024)
def _allowed(entry: str) -> _Site:
    if not isinstance(entry, str):
        raise TypeError(f"an allowed origin is a str, not {type(entry).__name__}")
    scheme, mark, rest = entry.partition("://*.")
    site = _parsed(f"{scheme}://{rest}" if mark else entry)
    if site is None or (mark and (site.host.startswith("[") or "." not in site.host)):
        raise ValueError(
            f"{entry!r:.80} is no origin: write scheme, host and, unless it is the scheme's "
            'own, port, as a browser does ("https://app.example.com", '
            '"https://*.example.com", punycode for other letters; no path, no "*" alone)'
        )
    return site._replace(below=bool(mark))


def _parsed(text: str) -> _Site | None:
    match = _ORIGIN.fullmatch(text.lower()) if len(text) <= _MAX and text.isascii() else None
    return None if match is None else _site(match[1], match[2], match[3])


def _site(scheme: str, host: str, digits: str | None) -> _Site | None:
    port = _PORTS.get(scheme) if digits is None else int(digits)
    if port is not None and not 0 < port < 65536:
        return None
    return _Site(scheme, host, port)


def _own(source: Any, headers: Headers, name: str) -> _Site | None:
    """The origin a page of this very server has."""
    scheme = scheme_of(source)
    if scheme is None:
        raise ValueError(
            "headers alone do not say whether the page is http or https: give allowed=, "
            "or the WebSocket, scope or request in place of its headers"
        )
    hosts = values(headers, name)
    text = hosts[0].lower() if len(hosts) == 1 and len(hosts[0]) <= _MAX else ""
    match = _AUTHORITY.fullmatch(text)
    return None if match is None else _site(scheme, match[1], match[2])


def _within(origin: _Site, site: _Site) -> bool:
    if not site.below:
        return origin == site
    return (
        origin.scheme == site.scheme
        and origin.port == site.port
        and origin.host.endswith("." + site.host)
        and not origin.host.startswith(".")
    )
