"""What arrived at a fake client."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["PROBE", "Inbox", "describe"]

PROBE: Final = "wsmanager.test.probe"
"""The type of the events by which ``assert_isolated`` tries a connection out; kept apart."""

_SHOWN: Final = 20  # events in a failure
_WIDE: Final = 240  # characters of each


class Inbox:
    """Messages in the order they came; any thread may add to it and read it.

    :param name: what a failure calls it.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.user_id: str | None = None
        """Whose connection it is; set by ``Recorder.connect``."""
        self._lock = threading.Lock()
        self._messages: list[str | bytes] = []
        self._probes: list[str] = []
        self._closed_with: tuple[int, str] | None = None

    @property
    def messages(self) -> list[str | bytes]:
        """Every message as it came."""
        with self._lock:
            return list(self._messages)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The messages that are JSON objects, parsed."""
        return [event for event in map(_parsed, self.messages) if event is not None]

    @property
    def types(self) -> list[str]:
        """The ``type`` of each event."""
        return [str(event.get("type")) for event in self.events]

    @property
    def closed_with(self) -> tuple[int, str] | None:
        """Close code and reason the server sent; ``None``: it did not close."""
        return self._closed_with

    def clear(self) -> None:
        """Forget what has come so far."""
        with self._lock:
            self._messages.clear()

    def probes(self) -> list[str]:
        """The probes that came."""
        with self._lock:
            return list(self._probes)

    def take(self, message: object) -> None:
        """Add one message, as the client's end of a wire would.

        :raises TypeError: if it is neither ``str`` nor ``bytes``, as a real socket does.
        """
        if not isinstance(message, (str, bytes)):
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}")
        with self._lock:
            if isinstance(message, str) and PROBE in message:
                self._probes.append(message)
            else:
                self._messages.append(message)

    def take_close(self, code: int, reason: str) -> None:
        """Note the close; the first counts."""
        with self._lock:
            if self._closed_with is None:
                self._closed_with = (code, reason)

    def __repr__(self) -> str:
        name = self.name or self.user_id or hex(id(self))
        return f"<{type(self).__name__} {name}, messages: {len(self._messages)}>"


def _parsed(message: str | bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(message)
    except (ValueError, UnicodeDecodeError):
        return None
    return event if isinstance(event, dict) else None


def describe(inbox: Inbox) -> str:
    """What did arrive, for the text of a failure."""
    messages = inbox.messages
    lines = [f"{inbox!r}" + (f", closed with {inbox.closed_with}" if inbox.closed_with else "")]
    if not messages:
        lines.append("  (nothing arrived)")
    for index, message in list(enumerate(messages))[-_SHOWN:]:
        text = repr(message) if isinstance(message, bytes) else message
        event = _parsed(message)
        kind = "" if event is None else f"{event.get('type')}: "
        cut = text if len(text) <= _WIDE else text[:_WIDE] + f"... ({len(text)} characters)"
        lines.append(f"  {index}: {kind}{cut}")
    if len(messages) > _SHOWN:
        lines.insert(1, f"  ... the first {len(messages) - _SHOWN} are left out")
    return "\n".join(lines)


def field(event: Mapping[str, Any], name: str) -> Any:
    """A field of an event: at its root, or in its ``payload`` or ``data``; ``...``: it has none."""
    if name in event:
        return event[name]
    for under in ("payload", "data"):
        inner = event.get(under)
        if isinstance(inner, Mapping) and name in inner:
            return inner[name]
    return ...
