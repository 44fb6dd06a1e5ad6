"""``wsmanager audit``: find wrong awaits of the factory, and what goes with them."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import Final

from .._version import __version__
from .findings import Report
from .report import FORMATS, as_github, as_json, as_text, counts
from .rules import RULES, explain
from .run import audit
from .sarif import as_sarif
from .settings import FIX_STYLES, Settings, UsageError, load, rule_ids

_INTERVAL: Final = 0.1  # seconds between two drawings of the progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Reads Python files without importing them and reports wrong awaits of the WebSocket manager "
        "factory and what usually goes with them. Exit status: 0 nothing found, 1 findings, 2 wrong usage."
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files and folders")
    parser.add_argument("--fix", action="store_true", help="mend what is fixable, in place")
    parser.add_argument(
        "--diff",
        action="store_true",
        help="show what --fix changes; without --fix nothing is written",
    )
    parser.add_argument(
        "--fix-style",
        choices=FIX_STYLES,
        help="sync drops the await; async calls the asynchronous factory instead (default: sync)",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument(
        "--select",
        action="append",
        metavar="IDS",
        help="only these rules, by id or prefix, comma-separated",
    )
    parser.add_argument("--ignore", action="append", metavar="IDS", help="not these rules")
    parser.add_argument(
        "--exclude",
        action="append",
        metavar="GLOB",
        help="leave out what matches; adds to the configuration",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a TOML file with a [tool.wsmanager] table"
    )
    parser.add_argument(
        "--no-syntax-check",
        action="store_true",
        help="do not look for syntax errors in files that no rule can be about: the same findings, sooner",
    )
    parser.add_argument("--explain", metavar="ID", help="say what a rule is about, and exit")
    parser.add_argument(
        "--jobs", "-j", type=_jobs, metavar="N", help="processes (default: one a processor)"
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="findings only")
    volume.add_argument(
        "-v", "--verbose", action="store_true", help="list every file that was not audited"
    )


def run(options: argparse.Namespace) -> int:
    """Carry the command out; the exit status."""
    try:
        return _run(options)
    except UsageError as error:
        sys.stderr.write(_printable(f"wsmanager audit: {error}\n", sys.stderr.encoding))
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.explain:
        ids = sorted(rule_ids(options.explain, "--explain"))
        sys.stdout.write("\n".join(explain(RULES[rule]) for rule in ids))
        return 0
    if not options.paths:
        raise UsageError("nothing to audit: give at least one PATH")
    settings = _settings(options)
    with _Progress(shown=not options.quiet and sys.stderr.isatty()) as progress:
        report = audit(
            options.paths,
            settings,
            fix=options.fix,
            diff=options.diff,
            jobs=options.jobs,
            progress=progress,
        )
    # A report that is to be read by a program must not have a diff in it.
    diffs = sys.stdout if options.format == "text" else sys.stderr
    for text in report.diffs:
        diffs.write(_printable(text, diffs.encoding))
    sys.stdout.write(_printable(_formatted(report, options), sys.stdout.encoding))
    return 1 if report.failed or any(map(counts, report.findings)) else 0


def _settings(options: argparse.Namespace) -> Settings:
    settings = load(options.paths, options.config)
    if options.select:
        settings = replace(settings, select=rule_ids(",".join(options.select), "--select"))
    if options.ignore:
        ignored = settings.ignore | rule_ids(",".join(options.ignore), "--ignore")
        settings = replace(settings, ignore=ignored)
    if options.exclude:
        settings = replace(settings, exclude=(*settings.exclude, *options.exclude))
    if options.no_syntax_check:
        settings = replace(settings, syntax_check=False)
    if options.fix_style:
        settings = replace(settings, fix_style=options.fix_style)
    return settings


def _formatted(report: Report, options: argparse.Namespace) -> str:
    if options.format == "json":
        return as_json(report)
    if options.format == "github":
        return as_github(report)
    if options.format == "sarif":
        return as_sarif(report, __version__)
    return as_text(report, quiet=options.quiet, verbose=options.verbose)


def _printable(text: str, encoding: str | None) -> str:
    # File names need not be text in the terminal's encoding.
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _jobs(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("at least one process")
    return number


class _Progress:
    """A line on the terminal that counts files, gone when the work is done."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._last = 0.0
        self._width = 0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._shown or (now - self._last < _INTERVAL and done < total):
            return
        self._last = now
        text = f"{done:,} of {total:,} files"
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = max(self._width, len(text))
