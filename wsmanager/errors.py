"""Every error the package raises; all derive from :class:`WebSocketManagerError`."""

from __future__ import annotations

from ._wsmanager import (
    BackplaneError,
    ConnectionLimitError,
    ConnectionNotFound,
    EncodeError,
    EventTooLarge,
    InvalidUserContext,
    ResumeError,
    ServerDraining,
    UserIsolationError,
    UserLimitError,
    WebSocketManagerError,
)

__all__ = [
    "BackplaneError",
    "ConnectionLimitError",
    "ConnectionNotFound",
    "EncodeError",
    "EventTooLarge",
    "InvalidUserContext",
    "ResumeError",
    "ServerDraining",
    "UserIsolationError",
    "UserLimitError",
    "WebSocketManagerError",
]
