"""Legacy paths that nothing imports any more."""

from __future__ import annotations

from collections.abc import Iterator

from ..audit import Settings, audit
from .finding import Finding

__all__ = ["check"]


def check(paths: tuple[str, ...]) -> Iterator[Finding]:
    """The shims below *paths* that can go, by the audit's rule WSM011.

    :raises UsageError: a path that does not exist.
    """
    if not paths:
        return
    report = audit(paths, Settings(select=frozenset({"WSM011"})))
    for finding in report.findings:
        yield Finding(
            "shim-stale",
            "warning",
            f"{finding.path}: {finding.message}",
            "remove the file",
            {"path": finding.path},
        )
