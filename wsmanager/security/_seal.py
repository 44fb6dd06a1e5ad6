"""Signed texts: what a ticket carries from one process to another."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["Seal"]

_MIN_KEY: Final = 32  # bytes; as many as the hash has (RFC 2104, 3)
_SIZE: Final = hashlib.sha256().digest_size
_PURPOSE: Final = b"wsmanager ticket 1\0"
"""Signed along, so that no other use of the same key can be mistaken for a ticket."""


class Seal:
    """Signs a user context with an expiry, and opens what it, or another with its key, signed."""

    __slots__ = ("_keys",)

    def __init__(self, keys: bytes | Sequence[bytes]) -> None:
        every = [keys] if isinstance(keys, (bytes, bytearray, memoryview)) else list(keys)
        if not every or not all(isinstance(key, (bytes, bytearray, memoryview)) for key in every):
            raise TypeError("a signing key is bytes; several are given newest first")
        self._keys = [bytes(key) for key in every]
        if min(map(len, self._keys)) < _MIN_KEY:
            raise ValueError(
                f"a signing key has at least {_MIN_KEY} bytes: secrets.token_bytes(32)"
            )

    def __repr__(self) -> str:
        return "<Seal>"

    def close(self, context: Any, ttl: float) -> str:
        """A signed text with *context*, good for *ttl* seconds of this host's clock.

        :raises TypeError: for a context that JSON would not give back as it is.
        """
        given = dict(context) if isinstance(context, Mapping) else context
        body = {"c": given, "e": time.time() + ttl, "n": secrets.token_urlsafe(16)}
        try:
            text = json.dumps(body, allow_nan=False, separators=(",", ":"))
            same = json.loads(text)["c"] == given and isinstance(given, (dict, str))
        except (TypeError, ValueError, RecursionError):
            same = False
            text = ""
        if not same:
            raise TypeError(
                "a signed ticket carries a str or a mapping of JSON values "
                f"(str keys, lists, no tuples), not this {type(context).__name__}"
            )
        raw = text.encode("utf-8")
        return _armour(self._sign(self._keys[0], raw) + raw)

    def open(self, sealed: str) -> tuple[Any, float] | None:
        """The context and the seconds it is still good for; ``None`` if it is not."""
        raw = _unarmour(sealed)
        if raw is None or len(raw) <= _SIZE:
            return None
        signature, text = raw[:_SIZE], raw[_SIZE:]
        # Every key is tried, whichever fits, so that the time does not tell which.
        good = [hmac.compare_digest(self._sign(key, text), signature) for key in self._keys]
        if not any(good):
            return None
        body = json.loads(text)
        left: float = body["e"] - time.time()
        return (body["c"], left) if left > 0 else None

    def _sign(self, key: bytes, text: bytes) -> bytes:
        return hmac.digest(key, _PURPOSE + text, "sha256")


def _armour(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _unarmour(text: str) -> bytes | None:
    """What was armoured; ``None`` unless it is the one way to write it: a ticket has no twin."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return raw if _armour(raw) == text else None
