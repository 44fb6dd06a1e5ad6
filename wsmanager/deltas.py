"""Text that comes in small pieces, merged before it is sent: nothing of it lost, doubled or overtaken."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from . import events
from ._wsmanager import Delivery, EncodeError

__all__ = ["DELTA_INTERVAL", "TextDelta"]

DELTA_INTERVAL: Final = 0.025
"""Seconds the first piece of a merged event may wait for more."""

MERGED_BYTES: Final = 16 * 1024
"""UTF-8 bytes at which merged text is sent without waiting longer."""

_EXPANSION: Final = 12  # a byte is at most six in JSON, and "mixed" writes it twice
_ENVELOPE_BYTES: Final = 8 * 1024


class TextDelta:
    """What ``notify_text_delta`` returns; pieces that are merged share one.

    True if a connection took the text or, while it waits for more, if the user
    has one that will. ``await`` gives the same at once: it does not wait for
    the merged event, so that a loop over tokens may await each.
    """

    __slots__ = ("_delivery", "_error", "_manager")

    def __init__(self, manager: Any) -> None:
        self._manager: Any = manager  # until the text is sent
        self._delivery: Delivery | None = None
        self._error: BaseException | None = None

    @property
    def delivery(self) -> Delivery | None:
        """The delivery of the merged event, once that was sent."""
        return self._delivery

    @property
    def error(self) -> BaseException | None:
        """Why the merged event could not be sent."""
        return self._error

    def __bool__(self) -> bool:
        if self._delivery is not None:
            return bool(self._delivery)
        manager = self._manager
        return manager is not None and bool(manager.is_connection_active())

    def __await__(self) -> Generator[Any, Any, bool]:
        yield from ()
        return bool(self)

    def __repr__(self) -> str:
        state = "failed" if self._error else "waits" if self._delivery is None else "sent"
        return f"<TextDelta {state}>"

    def sent(self, delivery: Delivery) -> None:
        self._delivery, self._manager = delivery, None

    def failed(self, error: BaseException) -> None:
        self._error, self._manager = error, None


class Merged:
    """One ``text_delta`` in the making."""

    __slots__ = ("agent_name", "answer", "bytes", "due", "kind", "limit", "manager", "pieces",
                 "place", "run_id", "thread_id", "waits")  # fmt: skip

    def __init__(
        self,
        manager: Any,
        run_id: str,
        kind: str,
        agent_name: str | None,
        thread_id: str | None,
        due: float,
    ) -> None:
        self.manager = manager
        self.run_id = run_id
        self.kind = kind
        self.agent_name = agent_name
        self.thread_id = thread_id
        self.due = due  # monotonic
        self.pieces: list[str] = []
        self.bytes = 0
        self.waits = False
        self.place = -1  # of its first character in the text of the run, if that is known
        self.answer = TextDelta(manager)
        # Bytes that are sure to fit into one event, so that a late flush cannot fail for its size.
        names = len(run_id) + len(kind) + len(agent_name or "") + len(thread_id or "")
        room = events.Limits.max_event_bytes - _ENVELOPE_BYTES - _EXPANSION * names
        self.limit = min(MERGED_BYTES, room // _EXPANSION)

    def takes(self, kind: str, agent_name: str | None, thread_id: str | None, size: int) -> bool:
        """Whether a piece of *size* bytes may be merged with what is there."""
        return (
            self.kind == kind
            and self.agent_name == agent_name
            and self.thread_id == thread_id
            and self.bytes + size <= self.limit
        )

    def add(self, text: str, size: int) -> None:
        self.pieces.append(text)
        self.bytes += size

    def emit(self) -> Delivery:
        data: dict[str, Any] = {"text": "".join(self.pieces), "kind": self.kind}
        if self.place >= 0:
            data["offset"] = self.place
        names: dict[str, Any] = {"run_id": self.run_id}
        if self.agent_name is not None:
            data["agent_name"] = self.agent_name
        if self.thread_id is not None:
            names["thread_id"] = self.thread_id
        delivery: Delivery = self.manager.emit_event("text_delta", data, **names)
        self.answer.sent(delivery)
        return delivery


def utf8(text: str) -> bytes:
    """*text* in UTF-8.

    :raises EncodeError: for a lone surrogate, here and not when it is merged.
    """
    if type(text) is not str:
        raise TypeError(f"text is a str, not {type(text).__qualname__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"payload.text: has a lone surrogate at {error.start}; it is not text that JSON can carry"
        ) from None
