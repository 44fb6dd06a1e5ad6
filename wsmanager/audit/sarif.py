"""SARIF 2.1.0, the format that code scanning services take."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any
from urllib.parse import quote

from .findings import Finding, Report
from .report import summary
from .rules import RULES, Rule

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(report: Report, version: str) -> str:
    """One SARIF log with one run. What was fixed is left out: it is no longer there."""
    rules = list(RULES.values())
    order = {rule.id: number for number, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "wsmanager",
                "semanticVersion": version,
                "version": version,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not report.failed,
                "toolExecutionNotifications": [
                    {
                        "level": "note",
                        "message": {"text": f"not audited: {item.reason}"},
                        "locations": [_location(item.path, {"startLine": item.line or 1})],
                    }
                    for item in report.unparsed
                ],
            }
        ],
        "results": [_result(f, order[f.rule]) for f in report.findings if not f.fixed],
        "properties": {key: value for key, value in summary(report).items() if key != "unparsed"},
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.explanation},
        "help": {"text": rule.explanation},
        "defaultConfiguration": {"level": rule.level},
    }


def _result(finding: Finding, order: int) -> dict[str, Any]:
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.end_line,
        "endColumn": finding.end_column,
    }
    # Stable while lines move: the rule, the file and what is written there.
    print_of = (
        f"{finding.rule}\0{finding.path}\0{finding.site.label}\0{'.'.join(finding.site.function)}"
    )
    return {
        "ruleId": finding.rule,
        "ruleIndex": order,
        "level": RULES[finding.rule].level,
        "message": {"text": finding.message},
        "locations": [_location(finding.path, region)],
        "partialFingerprints": {
            "wsmanager/v1": hashlib.sha256(print_of.encode("utf-8", "surrogateescape")).hexdigest()
        },
        "properties": {"fixable": finding.fixable},
    }


def _location(path: str, region: dict[str, Any]) -> dict[str, Any]:
    encoded = quote(os.fsencode(path).replace(os.sep.encode(), b"/"))
    uri = "file://" + encoded if os.path.isabs(path) else encoded
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
