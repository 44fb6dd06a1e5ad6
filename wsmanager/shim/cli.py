"""``wsmanager shim``: write a package of legacy import paths."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from .._log import one_line
from .plan import MODULES, File, make_plan, write

_SAID: Final = {
    "write": ("written", "would be written"),
    "update": ("written anew", "would be written anew"),
    "replace": ("replaced", "would be replaced"),
    "unchanged": ("is as it should be", "is as it should be"),
    "kept": ("left as it is", "left as it is"),
    "refused": ("refused", "refused"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Writes modules at the paths that code imported its WebSocket manager from, which hold "
        "wsmanager's. Call sites need no change. Exit status: 0 done, 1 refused: something else is "
        "there, and nothing is written, 2 wrong usage."
    )
    parser.add_argument("folder", metavar="DIR", help="the folder that the top package is in")
    parser.add_argument(
        "--package", required=True, metavar="NAME", help="such as app.websocket_core"
    )
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="NAME",
        help="one more module: below the package, or a full dotted name in its top package; "
        f"always written are {', '.join(MODULES)}",
    )
    parser.add_argument("--only", action="store_true", help="only what --module names")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--force", action="store_true", help="replace files of others")
    others.add_argument("--keep", action="store_true", help="leave files of others as they are")


def run(options: argparse.Namespace) -> int:
    """Carry the command out; the exit status."""
    try:
        plan = make_plan(
            options.folder,
            options.package,
            options.module,
            defaults=not options.only,
            force=options.force,
            keep=options.keep,
        )
    except (ValueError, NotADirectoryError) as error:
        sys.stderr.write(f"wsmanager shim: {_shown(str(error))}\n")
        return 2
    failed = bool(plan.refused)
    if not (failed or options.dry_run):
        try:
            write(plan)
        except OSError as error:
            sys.stderr.write(f"wsmanager shim: {_shown(str(error))}\n")
            return 1
    for file in plan.files:
        sys.stdout.write(_line(file, done=not (failed or options.dry_run)))
    if failed:
        sys.stdout.write(
            "Nothing is written. --force replaces what is refused, --keep leaves it and writes the rest.\n"
        )
    return 1 if failed else 0


def _line(file: File, *, done: bool) -> str:
    said = _SAID[file.action][0 if done else 1]
    why = f": {file.why}" if file.why else ""
    return f"{_shown(str(file.path))} {said}{_shown(why)}\n"


def _shown(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return one_line(text, 1_000).encode(encoding, "backslashreplace").decode(encoding)
