"""What keeps secrets out of logs that are not ours, and ids apart in ours.

A token in a URL ends in every access log on its way. Better not to put one
there; where it must be, filter it::

    wsmanager.logs.redact_access_logs()     # uvicorn, gunicorn, aiohttp, websockets

or, in a ``logging`` configuration::

    "filters": {"redact": {"()": "wsmanager.logs.RedactingFilter"}}

The records of wsmanager itself hold no payload, no token, and users and
connections by a keyed hash only. Loggers: ``wsmanager.registry``,
``wsmanager.writer``, ``wsmanager.security``, ``wsmanager.bridge``,
``wsmanager.drain``, ``wsmanager.http`` and ``wsmanager.monitor``; keys of
``extra`` of the first three: ``event``, ``reason``, ``conn``, ``user_hash``,
``thread_hash``, ``session_hash``, ``repeated``.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ._log import hashed, use_key

__all__ = [
    "ACCESS_LOGGERS",
    "RedactingFilter",
    "hash_id",
    "redact",
    "redact_access_logs",
    "use_key",
]

ACCESS_LOGGERS: Final = (
    "uvicorn.access",
    "uvicorn.error",  # says who connected a WebSocket, and where
    "uvicorn.asgi",
    "gunicorn.access",
    "hypercorn.access",
    "aiohttp.access",
    "aiohttp.server",
    "websockets.server",
    "websockets.client",
)

MARK: Final = "[redacted]"

NAMES: Final = (
    "token", "authorization", "ticket", "api_key", "secret", "password", "passwd", "pwd", "jwt",
    "bearer", "session_id", "signature", "credential",
)  # fmt: skip
"""Names whose value is not shown, in a URL or a text; in any case, ``-`` as ``_``, and as the
end of a longer name."""

QUERY_NAMES: Final = ("auth", "key", "session", "sid", "sig", "code", "state", "otp", "pin")
"""Names whose value is not shown in a URL only: elsewhere they are plain words."""


def _words(names: Iterable[str]) -> str:
    return "|".join(
        re.escape(name).replace("_", "[-_]?") for name in sorted(set(names), key=len, reverse=True)
    )


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    # A percent sign may stand for any letter of a name in a URL; who encodes "token" hides it
    # from us, so a parameter with an encoded name is not shown either.
    # Every repetition is bounded, so that no line takes long, whoever wrote it.
    encoded = r"[\w.-]{0,40}%[0-9a-f]{2}[\w.%-]{0,80}"
    return re.compile(
        rf"(?P<name>(?:(?<!\w)|(?<=%[0-9a-f]{{2}}))(?:[\w.-]{{0,40}}[-_.])?(?:{_words(names)})s?|"
        rf"(?<=[?&;])(?:{_words(QUERY_NAMES)}|{encoded}))"
        r"(?P<sign>=[\"']?|%3d|[\"']?\s*:\s*[\"']?)(?!\[redacted)"
        r"(?P<value>(?:bearer|basic|digest|token)\s+[^\s\"'&;,]+|[^\s\"'&;,)>\]}]+)",
        re.I,
    )


_SCHEMES: Final = re.compile(r"\b(?P<name>bearer|basic)(?P<gap>[\s,]+|%20|\+)[^\s\"'&;,]{8,}", re.I)
_HEADERS: Final = re.compile(
    r"(?P<name>\b(?:authorization|proxy-authorization|cookie|set-cookie|x-api-key|x-auth-token|"
    r"sec-websocket-protocol)\b)(?P<sign>[\"']?\s*[:=]\s*)(?P<value>[^\r\n]+)",
    re.I,
)
_JWT: Final = re.compile(r"\beyJ[\w-]{5,2000}\.[\w-]{2,4000}\.[\w-]*")
_USERINFO: Final = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,30}://)[^\s/@\"']{0,500}@", re.I)
_DEFAULT: Final = _pattern(NAMES)


def redact(text: str, pattern: re.Pattern[str] = _DEFAULT) -> str:
    """*text* without the values of what is named like a secret, tokens, and passwords of URLs."""
    text = _HEADERS.sub(rf"\g<name>\g<sign>{MARK}", text)
    text = _USERINFO.sub(rf"\g<scheme>{MARK}@", text)
    text = _JWT.sub(MARK, text)
    text = _SCHEMES.sub(rf"\g<name>\g<gap>{MARK}", text)
    return pattern.sub(rf"\g<name>\g<sign>{MARK}", text)


class RedactingFilter(logging.Filter):
    """Takes secrets out of each record that passes; lets every record pass.

    The message, its arguments, the text of an exception and all that was given
    as ``extra`` are looked at. Arguments keep their number and, but for those
    that had a secret in them, their type, so formatters that count on them
    (uvicorn's) go on working.

    :param names: further names of parameters to hide, beside :data:`NAMES`.
    """

    def __init__(self, name: str = "", *, names: Iterable[str] = ()) -> None:
        super().__init__(name)
        more = tuple(names)
        self._pattern = _pattern((*NAMES, *more)) if more else _DEFAULT

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            record.args = {name: self._clean_field(name, v) for name, v in record.args.items()}
        elif isinstance(record.args, tuple):
            record.args = tuple(self._clean_object(value) for value in record.args)
        self._clean_message(record)
        if record.exc_info and not record.exc_text:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if record.exc_text:
            record.exc_text = self._clean(record.exc_text)
        if record.stack_info:
            record.stack_info = self._clean(record.stack_info)
        for name, value in list(record.__dict__.items()):
            if name not in _OF_LOGGING:
                record.__dict__[name] = self._clean_field(name, value)
        return True

    def _clean_message(self, record: logging.LogRecord) -> None:
        """A name in the message and its value in an argument are seen only together."""
        if not record.args:
            record.msg = self._clean_object(record.msg)
            return
        if record.name == "uvicorn.access":
            return  # its formatter unpacks the arguments, and its message is a constant
        try:
            whole = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return  # the arguments do not fit: logging itself will say so
        cleaned = self._clean(whole)
        if cleaned != whole:
            record.msg, record.args = cleaned, None

    def _clean(self, value: Any) -> Any:
        if isinstance(value, bytes):
            text = value.decode("utf-8", "backslashreplace")
            cleaned = redact(text, self._pattern)
            return value if cleaned == text else cleaned.encode()
        return redact(value, self._pattern)

    def _clean_object(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (str, bytes)):
            return self._clean(value)
        text = str(value)
        cleaned = redact(text, self._pattern)
        return value if cleaned == text else cleaned

    def _clean_field(self, name: object, value: Any) -> Any:
        if isinstance(value, (str, bytes)) and self._pattern.match(f"{name}=x"):
            return MARK
        return self._clean_object(value)


_OF_LOGGING: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def redact_access_logs(
    *loggers: str | logging.Logger, names: Iterable[str] = ()
) -> RedactingFilter:
    """Put one :class:`RedactingFilter` on the servers' loggers, or on those given.

    One that a logger has already is replaced. Call it once at startup, in
    each worker. Gives the filter.
    """
    made = RedactingFilter(names=names)
    for given in loggers or ACCESS_LOGGERS:
        logger = given if isinstance(given, logging.Logger) else logging.getLogger(given)
        for old in [f for f in logger.filters if isinstance(f, RedactingFilter)]:
            logger.removeFilter(old)
        logger.addFilter(made)
    return made


def hash_id(identity: str) -> str:
    """The short name that logs and ``/top`` show in place of this id, to look one up by hand."""
    return hashed(identity)
