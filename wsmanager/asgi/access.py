"""Who may see the routes: who has the token, or, without one, who is on this host."""

from __future__ import annotations

import base64
import binascii
import enum
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["Access", "Verdict"]

#: A request that came through a proxy has one of these; it is not from this host, whatever
#: the connection's own address is. What they say is never believed.
_FORWARDED: Final = frozenset(
    (
        b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
        b"x-forwarded-port", b"x-forwarded-server", b"x-real-ip", b"x-client-ip",
        b"x-original-forwarded-for", b"x-cluster-client-ip", b"x-envoy-external-address",
        b"true-client-ip", b"cf-connecting-ip", b"fastly-client-ip", b"x-appengine-user-ip",
    )
)  # fmt: skip

_LOCAL_NAMES: Final = frozenset(("localhost", "ip6-localhost", "localhost.localdomain"))


class Verdict(enum.Enum):
    """What to do with a request."""

    ALLOWED = 200
    UNKNOWN = 401  # with the token it would be allowed
    FORBIDDEN = 403  # nothing the client can send would help


class Access:
    """One rule for all routes.

    :param token: what a client must show; ``None``: only this host may.
    :raises ValueError: for an empty token, which is what an unset variable gives.
    :raises TypeError: for one that is no text.
    """

    __slots__ = ("_token",)

    def __init__(self, token: str | None) -> None:
        if token is not None and not isinstance(token, str):
            raise TypeError(f"token is a str or None, not {type(token).__name__}")
        if token is not None and not token.strip():
            raise ValueError(
                "token is empty: give a secret, such as secrets.token_urlsafe() makes, "
                "or None to let in this host alone"
            )
        self._token = None if token is None else token.encode()

    def judge(self, scope: Mapping[str, Any]) -> Verdict:
        """The verdict over an ASGI scope of an HTTP request or a WebSocket."""
        headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
        if self._token is None:
            return Verdict.ALLOWED if _is_local(scope, headers) else Verdict.FORBIDDEN
        shown = [value for name, value in headers if name == b"authorization"]
        # Two of them are not an accident; neither is looked at.
        if len(shown) == 1 and self._is_token(_credentials(shown[0])):
            return Verdict.ALLOWED
        return Verdict.UNKNOWN

    def _is_token(self, given: bytes | None) -> bool:
        # Compared in a time that does not tell how much of it was right.
        return secrets.compare_digest(given or b"", self._token or b"") and given is not None


def _credentials(header: bytes) -> bytes | None:
    """The token of ``Bearer TOKEN``, or the password of ``Basic``, which browsers ask for."""
    scheme, _, rest = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        try:
            _, colon, password = base64.b64decode(rest.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return None
        return password if colon else None
    return None


def _is_local(scope: Mapping[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """From this host and through nothing: the address, no proxy's header, and a local name.

    The name keeps web pages out whose own name was made to point here (DNS
    rebinding). Port 0 is what servers put in where they believed a header.
    """
    client = scope.get("client")
    if not client or not _is_loopback(str(client[0])) or not client[1]:
        return False
    hosts = []
    for name, value in headers:
        if name in _FORWARDED:
            return False
        if name == b"host":
            hosts.append(value.decode("latin-1"))
    return len(hosts) == 1 and _is_local_name(hosts[0])


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_local_name(host: str) -> bool:
    if host.startswith("["):
        name, closed, rest = host[1:].partition("]")
        if not closed:
            return False
        if rest and not (rest[0] == ":" and rest[1:].isdigit()):
            return False
    else:
        name = host.partition(":")[0]
    return name.lower() in _LOCAL_NAMES or _is_loopback(name)
