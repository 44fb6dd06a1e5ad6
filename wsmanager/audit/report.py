"""The formats for people, programs and GitHub."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from .findings import Finding, Report
from .rules import RULES

FORMATS = ("text", "json", "github", "sarif")
_GITHUB = {"error": "error", "warning": "warning", "note": "notice"}
_UNPARSED_SHOWN = 10


def counts(finding: Finding) -> bool:
    """Whether *finding* still stands and is more than information."""
    return not finding.fixed and RULES[finding.rule].level != "note"


def summary(report: Report) -> dict[str, Any]:
    """The numbers of a run, and the files that are not part of them."""
    by_rule = Counter(finding.rule for finding in report.findings)
    return {
        "files": report.files,
        "unparsed": [
            {"path": item.path, "line": item.line, "reason": item.reason}
            for item in report.unparsed
        ],
        "seconds": report.seconds,
        "findings": sum(map(counts, report.findings)),
        "by_rule": dict(sorted(by_rule.items())),
        "fixable": sum(finding.fixable and not finding.fixed for finding in report.findings),
        "fixed": sum(finding.fixed for finding in report.findings),
        "suppressed": report.suppressed,
        "failed": [{"path": path, "reason": reason} for path, reason in report.failed],
    }


def as_json(report: Report) -> str:
    """One JSON document: every finding, informational ones too, and the summary."""
    findings = [
        {
            "rule": finding.rule,
            "path": finding.path,
            "line": finding.line,
            "column": finding.column,
            "end_line": finding.end_line,
            "end_column": finding.end_column,
            "message": finding.message,
            "fixable": finding.fixable,
            "fixed": finding.fixed,
        }
        for finding in report.findings
    ]
    return json.dumps({"findings": findings, "summary": summary(report)}, indent=2) + "\n"


def as_github(report: Report) -> str:
    """Workflow commands: annotations on the lines of a pull request."""
    lines = []
    for finding in report.findings:
        if finding.fixed:
            continue
        command = _GITHUB[RULES[finding.rule].level]
        place = (
            f"file={_property(finding.path)},line={finding.line},col={finding.column},"
            f"endLine={finding.end_line},endColumn={finding.end_column}"
        )
        title = _property(f"{finding.rule} {RULES[finding.rule].name}")
        lines.append(f"::{command} {place},title={title}::{_message(finding.message)}")
    for item in report.unparsed:
        place = f"file={_property(item.path)},line={item.line or 1}"
        lines.append(f"::notice {place},title=not audited::{_message(item.reason)}")
    return "".join(line + "\n" for line in lines)


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def as_text(report: Report, *, quiet: bool = False, verbose: bool = False) -> str:
    """One line a finding, then what it all comes to. *quiet* leaves information and summary out."""
    lines = []
    for finding in report.findings:
        if quiet and not counts(finding):
            continue
        mark = " [fixed]" if finding.fixed else " [fixable]" if finding.fixable else ""
        lines.append(
            f"{_line(finding.path)}:{finding.line}:{finding.column}: "
            f"{finding.rule} {_line(finding.message)}{mark}"
        )
    lines += [f"{_line(path)}: {reason}" for path, reason in report.failed]
    if not quiet:
        lines += _closing(report, verbose)
    return "".join(line + "\n" for line in lines)


def _line(text: str) -> str:
    # A file name may hold a line break or an escape sequence; a report line may not.
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _closing(report: Report, verbose: bool) -> list[str]:
    lines = []
    if report.unparsed:
        shown = report.unparsed if verbose else report.unparsed[:_UNPARSED_SHOWN]
        lines.append(f"{_count(len(report.unparsed), 'file')} could not be audited:")
        for item in shown:
            place = f":{item.line}" if item.line else ""
            lines.append(f"  {_line(item.path)}{place}: {_line(item.reason)}")
        if len(shown) < len(report.unparsed):
            lines.append(f"  and {len(report.unparsed) - len(shown)} more (-v lists all)")
    numbers = summary(report)
    parts = [
        f"{rule} {number}" + (" (for information)" if RULES[rule].level == "note" else "")
        for rule, number in numbers["by_rule"].items()
    ]
    closing = f"{_count(numbers['findings'], 'finding')} in {_count(report.files, 'file')}"
    if parts:
        closing += f": {', '.join(parts)}"
    for word in ("fixed", "fixable", "suppressed"):
        if numbers[word]:
            closing += f"; {numbers[word]} {word}"
    lines.append(f"{closing}. {report.seconds:.1f} s.")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
