"""``wsmanager doctor``: versions, known traps, and what each server gives."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Final

import wsmanager

from .._log import one_line
from ..audit import UsageError
from .examination import CHECKS, examine
from .finding import Finding

_MARKS: Final = {"error": "error  ", "warning": "warning", "info": "       "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Looks for known traps in the environment that it runs in, and tries on 127.0.0.1 what each "
        "server library gives. Exit status: 0 nothing to do, 1 warnings or errors, 2 wrong usage."
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="code to look for stale shims in")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument(
        "--connections",
        type=_count,
        default=1_000,
        metavar="N",
        help="of one process, for the estimate of memory (1000)",
    )
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=list(CHECKS),
        metavar="CHECK",
        help=f"leave a check out: {', '.join(CHECKS)}",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="ID",
        help="findings of this id do not count",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no information")


def run(options: argparse.Namespace) -> int:
    """Carry the command out; the exit status."""
    try:
        found = examine(skip=options.skip, connections=options.connections, paths=options.paths)
    except UsageError as error:
        sys.stderr.write(f"wsmanager doctor: {_shown(str(error))}\n")
        return 2
    found = [finding for finding in found if finding.id not in options.ignore]
    failed = any(finding.counts for finding in found)
    if options.quiet:
        found = [finding for finding in found if finding.counts]
    sys.stdout.write(_as_json(found) if options.json else _as_text(found))
    return 1 if failed else 0


def _as_json(found: list[Finding]) -> str:
    document = {
        "wsmanager": wsmanager.__version__,
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity,
                "message": finding.message,
                "remedy": finding.remedy,
                "details": finding.details,
            }
            for finding in found
        ],
        "summary": _counts(found),
    }
    return json.dumps(document, indent=2) + "\n"


def _as_text(found: list[Finding]) -> str:
    lines = []
    for finding in found:
        lines.append(f"{_MARKS[finding.severity]} {finding.id}: {_shown(finding.message)}\n")
        if finding.remedy:
            lines.append(f"{' ' * 10}-> {_shown(finding.remedy)}\n")
    counts = _counts(found)
    lines.append(f"{counts['error']} errors, {counts['warning']} warnings.\n")
    return "".join(lines)


def _counts(found: list[Finding]) -> dict[str, int]:
    counts = Counter(finding.severity for finding in found)
    return {severity: counts[severity] for severity in ("error", "warning", "info")}


def _shown(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return one_line(text, 1_000).encode(encoding, "backslashreplace").decode(encoding)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("not below 0")
    return number
