"""What a run reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from .resolve import Thing
from .sites import Site


@dataclass
class Finding:
    """One finding. Lines and columns count from 1, columns in characters; the end is exclusive.

    *path* is what the user sees. *fixable* is whether ``--fix`` would change it
    in the chosen style, *fixed* whether it did. *site* and *thing* are for the fix.
    """

    rule: str
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    message: str
    site: Site = field(repr=False)
    thing: Thing | None = field(default=None, repr=False)
    fixable: bool = False
    fixed: bool = False


@dataclass(frozen=True)
class UnparsedFile:
    """A file that could not be audited, and why."""

    path: str
    reason: str
    line: int | None = None


@dataclass
class Report:
    """The outcome of a run. *seconds* is wall time; *suppressed* counts ``noqa`` comments that took effect."""

    findings: list[Finding]
    files: int
    unparsed: list[UnparsedFile]
    seconds: float = 0.0
    suppressed: int = 0
    diffs: list[str] = field(default_factory=list)
    #: files that could not be written, with the reason
    failed: list[tuple[str, str]] = field(default_factory=list)
