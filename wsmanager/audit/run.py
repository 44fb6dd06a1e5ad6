"""One run of the audit: index, resolve, report, and mend where asked to."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Final

from . import fix as fixing
from . import shims, source
from .checks import LEGACY_IMPORT, UNUSED_SHIM, Checker, unused_shim
from .facts import Facts, extract, is_whole, load
from .files import File, collect
from .findings import Finding, Report, UnparsedFile
from .legacy import Legacy, tables
from .names import Patterns
from .pool import Progress, index
from .resolve import Resolver, Summary
from .settings import Settings
from .tree import Tree, stem_of

_NOQA: Final = re.compile(
    r"#\s*noqa(?P<codes>\s*:\s*(?P<list>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*))?", re.IGNORECASE
)


def audit(
    paths: Iterable[str | os.PathLike[str]],
    settings: Settings | None = None,
    *,
    fix: bool = False,
    diff: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
    start_method: str | None = None,
) -> Report:
    """Audit every Python file of *paths*; nothing of them is imported or run.

    :param fix: write the files in which something is fixable.
    :param diff: fill ``report.diffs`` with what *fix* changes or would change.
    :param jobs: processes, None for one a processor.
    :param progress: called with the number of files done and of all.
    :raises UsageError: a path that does not exist.
    """
    started = time.perf_counter()
    settings = settings or Settings()
    run = _Run(settings, [os.fspath(path) for path in paths])
    with _no_collection():
        run.index(jobs, progress, start_method)
        report = run.resolve()
        if fix or diff:
            run.mend(report, write=fix, show=diff)
    report.seconds = round(time.perf_counter() - started, 3)
    return report


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without the cyclic collector: the facts of a large tree are many objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Run:
    def __init__(self, settings: Settings, paths: list[str]) -> None:
        self.settings = settings
        self.found = collect(paths, settings.exclude)
        self.facts: dict[str, Facts] = {}
        self._tables = tables(file.path for file in self._with_legacy_imports())
        self.names = settings.names._replace(shims=_named(self._tables))
        self.patterns = Patterns(self.names)
        self._shown = {file.path: file.shown for file in self.found.files}
        self._summaries: dict[str, Summary | None] = {}
        self._base = os.getcwd()
        self._resolver: Resolver | None = None

    def index(self, jobs: int | None, progress: Progress | None, method: str | None) -> None:
        paths = [file.path for file in self.found.files]
        for facts in index(paths, self.names, jobs, progress, method):
            self.facts[facts.path] = facts

    def _with_legacy_imports(self) -> list[File]:
        """The files of the run, if their imports of shims are asked for."""
        wants = self.settings.wants
        wanted = any(wants(LEGACY_IMPORT, file.shown) for file in self.found.files)
        return self.found.files if wanted else []

    def shown(self, path: str) -> str:
        """*path* as the user would write it."""
        if path in self._shown:
            return self._shown[path]
        inside = path.startswith(self._base + os.sep)
        return os.path.relpath(path, self._base) if inside else path

    def summary(self, path: str) -> Summary | None:
        """The summary of a module; one outside the run is indexed when it is first asked for."""
        if path not in self._summaries:
            facts = self.facts.get(path)
            if facts is None or not is_whole(facts):
                facts = extract(path, self.patterns, whole=True)
            self._summaries[path] = load(facts)
        return self._summaries[path]

    def resolve(self) -> Report:
        facts = [self.facts[file.path] for file in self.found.files]
        names = self.settings.names
        tree = Tree(self.facts, self.found.roots)
        self._resolver = Resolver(
            tree,
            self.summary,
            names.factories,
            names.async_factories,
            [definition for fact in facts for definition in fact.definitions],
            self.patterns.is_manager_class,
        )
        classes = [item for fact in facts for item in fact.classes]
        legacy = Legacy(tree, self._tables, self.facts)
        checker = Checker(self._resolver, names, classes, legacy, self.shown)
        unparsed = [UnparsedFile(path, reason) for path, reason in self.found.unreadable]
        report = Report([], len(facts), unparsed)
        idle = self._idle_shims(facts, tree)
        for file, fact in zip(self.found.files, facts, strict=True):
            if fact.reason:
                report.unparsed.append(UnparsedFile(file.shown, fact.reason, fact.line))
            findings = [
                finding
                for site in fact.sites
                for finding in checker.check(site, file.path)
                if self.settings.wants(finding.rule, file.shown)
            ]
            if file.path in idle:
                findings.append(unused_shim(file.path))
            if findings:
                report.findings += self._located(file, findings, report)
        return report

    def _idle_shims(self, facts: list[Facts], tree: Tree) -> set[str]:
        found = {fact.path for fact in facts if fact.shim}
        wanted = {
            file.path
            for file in self.found.files
            if file.path in found and self.settings.wants(UNUSED_SHIM, file.shown)
        }
        if not wanted:
            return set()
        files = [file.path for file in self.found.files]
        return wanted.intersection(shims.unused(found, files, self.found.roots, tree))

    def _located(self, file: File, findings: list[Finding], report: Report) -> list[Finding]:
        """The findings with columns as people count them, less those that a comment silences."""
        try:
            text = source.read(file.path)
        except source.Unparsed as error:  # changed since it was indexed
            report.unparsed.append(UnparsedFile(file.shown, error.reason, error.line))
            return []
        kept: list[Finding] = []
        for finding in findings:
            site = finding.site
            if _silenced(text, finding):
                report.suppressed += 1
                continue
            finding.path = file.shown
            finding.column = text.column(site.line, site.column) + 1
            finding.end_column = text.column(site.end_line, site.end_column) + 1
            kept.append(finding)
        kept.sort(key=lambda finding: (finding.line, finding.column, finding.rule))
        if any(finding.rule == "WSM001" for finding in kept):
            plan = self._plan(text, file.path, kept)
            for finding in plan.findings if plan else ():
                finding.fixable = True
        return kept

    def _plan(self, text: source.Source, path: str, findings: list[Finding]) -> fixing.Plan | None:
        assert self._resolver is not None
        names = self.settings.names
        return fixing.plan(text, path, findings, self.settings.fix_style, names, self._resolver)

    def mend(self, report: Report, *, write: bool, show: bool) -> None:
        """Fix what is fixable, file by file; a file that cannot be written is listed and stays as it was."""
        by_path: dict[str, list[Finding]] = {}
        for finding in report.findings:
            if finding.fixable:
                by_path.setdefault(finding.path, []).append(finding)
        for file in self.found.files:
            findings = by_path.get(file.shown)
            if not findings:
                continue
            try:
                text = source.read(file.path)
                plan = self._plan(text, file.path, findings)
                if plan is None:
                    continue
                if show:
                    report.diffs.append(fixing.diff(text, plan.text, file.shown))
                if write:
                    fixing.write(file.path, text.data, plan.data)
                    for finding in plan.findings:
                        finding.fixed = True
            except (source.Unparsed, OSError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                report.failed.append((file.shown, f"cannot be written: {reason}"))


def _named(shims: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Each of the files *shims* as the last two parts of its dotted name, one that may be all of it as such."""
    found = set()
    for path in shims:
        folder, word = os.path.split(stem_of(path))
        found.add((os.path.basename(folder), word))
        if not os.path.isfile(os.path.join(folder, "__init__.py")):
            found.add(("", word))
    return tuple(sorted(found))


def _silenced(text: source.Source, finding: Finding) -> bool:
    for number in range(finding.line, finding.end_line + 1):
        found = _NOQA.search(text.line(number))
        if found is None:
            continue
        codes = found.group("list")
        if codes is None or finding.rule in re.split(r"[\s,]+", codes.upper()):
            return True
    return False
