"""Fakes of no library: the least an object needs to be a connection."""

from __future__ import annotations

import json
from typing import Any

from .inbox import Inbox

__all__ = ["FakeJson", "FakeText"]


class FakeText(Inbox):
    """``send_text`` and ``close``, nothing else. A send after the close is a ``ConnectionError``."""

    async def send_text(self, data: str) -> None:
        """Send text."""
        _check(self)
        self.take(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close."""
        self.take_close(code, reason)


class FakeJson(Inbox):
    """``send_json`` only, as many hand-made doubles have."""

    async def send_json(self, data: Any) -> None:
        """Send what JSON can hold."""
        _check(self)
        self.take(json.dumps(data))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close."""
        self.take_close(code, reason)


def _check(inbox: Inbox) -> None:
    if inbox.closed_with is not None:
        raise ConnectionError("the connection is closed")
