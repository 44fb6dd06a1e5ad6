"""The optional libraries, against the versions that the extras ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .finding import Finding
from .versions import installed, numbers

__all__ = ["RANGES", "check"]

#: Distribution: extra, oldest, and the first that is not tried yet; as in pyproject.toml.
RANGES: Final = {
    "msgspec": ("fast", "0.18.6", "1"),
    "fastapi": ("fastapi", "0.111", "1"),
    "uvicorn": ("fastapi", "0.44", "1"),
    "websockets": ("fastapi", "15", "18"),
    "prometheus-client": ("prometheus", "0.20", "1"),
    "opentelemetry-api": ("otel", "1.25", "2"),
}


def check() -> Iterator[Finding]:
    """The version of each that is installed."""
    for name, (extra, oldest, beyond) in RANGES.items():
        version = installed(name)
        if version is not None:
            yield compare(name, version, extra, oldest, beyond)


def compare(name: str, version: str, extra: str, oldest: str, beyond: str) -> Finding:
    """Whether *version* is in the range that is supported."""
    details = {"version": version, "oldest": oldest, "beyond": beyond}
    if _padded(version) < _padded(oldest):
        return Finding(
            f"version-{name}",
            "warning",
            f"{name} {version} is older than {oldest}, the oldest that wsmanager works with",
            f"pip install 'wsmanager[{extra}]'",
            details,
        )
    if _padded(version) >= _padded(beyond):
        return Finding(
            f"version-{name}",
            "warning",
            f"{name} {version} is newer than wsmanager knows: it is tested below {beyond}",
            f"pip install 'wsmanager[{extra}]', or look for a newer wsmanager",
            details,
        )
    return Finding(f"version-{name}", "info", f"{name} {version}", details=details)


def _padded(version: str) -> tuple[int, ...]:
    return (*numbers(version), 0, 0, 0)[:4]
