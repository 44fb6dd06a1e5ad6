"""User contexts in the shapes that backends really hand to the factory."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class UserExecutionContext:
    """The context class of a typical backend: frozen, three required ids, a request factory."""

    user_id: str
    thread_id: str
    run_id: str
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    websocket_client_id: str | None = None
    agent_context: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_request(
        cls,
        user_id: str,
        thread_id: str,
        run_id: str,
        request_id: str | None = None,
        websocket_client_id: str | None = None,
    ) -> UserExecutionContext:
        return cls(
            user_id=user_id,
            thread_id=thread_id,
            run_id=run_id,
            request_id=request_id or uuid.uuid4().hex,
            websocket_client_id=websocket_client_id,
        )


class PlainContext:
    """A context with nothing but the id."""

    def __init__(self, user_id: object) -> None:
        self.user_id = user_id


class RaisingContext:
    """A context whose id cannot be read; remembers how often it was asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.asked = 0

    @property
    def user_id(self) -> str:
        self.asked += 1
        raise self.error
