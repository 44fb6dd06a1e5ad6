"""A user context, for code whose own was part of what is replaced."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from .._wsmanager import InvalidUserContext

__all__ = ["UserExecutionContext"]


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class UserExecutionContext:
    """Who a request is for, and which chat thread and agent run it belongs to; immutable.

    It is a user context to both factories, which look at ``user_id`` alone, and
    to :class:`~wsmanager.AgentWebSocketBridge`, which takes ``thread_id`` too.

    :param user_id: the user; never made up, replaced or changed.
    :param thread_id: the chat thread.
    :param run_id: the agent run.
    :param request_id: the request; one is made if it is not given.
    :param websocket_client_id: the connection that the request came by.
    :param created_at: an aware time (UTC).
    :param agent_context: anything of the agent's.
    :param audit_metadata: anything for an audit.
    :raises InvalidUserContext: if one of the three required ids is no text, or blank.
    """

    user_id: str
    thread_id: str
    run_id: str
    request_id: str = field(default_factory=_new_id)
    websocket_client_id: str | None = None
    created_at: datetime = field(default_factory=_now)
    agent_context: Mapping[str, Any] = field(default_factory=dict)
    audit_metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("user_id", "thread_id", "run_id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InvalidUserContext(
                    f"{name} of a UserExecutionContext is a text that is not blank, not "
                    f"{'a blank one' if isinstance(value, str) else type(value).__name__}"
                )

    @classmethod
    def from_request(
        cls,
        user_id: str,
        thread_id: str,
        run_id: str,
        request_id: str | None = None,
        websocket_client_id: str | None = None,
        agent_context: Mapping[str, Any] | None = None,
        audit_metadata: Mapping[str, Any] | None = None,
    ) -> UserExecutionContext:
        """A context for one request; what is ``None`` gets its default."""
        return cls(
            user_id=user_id,
            thread_id=thread_id,
            run_id=run_id,
            request_id=_new_id() if request_id is None else request_id,
            websocket_client_id=websocket_client_id,
            agent_context=dict(agent_context or {}),
            audit_metadata=dict(audit_metadata or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """Its fields, with the time as ISO 8601 text."""
        return {**vars(self), "created_at": self.created_at.isoformat()}
