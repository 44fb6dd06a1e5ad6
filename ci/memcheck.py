"""Count the records of valgrind's memcheck that are ours.

Usage: memcheck.py LOG...

A record is ours as a leak is in leaks.py: one of our frames stands in its first
stack before any frame of the interpreter's evaluation loop. Blocks that are
still reachable at the end are no leak. Exits 1 if there is a record of ours.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PREFIX = re.compile(r"^==\d+== ?", re.MULTILINE)
KINDS = {
    "invalid": re.compile(r"Invalid (read|write|free)|Mismatched free|Source and destination"),
    "uninitialised": re.compile(r"uninitiali[sz]ed|unaddressable|unaddressible"),
    "lost": re.compile(r"(definitely|indirectly) lost in loss record"),
}
FRAME = re.compile(r"^\s+(?:at|by) 0x[0-9A-F]+: (.*)$", re.MULTILINE)
# Valgrind prints a file's name without its folder, or, without debug information, the library's.
SOURCES = {path.name for path in Path(__file__).parents[1].glob("src/_wsmanager/*.[ch]")}
PLACE = re.compile(r"\((?:in )?(?:[^()]*/)?([\w.-]+?)(?::\d+)?\)$")
INTERPRETER = re.compile(r"^_?PyEval_")


def is_our_frame(frame: str) -> bool:
    """Whether a frame is of our code: by its file, or by the library it is in."""
    place = PLACE.search(frame)
    name = place.group(1) if place else ""
    # CPython has files of the same names as some of ours: module.c, frame.c, state.c.
    ours = frame.startswith(("wsm_", "PyInit__wsmanager")) or name.startswith("_wsmanager.")
    return ours or (name in SOURCES and not frame.startswith(("_Py", "Py")))


def records(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each record of a log."""
    for record in re.split(r"\n\s*\n", PREFIX.sub("", text)):
        head = record.split("\n", 1)[0]
        for kind, pattern in KINDS.items():
            if pattern.search(head):
                yield kind, record


def is_ours(record: str) -> bool:
    """Whether our code made the access, or asked for the memory that is lost."""
    # What stands below such a line is where the block came from, or went.
    first = re.split(r"\n\s*Address 0x|\n\s*Uninitialised value was", record, maxsplit=1)[0]
    for frame in FRAME.findall(first):
        if INTERPRETER.match(frame):
            return False
        if is_our_frame(frame):
            return True
    return False


def main() -> None:
    ours: Counter[str] = Counter()
    others = 0
    for log in sys.argv[1:]:
        for kind, record in records(Path(log).read_text(errors="replace")):
            if is_ours(record):
                ours[kind] += 1
                print(f"memcheck: {record}\n")
            else:
                others += 1
    counts = ", ".join(f"{ours[kind]} {kind}" for kind in KINDS)
    print(f"memcheck: of our own: {counts}; {others} of the interpreter and of others")
    sys.exit(bool(ours))


main()
