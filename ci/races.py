"""Count the data races that are ours in the reports of ThreadSanitizer.

Usage: races.py FOLDER

A race is ours if our code made one of its two accesses: one of our frames
stands in that access's stack before any frame of the interpreter's evaluation
loop. Suppressions cannot say that: they match any frame of the stack, and below
every call of ours there is Python. What the interpreter does wrong of itself is
counted apart. Exits 1 if there is one of ours.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPORT = re.compile(r"^WARNING: ThreadSanitizer: .*?^SUMMARY: [^\n]*$", re.MULTILINE | re.DOTALL)
# The accesses of a race; the stacks after them tell where threads, locks and memory came from.
ACCESS = re.compile(
    r"^ +(?:Previous )?(?:[Aa]tomic )?(?:[Rr]ead|[Ww]rite) of size .*?(?=\n\n|\Z)", re.M | re.S
)
OURS = re.compile(r"/_wsmanager/|_wsmanager\.[\w.-]*so\b")
INTERPRETER = re.compile(r" _?PyEval_")


def is_ours(access: str) -> bool:
    """Whether our code made this access."""
    for frame in access.splitlines()[1:]:
        if INTERPRETER.search(frame):
            return False
        if OURS.search(frame):
            return True
    return False


def brief(report: str, accesses: list[str]) -> str:
    """What tells the race: both accesses, down to where the interpreter calls, and the summary."""
    lines = []
    for access in accesses or [report]:
        for line in access.splitlines():
            lines.append(re.sub(r" \(.*", "", line))
            if INTERPRETER.search(line):
                break
    return "\n".join([*lines, report.splitlines()[-1]])


def reports(folder: Path) -> Iterator[tuple[Path, str]]:
    """All reports of the files in *folder*."""
    for file in sorted(folder.iterdir()):
        for match in REPORT.finditer(file.read_text(errors="replace")):
            yield file, match.group()


def main() -> None:
    others: Counter[str] = Counter()
    ours = 0
    for file, report in reports(Path(sys.argv[1])):
        accesses = ACCESS.findall(report)
        # A report without accesses (a lock used wrongly, a leaked thread) is judged as a whole.
        if any(map(is_ours, accesses or [report])):
            ours += 1
            print(f"races: {file.name}: {brief(report, accesses)}\n")
        else:
            others[report.rsplit("SUMMARY: ThreadSanitizer: ", 1)[-1]] += 1
    for summary, count in others.most_common():
        print(f"races: not ours, {count} times: {summary}")
    print(f"races: {ours} of our own, {sum(others.values())} of the interpreter")
    sys.exit(ours > 0)


main()
