"""Mends wrong awaits in a file's text, and nothing else.

An edit replaces a few characters and knows the same change to the syntax tree.
Before anything is written, the new text is parsed and compiled, and its tree
must equal the old one with exactly those changes; otherwise it is refused.
"""

from __future__ import annotations

import ast
import difflib
import os
import stat
import tempfile
import warnings
from typing import NamedTuple

from .findings import Finding
from .names import Names
from .rename import async_edits
from .resolve import Kind, Resolver
from .source import Source, Unparsed, parse
from .surgery import Edit, Surgery


class Plan(NamedTuple):
    """A verified change of one file: its new text and bytes, and the findings that it mends."""

    text: str
    data: bytes
    findings: list[Finding]


def plan(
    source: Source, path: str, findings: list[Finding], style: str, names: Names, resolver: Resolver
) -> Plan | None:
    """The change that mends as many of *findings* as it safely can; None for none at all."""
    candidates = [finding for finding in findings if _is_sure(finding)]
    if not candidates or not source.reversible:
        return None
    try:
        if style == "async":
            tree = source.parse()
            groups = async_edits(source, tree, path, candidates, names, resolver)
        else:
            groups = [(finding, drop_await(source, finding)) for finding in candidates]
        usable = [(finding, edits) for finding, edits in groups if edits]
        made = _verified(source, usable)
        if made is None and len(usable) > 1:
            # One of them does not work: find out which, and leave it alone.
            usable = [item for item in usable if _verified(source, [item]) is not None]
            made = _verified(source, usable)
        return made
    except (Unparsed, RecursionError):
        return None


def _is_sure(finding: Finding) -> bool:
    thing = finding.thing
    return (
        finding.rule == "WSM001"
        and not finding.site.expected
        and thing is not None
        and thing.kind is Kind.MANAGER
        and thing.certain
    )


def drop_await(source: Source, finding: Finding) -> list[Edit]:
    """The edit that takes an ``await`` and the blanks after it away; empty where there is none to take."""
    site = finding.site
    if site.kind != "await":
        return []
    start = source.index(site.line, site.column)
    end = start + len("await")
    if source.text[start:end] != "await":
        return []  # positions inside f-strings are wrong before Python 3.12
    while end < len(source.text) and source.text[end] in " \t\f":
        end += 1
    return [Edit(start, end, "", Surgery("unawait", site.line, site.column, ""))]


def _verified(source: Source, groups: list[tuple[Finding, list[Edit]]]) -> Plan | None:
    if not groups:
        return None
    edits = sorted({edit for _, group in groups for edit in group})
    text = apply(source.text, edits)
    if text is None or text == source.text:
        return None
    try:
        data = source.encode(text)
        expected = source.parse()
        for edit in edits:
            if edit.surgery is not None:
                expected = edit.surgery.operate(expected)
        if not _same(parse(text), expected):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(data, source.path, "exec", dont_inherit=True)
    except (Unparsed, SyntaxError, ValueError, UnicodeError, RecursionError, MemoryError):
        return None
    return Plan(text, data, [finding for finding, _ in groups])


def _same(one: object, other: object) -> bool:
    """Whether two trees are equal but for positions, as by :func:`ast.dump`, without writing them out."""
    pending = [(one, other)]
    while pending:
        a, b = pending.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, ast.AST):
            pending += [(getattr(a, name, None), getattr(b, name, None)) for name in a._fields]
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            pending += zip(a, b, strict=True)
        elif a is not b and repr(a) != repr(b):  # 0.0 and -0.0 are equal, and not the same
            return False
    return True


def apply(text: str, edits: list[Edit]) -> str | None:
    """*text* with the sorted *edits* made; None if two of them overlap."""
    parts: list[str] = []
    position = 0
    for edit in edits:
        if edit.start < position:
            return None
        parts += [text[position : edit.start], edit.text]
        position = edit.end
    parts.append(text[position:])
    return "".join(parts)


def diff(source: Source, text: str, shown: str) -> str:
    """A unified diff of the change, with the file's own line ends."""
    lines = difflib.unified_diff(
        _lines(source.text), _lines(text), f"a/{shown}", f"b/{shown}", lineterm="\n"
    )
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines
    )


def _lines(text: str) -> list[str]:
    # Not splitlines(): that also splits at form feeds, which are no line ends in Python.
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def write(path: str, old: bytes, new: bytes) -> None:
    """Put *new* in the place of *old* in one step, with the file's mode and owner.

    OSError if the file may not be written, cannot be, or is no longer *old*.
    """
    if not os.access(path, os.W_OK):
        raise PermissionError(13, "the file is read-only")
    status = os.stat(path)
    folder, name = os.path.split(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, stat.S_IMODE(status.st_mode))
        made = os.stat(temporary)
        if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid) and hasattr(os, "chown"):
            os.chown(temporary, status.st_uid, status.st_gid)
            os.chmod(temporary, stat.S_IMODE(status.st_mode))  # chown clears set-id bits
        with open(path, "rb") as current:
            if current.read() != old:
                raise OSError("the file has changed meanwhile")
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
