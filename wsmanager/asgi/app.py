"""The ASGI application itself: five routes of data and a page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Final, NamedTuple

from .. import metrics
from .._status import settings, snapshot
from .._version import __version__
from ..readiness import check_ready, is_draining
from .access import Access, Verdict

__all__ = ["OperationsApp"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON: Final = b"application/json"
HTML: Final = b"text/html; charset=utf-8"

_ALWAYS: Final[Headers] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CHALLENGE: Final[Headers] = (
    (b"www-authenticate", b'Bearer realm="wsmanager"'),
    (b"www-authenticate", b'Basic realm="wsmanager", charset="UTF-8"'),
)


class Response(NamedTuple):
    """What a route answers."""

    status: int
    kind: bytes
    body: bytes
    headers: Headers = ()


class OperationsApp:
    """An ASGI application for operators, to be mounted where it is wanted.

    ===============  ==============================================================
    ``/health``      200 while the process answers at all
    ``/ready``       200, or 503 with the reasons: draining, a stuck event loop, a
                     writer that waits too long, a check of ``readiness.add_check``
    ``/config``      the settings, without anything that may be secret
    ``/stats``       all counters, latency, loops, the slowest, the last errors
    ``/metrics``     for Prometheus; of all processes in its multiprocess mode
    ``/top``         a page that shows ``/stats`` live, without any other resource
    ===============  ==============================================================

    Only ``GET`` and ``HEAD``. In none of it is the id of a user or a thread;
    connections have a hash for a name.

    :param token: a client must show it: ``Authorization: Bearer <token>``, or as
        the password of ``Basic`` in a browser; else the answer is 401. ``None``:
        only requests from this host, that came through no proxy and name this
        host, are answered, all else is 403. What headers say of where a request
        came from (``X-Forwarded-For``) is never believed. A proxy on this very
        host that adds no such header cannot be told from a local client: behind
        one, give a token.
    :param open_probes: answer ``/health`` and ``/ready`` to everybody, by the
        status and one word, without the reasons: for a platform's probes.
    :raises ValueError: for an empty token.
    :raises TypeError: for a token that is no ``str``.
    """

    __slots__ = ("_access", "_open", "_routes")

    def __init__(self, token: str | None = None, *, open_probes: bool = False) -> None:
        self._access = Access(token)
        self._open = ("/health", "/ready") if open_probes else ()
        self._routes: Mapping[str, Callable[[], Response]] = {
            "": self._index,
            "/": self._index,
            "/health": _health,
            "/ready": _ready,
            "/config": _config,
            "/stats": _stats,
            "/metrics": _metrics,
            "/top": _top,
        }
        _publish_where_wanted()

    def __repr__(self) -> str:
        return "<OperationsApp>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        elif scope["type"] == "http":
            response = self._answer(scope)
            headers = [
                (b"content-type", response.kind),
                (b"content-length", str(len(response.body)).encode()),
                *_ALWAYS,
                *response.headers,
            ]
            await send(
                {"type": "http.response.start", "status": response.status, "headers": headers}
            )
            body = b"" if scope["method"] == "HEAD" else response.body
            await send({"type": "http.response.body", "body": body})
        else:
            raise ValueError(f"OperationsApp serves HTTP, not {scope['type']!r:.40}")

    def _answer(self, scope: Scope) -> Response:
        path = _route_path(scope)
        verdict = self._access.judge(scope)
        if verdict is not Verdict.ALLOWED:
            # The same for every path and method: nobody learns what there is.
            if path in self._open and scope["method"] in ("GET", "HEAD"):
                return _probe(path)
            return _refusal(verdict)
        route = self._routes.get(path)
        if route is None:
            return _json(404, {"error": "no such route"})
        if scope["method"] not in ("GET", "HEAD"):
            return _json(405, {"error": "only GET and HEAD"}, ((b"allow", b"GET, HEAD"),))
        return route()

    def _index(self) -> Response:
        return _json(200, {"routes": sorted(path for path in self._routes if len(path) > 1)})


def _route_path(scope: Scope) -> str:
    """The path below the mount: servers and routers differ on whether it is still in front."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def _json(status: int, body: object, headers: Headers = ()) -> Response:
    text = json.dumps(body, allow_nan=False, separators=(",", ":"))
    return Response(status, JSON, text.encode(), headers)


def _refusal(verdict: Verdict) -> Response:
    if verdict is Verdict.UNKNOWN:
        return _json(401, {"error": "the token is missing or wrong"}, _CHALLENGE)
    return _json(403, {"error": "only from this host"})


def _probe(path: str) -> Response:
    """What everybody may know."""
    if path == "/health":
        return _json(200, {"status": "ok"})
    ready = check_ready().ready
    return _json(200 if ready else 503, {"ready": ready})


def _health() -> Response:
    return _json(200, {"status": "ok", "version": __version__})


def _ready() -> Response:
    readiness = check_ready()
    return _json(
        200 if readiness else 503,
        {
            "ready": readiness.ready,
            "reasons": list(readiness.reasons),
            "draining": is_draining(),
        },
    )


def _config() -> Response:
    return _json(200, {"version": __version__, "settings": settings()})


def _stats() -> Response:
    return _json(200, snapshot())


def _metrics() -> Response:
    prometheus = _prometheus()
    if prometheus is not None and prometheus.is_multiprocess():
        prometheus.publisher(1.0).publish()
        kind, body = prometheus.aggregated()
        return Response(200, kind.encode(), body)
    return Response(200, metrics.CONTENT_TYPE.encode(), metrics.exposition().encode())


def _prometheus() -> Any:
    """The part that needs ``prometheus_client``, or ``None`` without it."""
    try:
        from .. import _prometheus as found
    except ImportError:
        return None
    return found


def _publish_where_wanted() -> None:
    """In multiprocess mode a worker that is never scraped has to publish all the same."""
    prometheus = _prometheus()
    if prometheus is not None and prometheus.is_multiprocess():
        prometheus.publisher(1.0)


class _Page:
    """The page, read once, and the policy that lets it run its own script and nothing else."""

    made: tuple[bytes, Headers] | None = None


def _top() -> Response:
    if _Page.made is None:
        text = resources.files("wsmanager.asgi").joinpath("top.html").read_text("utf-8")
        policy = (
            f"default-src 'none'; script-src {_hashes(text, 'script')}; "
            f"style-src {_hashes(text, 'style')}; connect-src 'self'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )
        _Page.made = (text.encode(), ((b"content-security-policy", policy.encode()),))
    body, headers = _Page.made
    return Response(200, HTML, body, headers)


def _hashes(text: str, tag: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


async def _live(receive: Receive, send: Send) -> None:
    """The lifespan protocol, for when it is served by itself."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
