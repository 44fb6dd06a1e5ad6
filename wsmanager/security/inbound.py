"""How much one user may send: limits on size and rate that hold for WebSockets.

Rate limiters of HTTP frameworks count requests; a WebSocket is one request,
however much comes through it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal, TypeVar

from .. import adapters
from .._log import report
from ._messages import kind_of, payload_of
from .errors import InboundLimitExceeded

__all__ = ["InboundLimiter"]

_W = TypeVar("_W")
_Message = MutableMapping[str, Any]

TOO_BIG: Final = 1009
POLICY: Final = 1008


class _Bucket:
    """The tokens a user has, as of a time."""

    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class InboundLimiter:
    """A token bucket for each user's messages, and a limit on the size of each.

    ::

        limiter = InboundLimiter(max_bytes=64 * 1024, rate=20, burst=40)

        websocket = limiter.guard(websocket, user_id)     # after the accept
        async for text in websocket.iter_text(): ...      # as before

    All connections of a user share one bucket, whatever library, loop or
    thread they are of; a reconnect does not refill it. A message is counted
    after the server has read it, so leave the server's own limit on
    (``--ws-max-size``, ``max_size``, ``max_msg_size``): it bounds what one
    message may take of memory before anybody can look at it.

    Every method may be called from any thread, but the ``receive`` of a
    guarded WebSocket on its own loop only.

    :param max_bytes: the most bytes of one message, as UTF-8.
    :param rate: messages a second that a user may send for ever.
    :param burst: messages a user may send at once after a pause.
    :param over: what becomes of a message beyond a limit: ``"close"``: the
        connection is closed with 1009 (size) or 1008 (rate), and the
        application sees a disconnect; ``"drop"``: it is dropped and counted,
        and the next is awaited.
    :raises ValueError: for a limit out of its range.
    """

    def __init__(
        self,
        max_bytes: int = 64 * 1024,
        rate: float = 20.0,
        burst: int = 40,
        *,
        over: Literal["close", "drop"] = "close",
    ) -> None:
        if max_bytes < 1 or burst < 1 or not (math.isfinite(rate) and rate > 0):
            raise ValueError("max_bytes and burst are at least 1, and rate is above 0")
        if over not in ("close", "drop"):
            raise ValueError(f'over is "close" or "drop", not {over!r:.40}')
        self._max_bytes = max_bytes
        self._rate = float(rate)
        self._burst = float(burst)
        self._drop = over == "drop"
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()  # the longest idle first
        self._counts = {"accepted": 0, "too_big": 0, "too_many": 0}

    def __repr__(self) -> str:
        return f"<InboundLimiter: {self._max_bytes} bytes, {self._rate:g}/s, burst {self._burst:g}>"

    def stats(self) -> dict[str, int]:
        """Messages ``accepted``, ``too_big`` and ``too_many`` so far, and ``users`` below their burst."""
        with self._lock:
            return {**self._counts, "users": len(self._buckets)}

    def check(self, user_id: str, message: str | bytes | int) -> None:
        """Count one message of a user.

        :param message: what came, or its size in bytes.
        :raises InboundLimitExceeded: if it is too large, or one too many. The
            message takes a token either way while there is one.
        """
        size = message if isinstance(message, int) else _size(message, self._max_bytes)
        with self._lock:
            many = not self._take(user_id)
            big = size > self._max_bytes
            self._counts["too_big" if big else "too_many" if many else "accepted"] += 1
        if big or many:
            reason = "message too big" if big else "too many messages"
            report("inbound", reason, {"user_id": user_id, "size": size})
            raise InboundLimitExceeded(TOO_BIG if big else POLICY, reason)

    def guard(self, websocket: _W, user_id: str) -> _W:
        """Limit what an accepted WebSocket reads from now on, by whichever of its methods.

        Its ``receive`` (Starlette, FastAPI, aiohttp, ``AsgiWebSocket``) or
        ``recv`` (``websockets``) is wrapped on this one object, and so all
        that is built on it: ``receive_json``, ``iter_text``, ``async for``.

        :param user_id: whose bucket it draws on.
        :returns: the same object.
        :raises TypeError: for an object that is read in none of these ways.
        """
        kind = kind_of(websocket)
        name = "recv" if kind == "recv" else "receive"
        read: Callable[..., Awaitable[Any]] = getattr(websocket, name)

        async def limited(*args: Any, **options: Any) -> Any:
            while True:
                message = await read(*args, **options)
                excess = self._excess(user_id, payload_of(kind, message))
                if excess is None:
                    return message
                if self._drop:
                    continue
                await adapters.close(websocket, excess.code, excess.reason)
                if kind == "asgi":
                    return _disconnect(excess)
                # The library's own read says from here on that it is closed.

        setattr(websocket, name, limited)
        return websocket

    def asgi(
        self,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
        user_id: str,
    ) -> Callable[[], Awaitable[_Message]]:
        """The same for plain ASGI: a ``receive`` to use in place of the server's.

        :param send: closes the connection; must be the server's own, or reach it.
        """

        async def limited() -> _Message:
            while True:
                message = await receive()
                excess = self._excess(user_id, payload_of("asgi", message))
                if excess is None:
                    return message
                if not self._drop:
                    close = {
                        "type": "websocket.close",
                        "code": excess.code,
                        "reason": excess.reason,
                    }
                    await send(close)
                    return _disconnect(excess)

        return limited

    def _excess(self, user_id: str, payload: str | bytes | None) -> InboundLimitExceeded | None:
        if payload is None:  # not data: a close, a disconnect
            return None
        try:
            self.check(user_id, payload)
        except InboundLimitExceeded as excess:
            return excess
        return None

    def _take(self, user_id: str) -> bool:
        """Under the lock: one token of this user, if there is one."""
        now = time.monotonic()
        bucket = self._buckets.get(user_id)
        if bucket is None:
            self._sweep(now)
            bucket = self._buckets[user_id] = _Bucket(self._burst, now)
        bucket.tokens = self._filled(bucket, now)
        bucket.at = now
        self._buckets.move_to_end(user_id)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)

    def _sweep(self, now: float) -> None:
        """Two looks for each new user: a bucket that is full again is as good as none."""
        for old in [user for user, _ in zip(self._buckets, range(2), strict=False)]:
            if self._filled(self._buckets[old], now) >= self._burst:
                del self._buckets[old]


def _size(message: str | bytes, limit: int) -> int:
    """Bytes as UTF-8; a text longer than the limit is not encoded to find out."""
    if isinstance(message, bytes):
        return len(message)
    if len(message) > limit or message.isascii():
        return len(message)
    return len(message.encode("utf-8", "surrogatepass"))


def _disconnect(excess: InboundLimitExceeded) -> _Message:
    return {"type": "websocket.disconnect", "code": excess.code, "reason": excess.reason}
