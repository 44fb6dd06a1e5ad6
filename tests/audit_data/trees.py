"""Small code bases for the tests of the audit, with what is expected written into them.

A tree is one text: ``=== path`` starts a file. A line that ends in
``# ! WSM001`` is expected to have a finding of that rule, ``# ! WSM001 fixable``
one that is fixable. Lines without a mark are expected to have none.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsmanager.audit import Finding, Report, Settings, audit
from wsmanager.audit.names import Patterns

Expected = tuple[str, int, str, bool]

_MARK = re.compile(r"# ! (WSM\d{3})( fixable)?")

#: The factory as the code base at large has it.
FACTORY = """
=== app/__init__.py
=== app/sockets.py
def get_websocket_manager(user_context=None, mode=None):
    return _registry[user_context]

async def get_websocket_manager_async(user_context=None, mode=None):
    return get_websocket_manager(user_context)
"""


def grow(folder: Path, tree: str) -> set[Expected]:
    """Write *tree* under *folder*; what its marks expect."""
    expected: set[Expected] = set()
    for part in re.split(r"^=== ", textwrap.dedent(tree), flags=re.M)[1:]:
        name, _, body = part.partition("\n")
        path = folder / name.strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
        for number, line in enumerate(body.split("\n"), 1):
            for rule, fixable in _MARK.findall(line):
                expected.add((name.strip(), number, rule, bool(fixable)))
    return expected


def found(report: Report, folder: Path) -> set[Expected]:
    """The findings of *report* as :func:`grow` writes them."""
    return {
        (Path(f.path).relative_to(folder).as_posix(), f.line, f.rule, f.fixable)
        for f in report.findings
    }


def check(folder: Path, tree: str, rules: str = "", settings: Settings | None = None) -> Report:
    """Audit *tree* and compare with its marks; *rules* are the only ones looked at, all if empty.

    It must come to the same with no file left unparsed for what its bytes say.
    """
    expected = grow(folder, tree)
    report = audit([folder], settings or Settings())
    assert told(report) == told(audit_of_all([folder], settings)), "the filter changes the result"
    got = found(report, folder)
    if rules:
        wanted = set(rules.split())
        got = {item for item in got if item[2] in wanted}
    assert got == expected, "\n".join(
        f"{f.path}:{f.line} {f.rule} {f.message}" for f in report.findings
    )
    return report


def told(report: Report) -> list[object]:
    """All that *report* says, but for the time it took."""
    findings = [
        (f.path, f.line, f.column, f.end_line, f.end_column, f.rule, f.message, f.fixable)
        for f in report.findings
    ]
    return [findings, report.unparsed, report.files, report.suppressed]


def audit_of_all(paths: list[Path], settings: Settings | None = None, **options: Any) -> Report:
    """The audit with the filter off that leaves out what no rule can be about; in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Patterns, "relevant", lambda self, data: True)
        return audit(paths, settings or Settings(), jobs=1, **options)


def only(report: Report, rule: str) -> list[Finding]:
    """The findings of one rule."""
    return [finding for finding in report.findings if finding.rule == rule]


Runner = Callable[..., Any]
