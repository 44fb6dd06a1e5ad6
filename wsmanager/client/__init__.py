"""The browser client, as an ASGI application that serves its module::

    app.mount("/wsmanager", client_app)      # FastAPI, Starlette
    import { connect } from "/wsmanager/wsmanager.js";   // the page

``wsmanager.js`` is one ES module without dependencies; ``wsmanager.d.ts`` and
``package.json`` beside it make the folder a package of npm's shape. Bundlers
take it from there: :data:`FOLDER`.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["FOLDER", "client_app"]

FOLDER: Final = Path(__file__).parent
"""Where the module, its types and its ``package.json`` are."""

MAX_AGE: Final = 3600
"""Seconds a browser uses its copy before it asks again; the ETag makes that cheap."""

_TYPES: Final = {
    "wsmanager.js": b"text/javascript; charset=utf-8",
    "wsmanager.d.ts": b"text/plain; charset=utf-8",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class _File(NamedTuple):
    plain: bytes
    packed: bytes
    etag: str


async def client_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve ``wsmanager.js`` and ``wsmanager.d.ts``, wherever it is mounted.

    Holds no state and needs no lifespan. The files are public: they may be
    loaded by pages of any origin, and cached by anyone.
    """
    if scope["type"] == "lifespan":
        raise RuntimeError("client_app has no lifespan")  # as the ASGI specification has it
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    status, headers, body = _answer(scope)
    if status != 304:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    content = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": content})


def _answer(scope: Scope) -> tuple[int, Headers, bytes]:
    name = str(scope["path"]).rpartition("/")[2]
    if name not in _TYPES:
        return 404, [(b"content-type", b"text/plain")], b"not found: wsmanager.js is here\n"
    if scope["method"] not in ("GET", "HEAD"):
        return 405, [(b"allow", b"GET, HEAD"), (b"content-type", b"text/plain")], b""
    file = _file(name)
    packed = _accepts_gzip(_values(scope, b"accept-encoding"))
    etag = f'"{file.etag}{"-gzip" if packed else ""}"'
    headers = [
        (b"etag", etag.encode()),
        (b"cache-control", b"public, max-age=%d" % MAX_AGE),
        (b"vary", b"accept-encoding"),
        (b"access-control-allow-origin", b"*"),  # a module of another origin is loaded by CORS
        (b"x-content-type-options", b"nosniff"),
    ]
    if _matches(_values(scope, b"if-none-match"), file.etag):
        return 304, headers, b""
    headers.append((b"content-type", _TYPES[name]))
    if not packed:
        return 200, headers, file.plain
    headers.append((b"content-encoding", b"gzip"))
    return 200, headers, file.packed


@cache
def _file(name: str) -> _File:
    plain = (FOLDER / name).read_bytes()
    return _File(plain, gzip.compress(plain, 9, mtime=0), hashlib.sha256(plain).hexdigest()[:32])


def _values(scope: Scope, name: bytes) -> list[str]:
    """The elements of a header that is a list (RFC 9110, 5.6.1)."""
    pairs: Iterable[tuple[bytes, bytes]] = scope["headers"]
    found = b",".join(value for key, value in pairs if key.lower() == name)
    return [part.strip() for part in found.decode("latin-1").split(",") if part.strip()]


def _accepts_gzip(codings: list[str]) -> bool:
    for coding in codings:
        name, _, weight = coding.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _matches(tags: list[str], etag: str) -> bool:
    """RFC 9110, 13.1.2: compared weakly; of either encoding, since both are the same text."""
    mine = {f'"{etag}"', f'"{etag}-gzip"'}
    return any(tag == "*" or tag.removeprefix("W/") in mine for tag in tags)
