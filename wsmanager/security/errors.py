"""What the security helpers refuse with. No message holds a secret, or says which check failed to a guesser."""

from __future__ import annotations

from ..errors import WebSocketManagerError

__all__ = [
    "InboundLimitExceeded",
    "InvalidCredential",
    "InvalidTicket",
    "SessionEnded",
    "TicketOfficeFull",
]


class InvalidTicket(WebSocketManagerError, ValueError):
    """A ticket that is not good: unknown, forged, expired or used; which of these is not said."""


class TicketOfficeFull(WebSocketManagerError):
    """As many tickets are out as the office may hold; some expire within their ``ttl``."""


class InvalidCredential(WebSocketManagerError, ValueError):
    """A client that sent no credential, none in time, or not in the form that is asked for."""


class SessionEnded(WebSocketManagerError):
    """A session that was closed or has expired cannot have another connection."""


class InboundLimitExceeded(WebSocketManagerError):
    """A message from a client that is too large, or one too many.

    ``code`` is the close code that says so: 1009 or 1008.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
