"""The WebSocket close codes as one table: what each means, and whether a client comes back after it.

The server's code, the browser client (``wsmanager/client/wsmanager.js``) and
``docs/close-codes.rst`` hold the same rows; a test compares them. Rows up to
1015 are those of RFC 6455, section 7.4.1, and of its IANA registry, which also
has the three from 3000 on. The private range of this package is 4400 to 4599:
4000 and the HTTP status that says the same.

A server says when to come back in the reason of its close frame, as
``"service restart; retry-after=2.5"`` (seconds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = [
    "CLOSE_CODES",
    "MAX_REASON_BYTES",
    "CloseCode",
    "close_code",
    "close_reason",
    "may_send",
    "retry_after",
]

MAX_REASON_BYTES: Final = 123
"""RFC 6455, 5.5: a control frame holds 125 bytes, of which the code takes two."""


@dataclass(frozen=True)
class CloseCode:
    """One row of the table.

    :param code: the number in the close frame.
    :param name: what it means, in a few words.
    :param reconnect: whether a client should connect again.
    :param retry_after: seconds it should wait first where the reason does not
        say; ``None``: its own backoff is enough.
    """

    code: int
    name: str
    reconnect: bool
    retry_after: float | None = None


_ROWS: Final = (
    CloseCode(1000, "normal closure", False),
    CloseCode(1001, "going away", True),
    CloseCode(1002, "protocol error", False),
    CloseCode(1003, "unsupported data", False),
    CloseCode(1005, "no status received", True),
    CloseCode(1006, "abnormal closure", True),
    CloseCode(1007, "invalid payload", False),
    CloseCode(1008, "policy violation", False),
    CloseCode(1009, "message too big", False),
    CloseCode(1010, "mandatory extension", False),
    CloseCode(1011, "internal error", True),
    CloseCode(1012, "service restart", True),
    CloseCode(1013, "try again later", True, 1),
    CloseCode(1014, "bad gateway", True),
    CloseCode(1015, "TLS handshake", True),
    CloseCode(3000, "unauthorized", False),
    CloseCode(3003, "forbidden", False),
    CloseCode(3008, "timeout", True),
    CloseCode(4400, "bad request", False),
    CloseCode(4401, "unauthorized", False),
    CloseCode(4403, "forbidden", False),
    CloseCode(4404, "not found", False),
    CloseCode(4408, "request timeout", True),
    CloseCode(4409, "conflict", False),
    CloseCode(4410, "gone", False),
    CloseCode(4413, "content too large", False),
    CloseCode(4426, "upgrade required", False),
    CloseCode(4429, "too many requests", True, 30),
    CloseCode(4500, "internal error", True),
    CloseCode(4503, "service unavailable", True, 5),
    CloseCode(4504, "gateway timeout", True),
)

CLOSE_CODES: Final[Mapping[int, CloseCode]] = MappingProxyType({row.code: row for row in _ROWS})
"""Every known code and its row."""

_NEVER_SENT: Final = frozenset({1004, 1005, 1006, 1015})
_RETRY_AFTER: Final = re.compile(r"\bretry-after=(\d{1,6}(?:\.\d{1,6})?)")


def close_code(code: int) -> CloseCode:
    """The row of *code*; an unknown one gets a row of its own.

    What is unknown means to come back, except from 4400 to 4499: like the
    4xx of HTTP those say that the same request would fail again.
    """
    row = CLOSE_CODES.get(code)
    return CloseCode(code, "unknown", not 4400 <= code <= 4499) if row is None else row


def may_send(code: int) -> bool:
    """Whether *code* may stand in a close frame (RFC 6455, 7.4)."""
    return 1000 <= code <= 4999 and code not in _NEVER_SENT and not 1016 <= code <= 2999


def close_reason(text: str, seconds: float | None = None) -> str:
    """The reason of a close frame: *text* and, if given, after how many *seconds* to come back.

    At most :data:`MAX_REASON_BYTES` bytes of UTF-8; it is *text* that is cut.

    :raises ValueError: if *seconds* is negative, not finite, or over 999999.
    """
    if seconds is None:
        return _cut(text, MAX_REASON_BYTES)
    if not 0 <= seconds <= 999_999:
        raise ValueError(f"retry_after is 0 to 999999 seconds, not {seconds}")
    number = f"{seconds:.3f}".rstrip("0").rstrip(".")
    tail = f"retry-after={number}"
    if not text:
        return tail
    return f"{_cut(text, MAX_REASON_BYTES - len(tail) - 2)}; {tail}"


def retry_after(reason: str) -> float | None:
    """The seconds after which a close *reason* says to come back, if it does."""
    found = _RETRY_AFTER.search(reason)
    return None if found is None else float(found[1])


def _cut(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
