"""Who may open a WebSocket, for how long, and how much they may send.

::

    check_origin          a page of another site may not
    TicketOffice          a log-in carried over without a token in the URL
    subprotocol_credential, first_message_credential    where a browser can put it
    reject                turned away so that the close code arrives
    Sessions              log-out and expiry that reach open sockets
    InboundLimiter        size and rate of what a user sends

None of it is needed to use the manager, and nothing is active until called.
"""

from __future__ import annotations

from .asgi import AsgiWebSocket
from .credentials import (
    CREDENTIAL_PREFIX,
    first_message_credential,
    offered_protocols,
    protocol_to_accept,
    subprotocol_credential,
)
from .errors import (
    InboundLimitExceeded,
    InvalidCredential,
    InvalidTicket,
    SessionEnded,
    TicketOfficeFull,
)
from .inbound import InboundLimiter
from .origin import check_origin
from .rejection import reject
from .sessions import Sessions
from .tickets import TicketOffice

__all__ = [
    "CREDENTIAL_PREFIX",
    "AsgiWebSocket",
    "InboundLimitExceeded",
    "InboundLimiter",
    "InvalidCredential",
    "InvalidTicket",
    "SessionEnded",
    "Sessions",
    "TicketOffice",
    "TicketOfficeFull",
    "check_origin",
    "first_message_credential",
    "offered_protocols",
    "protocol_to_accept",
    "reject",
    "subprotocol_credential",
]
