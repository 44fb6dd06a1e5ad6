"""Count the leaks that are ours in the reports of AddressSanitizer and LeakSanitizer.

Usage: leaks.py FOLDER

A leak is ours if our code asked for the memory: one of our frames stands in
the stack before any frame of the interpreter's evaluation loop. Suppressions
cannot say that: they match any frame, and every leak of the interpreter's own
below a call of ours has one of ours somewhere. Exits 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

RECORD = re.compile(r"^(?:Direct|Indirect) leak of .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"[ /]src/_wsmanager/|_wsmanager\.[\w.-]*so\b")
# Beyond these frames Python code is at work, whoever has called it.
INTERPRETER = re.compile(r" in _?PyEval_")
# What the interpreter keeps for good, whoever asks first: interned strings (from
# CPython 3.12 on) and, in each sub-interpreter, the empty mapping of contexts.
IMMORTAL = re.compile(r" in (_?PyUnicode_Intern|_PyHamt_New)")


def is_ours(record: str) -> bool:
    """Whether our code asked for the leaked memory of this record."""
    for frame in record.splitlines()[1:]:
        if INTERPRETER.search(frame) or IMMORTAL.search(frame):
            return False
        if OURS.search(frame):
            return True
    return False


def records(folder: Path) -> Iterator[tuple[Path, str]]:
    """All leak records of the reports in *folder*."""
    for report in sorted(folder.iterdir()):
        for match in RECORD.finditer(report.read_text(errors="replace")):
            yield report, match.group()


def main() -> None:
    total = ours = 0
    for report, record in records(Path(sys.argv[1])):
        total += 1
        if is_ours(record):
            ours += 1
            print(f"leaks: {report.name}: {record}\n")
    print(f"leaks: {ours} of our own, {total - ours} of the interpreter and of others")
    sys.exit(ours > 0)


main()
