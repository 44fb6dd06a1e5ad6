"""One-time tickets: a log-in carried over to a WebSocket without a token in its URL.

A page that is logged in asks for a ticket over HTTPS, and presents it once,
within seconds, when it opens the WebSocket. What a log or a proxy keeps of it
later is worth nothing.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from .._wsmanager import get_websocket_manager
from ..errors import InvalidUserContext
from ._expiring import Expiring
from ._seal import Seal
from .errors import InvalidTicket, TicketOfficeFull

__all__ = ["TicketOffice"]

_BYTES: Final = 32  # of randomness in a ticket
_MAX_TICKET: Final = 4096  # characters; servers take headers of 8 KiB
_MAX_TTL: Final = 3600.0

Claim = Callable[[str, float], object]
"""``claim(name, seconds)``: true for the first caller with this name in these seconds, anywhere."""


class _Kept(NamedTuple):
    user_id: str
    context: Any


class TicketOffice:
    """Gives out tickets for users who are logged in, and takes each back once.

    ::

        office = TicketOffice()
        ticket = office.issue(context)        # in an HTTP handler that knows its user
        context = office.redeem(ticket)       # when the WebSocket opens; once

    Without a *signing_key* the tickets are random numbers that only this
    office knows: issue and redeem in one process. With one, a ticket carries
    its user and is signed (HMAC-SHA256), so any process with the same key can
    redeem it. **That alone does not make it one-time across processes**: each
    office remembers what *it* redeemed, so a ticket could be used once in
    each process until it expires. Give *claim* to close that: one atomic
    write to a store that all processes share.

    Every method may be called from any thread and never waits, but for
    *claim*, which is called in the redeemer's thread (from a coroutine use
    ``asyncio.to_thread(office.redeem, ticket)`` if it does I/O).

    :param signing_key: 32 bytes or more of ``secrets.token_bytes``, the same
        in every process; or several of them: the first signs, all are
        accepted, for a change of keys.
    :param claim: ``claim(name, seconds)`` is called once for each good signed
        ticket, with a name that tells nothing about it; true means that
        nobody claimed it before. With Redis: ``lambda name, seconds:
        redis.set(name, 1, nx=True, px=ceil(seconds * 1000))``. What it
        raises, ``redeem`` raises: a store that is down lets nobody in.
    :param max_tickets: the most that may be out, or be remembered as used.
    :param max_tickets_per_user: the most one user may have out; one more
        makes the user's oldest worthless. For unsigned tickets: signed ones
        are not kept before they are redeemed.
    :raises ValueError: for a key that is too short, or *claim* without a key.
    """

    def __init__(
        self,
        *,
        signing_key: bytes | Sequence[bytes] | None = None,
        claim: Claim | None = None,
        max_tickets: int = 100_000,
        max_tickets_per_user: int = 16,
    ) -> None:
        if max_tickets < 1 or max_tickets_per_user < 1:
            raise ValueError("max_tickets and max_tickets_per_user are at least 1")
        if claim is not None and signing_key is None:
            raise ValueError("claim is for signed tickets: give a signing_key as well")
        self._seal = None if signing_key is None else Seal(signing_key)
        self._claim = claim
        self._max = max_tickets
        self._max_per_user = max_tickets_per_user
        self._lock = threading.Lock()
        self._out: Expiring[bytes, _Kept] = Expiring()  # by the digest of the ticket
        self._by_user: dict[str, list[bytes]] = {}
        self._used: Expiring[bytes, bool] = Expiring()  # signed tickets redeemed here

    def __repr__(self) -> str:
        kind = "random" if self._seal is None else "signed"
        return f"<TicketOffice of {kind} tickets>"

    def __reduce__(self) -> Any:
        raise TypeError("a TicketOffice is not pickled: its keys and tickets stay in the process")

    def __len__(self) -> int:
        """How many tickets are kept: out, or signed and used, and not expired when last looked at."""
        with self._lock:
            return len(self._out) + len(self._used)

    def __bool__(self) -> bool:
        return True

    def issue(self, user_context: Any, ttl: float = 30.0) -> str:
        """A ticket for this user: ASCII, fit for a subprotocol, a header or a message.

        Makes the user's manager, if there is none: the WebSocket will ask for it.

        :param user_context: what ``get_websocket_manager`` takes, but for
            ``None``: nobody has no ticket. For signed tickets a ``str`` or a
            mapping of JSON values (``{"user_id": ..., "thread_id": ...}``)
            that fits in it; it is signed, not hidden: the client can read it.
        :param ttl: seconds it is good for, up to an hour. Within one process
            they are of the monotonic clock; between processes, of the hosts'
            clocks, which then have to agree within less than *ttl*.
        :raises InvalidUserContext: if it names no user.
        :raises TicketOfficeFull: if *max_tickets* are out.
        :raises TypeError, ValueError: for a *ttl* out of its range, or a
            context that does not fit into a signed ticket.
        """
        seconds = _ttl(ttl)
        user_id = get_websocket_manager(user_context).user_id
        if user_id is None:
            raise InvalidUserContext("a ticket is for one user; None names none")
        if self._seal is not None:
            ticket = self._seal.close(user_context, seconds)
            if len(ticket) > _MAX_TICKET:
                raise ValueError(
                    f"the context makes a ticket of {len(ticket)} characters, and "
                    f"{_MAX_TICKET} are the most: put in it the ids only"
                )
            return ticket
        ticket = secrets.token_urlsafe(_BYTES)
        self._keep(_digest(ticket), _Kept(user_id, user_context), time.monotonic() + seconds)
        return ticket

    def redeem(self, ticket: object) -> Any:
        """The user context of a ticket, which is worth nothing from then on.

        Takes as long for a near miss as for any other: tickets are looked up
        by a hash, and signatures compared in constant time.

        :raises InvalidTicket: for anything but a good ticket: unknown, forged,
            expired, used, or no text. It says no more than that.
        :raises TicketOfficeFull: if *max_tickets* signed ones were redeemed
            here and have not expired yet.
        """
        if not isinstance(ticket, str) or len(ticket) > _MAX_TICKET or not ticket.isascii():
            raise InvalidTicket("the ticket is not good")
        if self._seal is not None:
            return self._redeem_signed(ticket)
        with self._lock:
            kept = self._take(_digest(ticket))
        if kept is None:
            raise InvalidTicket("the ticket is not good")
        return kept.context

    def revoke(self, user_id: str) -> int:
        """Make all unsigned tickets of a user worthless, as a log-out should; how many there were.

        Signed tickets cannot be called back: they run out by their *ttl*.
        """
        with self._lock:
            digests = list(self._by_user.get(user_id, ()))
            return sum(self._take(digest) is not None for digest in digests)

    def _keep(self, digest: bytes, kept: _Kept, deadline: float) -> None:
        with self._lock:
            for old, gone in self._out.expired():
                self._leave(old, gone.user_id)
            own = self._by_user.get(kept.user_id, [])
            if len(own) >= self._max_per_user:
                self._take(own[0])
            if len(self._out) >= self._max:
                raise TicketOfficeFull(f"{self._max} tickets are out; try again when some expire")
            self._out.put(digest, kept, deadline)
            self._by_user.setdefault(kept.user_id, []).append(digest)

    def _take(self, digest: bytes) -> _Kept | None:
        kept = self._out.get(digest)
        if kept is None:
            return None
        self._out.pop(digest)
        self._leave(digest, kept.user_id)
        return kept

    def _leave(self, digest: bytes, user_id: str) -> None:
        own = self._by_user[user_id]
        own.remove(digest)
        if not own:
            del self._by_user[user_id]

    def _redeem_signed(self, ticket: str) -> Any:
        assert self._seal is not None
        opened = self._seal.open(ticket)
        if opened is None:
            raise InvalidTicket("the ticket is not good")
        context, left = opened
        digest = _digest(ticket)
        with self._lock:
            self._used.expired()
            if self._used.get(digest):
                raise InvalidTicket("the ticket is not good")
            if len(self._used) >= self._max:
                # To forget one early would make it good again.
                raise TicketOfficeFull(f"{self._max} used tickets are remembered; try again later")
            self._used.put(digest, True, time.monotonic() + left)
        if self._claim is not None and not self._claim(f"wsmanager:ticket:{digest.hex()}", left):
            raise InvalidTicket("the ticket is not good")
        return context


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("ascii")).digest()


def _ttl(ttl: float) -> float:
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl is a number of seconds, not {type(ttl).__name__}")
    if not (math.isfinite(ttl) and 0 < ttl <= _MAX_TTL):
        raise ValueError(f"ttl is above 0 and at most {_MAX_TTL:g} seconds, not {ttl}")
    return float(ttl)
