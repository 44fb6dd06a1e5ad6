"""The JSON encoder in use."""

from __future__ import annotations

from collections.abc import Iterator

from ..events import ENCODER
from .finding import Finding
from .versions import installed

__all__ = ["check"]


def check() -> Iterator[Finding]:
    """Which library encodes events."""
    if ENCODER == "json":
        yield Finding(
            "encoder",
            "info",
            "events are encoded by the standard library's json, about ten times slower than msgspec",
            "pip install 'wsmanager[fast]'",
            {"encoder": ENCODER},
        )
    else:
        yield Finding(
            "encoder",
            "info",
            f"events are encoded by {ENCODER} {installed(ENCODER) or ''}".rstrip(),
            details={"encoder": ENCODER},
        )
