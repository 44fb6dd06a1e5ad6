"""What the package says to ``logging``: loggers below ``"wsmanager"``, one line a record.

A record never holds a payload, and users and connections are in it by a short
hash only, which is another in every process, so that nobody can look ids up in
it (``wsmanager.logs.use_key`` makes it the same in all). Texts that come from outside are escaped, so none can forge a line.
The text of an error can hold anything, so it is shown at DEBUG only.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["error_name", "hashed", "one_line", "recent", "report", "use_key", "warn_unavailable"]

logging.getLogger("wsmanager").addHandler(logging.NullHandler())

_REGISTRY: Final = logging.getLogger("wsmanager.registry")
_WRITER: Final = logging.getLogger("wsmanager.writer")
_SECURITY: Final = logging.getLogger("wsmanager.security")
_BRIDGE: Final = logging.getLogger("wsmanager.bridge")

_KINDS: Final[Mapping[str, tuple[logging.Logger, int, str]]] = {
    "evicted": (_REGISTRY, logging.INFO, "connection removed"),
    "error": (_WRITER, logging.WARNING, "send failed"),
    "slow": (_WRITER, logging.WARNING, "slow connection"),
    "availability": (_REGISTRY, logging.WARNING, "service availability"),
    "inbound": (_SECURITY, logging.WARNING, "inbound message refused"),
    "await": (_REGISTRY, logging.WARNING, "a manager was awaited"),
    "unfinished": (_BRIDGE, logging.WARNING, "unfinished run"),
    "text": (_BRIDGE, logging.ERROR, "merged text not sent"),
    "callback": (_BRIDGE, logging.ERROR, "callback failed"),
}

QUIET_SECONDS: Final = 10.0
"""After a record of a kind and reason, its like is counted, not logged, for so long."""

_MAX_KEPT: Final = 256
_MAX_RECENT: Final = 50
_last: dict[tuple[str, str], tuple[float, int]] = {}  # when it was last logged, how many since


_recent: dict[tuple[str, str, str], dict[str, Any]] = {}
_recent_lock = threading.Lock()


def report(kind: str, reason: str, fields: Mapping[str, Any] | None) -> None:
    """Log what the core saw: *kind* is a row of the table above, *reason* a constant."""
    logger, level, title = _KINDS.get(kind, (_WRITER, logging.WARNING, kind))
    if level >= logging.WARNING:
        _remember(title, reason, fields)
    if not logger.isEnabledFor(level):
        return
    repeated = _repeated(kind, reason)
    if repeated is None:
        return
    extra: dict[str, Any] = {"event": kind, "reason": reason}
    words = [f"{title}: {one_line(reason)}"]
    for name, value in (fields or {}).items():
        label, shown = _shown(name, value)
        extra[label] = shown
        words.append(f"{label}={shown}")
    if repeated:
        extra["repeated"] = repeated
        words.append(f"({repeated} more like it since the last record)")
    logger.log(level, "%s", " ".join(words), extra=extra)
    error = (fields or {}).get("error")
    if isinstance(error, BaseException) and logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s: %s", title, one_line(str(error)), extra=extra)


def warn_unavailable(why: str, error: BaseException | None = None) -> None:
    """The one warning of an availability check that did not succeed."""
    _remember("availability check", why, None)
    _REGISTRY.warning(
        "availability check %s; managers made now have service_available=False",
        why,
        extra={"event": "availability", "reason": why},
    )
    if error is not None and _REGISTRY.isEnabledFor(logging.DEBUG):
        _REGISTRY.debug(
            "availability check: %s", one_line(str(error)), extra={"event": "availability"}
        )


def recent() -> list[dict[str, Any]]:
    """The last warnings, newest first, whether or not they were logged; like ones are one.

    Each has ``what`` and ``reason``, one line without ids, ``count``, and the
    times of the ``first`` and the ``last`` (seconds since the epoch).
    """
    with _recent_lock:
        rows = [dict(row) for row in _recent.values()]
    return rows[::-1]


def _remember(title: str, reason: str, fields: Mapping[str, Any] | None) -> None:
    error = (fields or {}).get("error")
    named = error_name(error) if isinstance(error, BaseException) else one_line(reason)
    now = time.time()
    key = (title, reason, named)
    with _recent_lock:
        row = _recent.pop(key, None) or {
            "what": one_line(title), "reason": named, "count": 0, "first": now, "last": now,
        }  # fmt: skip
        row["count"] += 1
        row["last"] = now
        _recent[key] = row  # the newest is the last
        while len(_recent) > _MAX_RECENT:
            del _recent[next(iter(_recent))]


class _Key:
    """What ids are hashed with."""

    value = secrets.token_bytes(32)
    chosen = False  # by use_key()


def _renew_key() -> None:
    """Take another key in the child of a fork, as every process has its own."""
    if not _Key.chosen:
        _Key.value = secrets.token_bytes(32)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_key)


def use_key(key: str | bytes) -> None:
    """See :func:`wsmanager.logs.use_key`."""
    raw = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key)
    if len(raw) < 16:
        raise ValueError("a key for hashing ids needs at least 16 bytes: it is all that hides them")
    _Key.value = hashlib.blake2s(raw, person=b"wsmnkey").digest()
    _Key.chosen = True


def hashed(text: str) -> str:
    """A short name for an id: the same for the same id for as long as the key is."""
    return hashlib.blake2s(
        text.encode("utf-8", "surrogatepass"), digest_size=6, key=_Key.value, person=b"wsmngr"
    ).hexdigest()


def one_line(text: str, limit: int = 200) -> str:
    """*text* on one line, with what is not plainly visible escaped, and not too long."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def error_name(error: BaseException) -> str:
    """The type of an error, with its module where it is not a builtin."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return one_line(name)


_HASHED: Final = {
    "user_id": "user_hash",
    "connection_id": "conn",
    "thread_id": "thread_hash",
    "run_id": "run_hash",
}
_RESERVED: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def _shown(name: str, value: Any) -> tuple[str, Any]:
    """The label and the value a field is logged with."""
    if name in _HASHED:
        return _HASHED[name], None if value is None else hashed(str(value))
    label = f"{name}_" if name in _RESERVED else name
    if isinstance(value, BaseException):
        return label, error_name(value)
    if value is None or isinstance(value, (bool, int, float)):
        return label, value
    return label, one_line(str(value))


def _repeated(kind: str, reason: str) -> int | None:
    """How many like it were not logged since the last; ``None``: do not log this one."""
    now = time.monotonic()
    key = (kind, reason)
    if key not in _last and len(_last) >= _MAX_KEPT:
        _last.clear()
    when, missed = _last.get(key, (float("-inf"), 0))
    if now - when < QUIET_SECONDS:
        _last[key] = (when, missed + 1)
        return None
    _last[key] = (now, 0)
    return missed
