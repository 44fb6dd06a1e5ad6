"""Messages for ``send_to_user`` and its like, from builders that cannot be called wrongly.

Both return a ``dict`` whose items are attributes as well: it can be sent,
dumped and compared as what it is, and read as ``message.type``.
"""

from __future__ import annotations

import enum
import os
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Final, NoReturn, overload

__all__ = ["ErrorMessage", "ServerMessage", "create_error_message", "create_server_message"]

_SERVER_CALL: Final = (
    'create_server_message("job_done", {"job": 7}), with a correlation id as a third argument, '
    'or create_server_message({"type": "job_done", "data": {"job": 7}})'
)
_ERROR_CALL: Final = (
    'create_error_message("QUOTA_EXCEEDED", "The daily quota is used up"), with details={...} '
    'and suggestions=["..."] where they help'
)


class _Missing(enum.Enum):
    """Tells an argument that was not given from one that is ``None``."""

    MISSING = "missing"


_MISSING: Final = _Missing.MISSING


class ServerMessage(dict[str, Any]):
    """A message of the server: ``type``, ``data``, ``timestamp``, ``server_id``, ``correlation_id``."""

    @property
    def type(self) -> str:
        """What kind of message it is."""
        return str(self["type"])

    @property
    def data(self) -> Any:
        """Its content."""
        return self["data"]

    @property
    def timestamp(self) -> str:
        """When it was made: ISO 8601, UTC, with microseconds and offset."""
        return str(self["timestamp"])

    @property
    def server_id(self) -> str:
        """Which server process made it: random, the same for the life of the process."""
        return str(self["server_id"])

    @property
    def correlation_id(self) -> str | None:
        """The id of the request it answers, if it answers one."""
        given = self["correlation_id"]
        return None if given is None else str(given)


class ErrorMessage(dict[str, Any]):
    """An error for the user; its ``type`` is ``"error_message"``."""

    @property
    def type(self) -> str:
        """Always ``"error_message"``."""
        return str(self["type"])

    @property
    def error_code(self) -> str:
        """For programs: a short constant, such as ``"QUOTA_EXCEEDED"``."""
        return str(self["error_code"])

    @property
    def error_message(self) -> str:
        """For people: a sentence."""
        return str(self["error_message"])

    @property
    def details(self) -> dict[str, Any]:
        """More for programs; empty if none was given."""
        details: dict[str, Any] = self["details"]
        return details

    @property
    def timestamp(self) -> str:
        """When it was made: ISO 8601, UTC, with microseconds and offset."""
        return str(self["timestamp"])

    @property
    def recovery_suggestions(self) -> list[str]:
        """What the user can do, best first; empty if none was given."""
        suggestions: list[str] = self["recovery_suggestions"]
        return suggestions


@overload
def create_server_message(type: Mapping[str, Any]) -> ServerMessage: ...
@overload
def create_server_message(
    type: str | enum.Enum, data: Any, correlation_id: str | None = None
) -> ServerMessage: ...
def create_server_message(
    type: Any = _MISSING,
    data: Any = _MISSING,
    correlation_id: str | None = None,
) -> ServerMessage:
    """A message of *type* with *data*, or the same from one mapping.

    :param type: the message's type: text, or an ``Enum`` of text; or the whole
        message: a mapping with ``"type"`` and, if they are there, ``"data"``
        (or ``"payload"``) and ``"correlation_id"``. Without either of those two, its other
        items are the data.
    :param data: anything JSON can hold; ``None`` or ``{}`` if there is none.
    :param correlation_id: the id of the request this answers.
    :raises TypeError: if anything is missing or of the wrong kind; it shows
        the right call.
    """
    if isinstance(type, Mapping):
        if data is not _MISSING:
            _wrong(
                "create_server_message() takes one mapping, or a type and its data, not both",
                _SERVER_CALL,
            )
        type, data, given = _of_mapping(type)
        correlation_id = given if correlation_id is None else correlation_id
    elif type is _MISSING:
        _wrong("create_server_message() is missing the message's type and data", _SERVER_CALL)
    elif data is _MISSING:
        _wrong("create_server_message() is missing the message's data", _SERVER_CALL)
    return ServerMessage(
        type=_text(type, "the type of a message", _SERVER_CALL),
        data=data,
        timestamp=_now(),
        server_id=_Process.id,
        correlation_id=None if correlation_id is None else str(correlation_id),
    )


@overload
def create_error_message(
    code: str | enum.Enum,
    text: str,
    details: Mapping[str, Any] | None = None,
    suggestions: Iterable[str] | None = None,
) -> ErrorMessage: ...
@overload
def create_error_message(
    *,
    error_code: str | enum.Enum,
    error_message: str,
    details: Mapping[str, Any] | None = None,
    suggestions: Iterable[str] | None = None,
) -> ErrorMessage: ...
def create_error_message(
    code: Any = _MISSING,
    text: Any = _MISSING,
    details: Mapping[str, Any] | None = None,
    suggestions: Iterable[str] | None = None,
    *,
    error_code: Any = _MISSING,
    error_message: Any = _MISSING,
) -> ErrorMessage:
    """An error message for the user.

    :param code: for programs, such as ``"QUOTA_EXCEEDED"``; also as
        ``error_code=``, its name in the message.
    :param text: for people; also as ``error_message=``.
    :param details: more for programs.
    :param suggestions: what the user can do, best first.
    :raises TypeError: if anything is missing or of the wrong kind; it shows
        the right call.
    """
    code = _one(code, error_code, "code")
    text = _one(text, error_message, "text")
    if details is not None and not isinstance(details, Mapping):
        _wrong(f"details are a mapping, not {_kind(details)}", _ERROR_CALL)
    if isinstance(suggestions, str):
        _wrong("suggestions are a list of texts, not one text", _ERROR_CALL)
    return ErrorMessage(
        type="error_message",
        error_code=_text(code, "the code of an error", _ERROR_CALL),
        error_message=_text(text, "the text of an error", _ERROR_CALL),
        details={} if details is None else dict(details),
        timestamp=_now(),
        recovery_suggestions=[] if suggestions is None else [str(each) for each in suggestions],
    )


def _of_mapping(message: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    if "type" not in message:
        _wrong('create_server_message() got a mapping without "type"', _SERVER_CALL)
    rest = {key: value for key, value in message.items() if key not in ("type", "correlation_id")}
    for key in ("data", "payload"):
        if key in rest:
            rest = rest[key]
            break
    return message["type"], rest, message.get("correlation_id")


def _one(given: Any, alias: Any, name: str) -> Any:
    if given is _MISSING and alias is _MISSING:
        _wrong(f"create_error_message() is missing the error's {name}", _ERROR_CALL)
    if given is not _MISSING and alias is not _MISSING:
        _wrong(f"create_error_message() got the error's {name} twice", _ERROR_CALL)
    return alias if given is _MISSING else given


def _text(value: Any, what: str, call: str) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if not isinstance(value, str):
        _wrong(f"{what} is a text, not {_kind(value)}", call)
    if not value.strip():
        _wrong(f"{what} is empty", call)
    return str.__str__(value)


def _kind(value: object) -> str:
    return value.__class__.__qualname__


def _wrong(what: str, call: str) -> NoReturn:
    raise TypeError(f"{what}; call {call}")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


class _Process:
    """This process, as messages name it: at random, since the host's name is nobody's business."""

    id = secrets.token_hex(6)

    @classmethod
    def renew(cls) -> None:
        cls.id = secrets.token_hex(6)


if hasattr(os, "register_at_fork"):  # a forked worker is another server
    os.register_at_fork(after_in_child=_Process.renew)
