"""What the doctor found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["COUNTS", "Finding", "Severity"]

Severity = Literal["error", "warning", "info"]

COUNTS: Final = frozenset({"error", "warning"})
"""The severities that make the exit status 1."""


@dataclass(frozen=True)
class Finding:
    """One thing that is so.

    *id* never changes its meaning. *remedy* says what to do, and is empty where
    there is nothing to do; *details* are for programs, JSON only.
    """

    id: str
    severity: Severity
    message: str
    remedy: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it is more than information."""
        return self.severity in COUNTS
