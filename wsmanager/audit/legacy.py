"""Imports of what ``wsmanager shim`` wrote, and what each is replaced by.

A shim is known by its first line, and says itself where its names come from:
its own text is the table. The packages above, which hold nothing, are none.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Container, Iterable
from typing import Final, NamedTuple

from .._shims import HEADER, is_shim
from . import source
from .tree import Module, Tree
from .values import Ref

_HEAD: Final = len(HEADER.encode())
_PACKAGE: Final = "wsmanager"


class Replacement(NamedTuple):
    """What a name of a shim becomes: ``from home import what``, and perhaps a line more."""

    home: str
    what: str
    line: str = ""


Table = dict[str, Replacement]


def tables(paths: Iterable[str]) -> dict[str, Table]:
    """The table of each shim among the files *paths*. Of all others only the first bytes are read."""
    found = {}
    for path in paths:
        known = _table_of(path)
        if known:
            found[path] = known
    return found


def _table_of(path: str) -> Table:
    """The table of the file *path*; empty if it is no shim, or one that holds nothing."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return {}  # the index pass says why
    try:
        if not is_shim(os.read(file, _HEAD)):
            return {}
    except OSError:
        return {}
    finally:
        os.close(file)
    try:
        return _read(source.read(path).parse())
    except source.Unparsed:
        return {}


def _read(module: ast.Module) -> Table:
    table: Table = {}
    aliases: list[tuple[str, ast.expr]] = []
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and _ours(node.module or ""):
            for alias in node.names:
                table[alias.asname or alias.name] = Replacement(node.module or "", alias.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if isinstance(node.value, ast.Name):
                aliases.append((node.targets[0].id, node.value))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            aliases.append((node.target.id, node.value))
    for old, value in aliases:
        names = [item.id for item in ast.walk(value) if isinstance(item, ast.Name)]
        if len(names) != 1 or names[0] not in table:
            continue
        new = table[names[0]]
        if isinstance(value, ast.Name):
            table[old] = new._replace(what=f"{new.what} as {old}")
        else:
            line = f"{old} = {ast.unparse(value)}".replace("'", '"')
            table[old] = new._replace(line=line)
    return table


def _ours(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE


def advice(replacements: Iterable[Replacement]) -> str:
    """The imports, one a module, to write instead."""
    homes: dict[str, list[str]] = {}
    lines: list[str] = []
    for item in replacements:
        names = homes.setdefault(item.home, [])
        if item.what not in names:
            names.append(item.what)
        if item.line:
            lines.append(item.line)
    news = [f"from {home} import {', '.join(names)}" for home, names in homes.items()]
    return "; ".join([*news, *lines])


class Legacy:
    """Knows which imports are of shims. *known* are those of the run, whose files are *files*.

    Of one outside the run, as where a hook names only the changed files, the
    table is read when it is first imported.
    """

    def __init__(self, tree: Tree, known: dict[str, Table], files: Container[str]) -> None:
        self._tree = tree
        self._tables = dict(known)
        self._files = files

    def told(self, path: str, ref: Ref, names: tuple[str, ...]) -> str:
        """What is to be said of importing *names* from *ref* in the file *path*; "" for nothing.

        Without names it is the module that is imported.
        """
        module = self._tree.find(path, ref.level, ref.module)
        label = "." * ref.level + ref.module
        table = self._table(module)
        head, _, last = ref.module.rpartition(".")
        if module is None and head and self._table(self._tree.find(path, ref.level, head)):
            return f"{label[: -len(last) - 1]} is a legacy path, and has no {last}"
        if not names or "*" in names:
            return _of_module(label) if table else ""
        said: list[str] = []
        old = [name for name in names if name in table]
        if old:
            news = advice(table[name] for name in old)
            said.append(f"{label} is a legacy path of {', '.join(old)}: {news}")
        for name in names:
            child = None if name in table else self._tree.member(path, ref.level, ref.module, name)
            if self._table(child):
                said.append(
                    _of_module(f"{label}{name}" if label.endswith(".") else f"{label}.{name}")
                )
            elif table and child is None and name not in table:
                said.append(f"{label} is a legacy path, and has no {name}")
        return "; ".join(said)

    def named(self, path: str, text: str) -> str:
        """What is to be said of the dotted *text*, as ``import_module`` or ``patch`` takes it."""
        parts = text.split(".")
        for length in range(len(parts), 0, -1):
            table = self._table(self._tree.find(path, 0, ".".join(parts[:length])))
            if not table:
                continue
            old = parts[length : length + 1]
            if old and old[0] in table:
                return f"{text} is on a legacy path: {advice([table[old[0]]])}"
            return _of_module(".".join(parts[:length]))
        return ""

    def _table(self, module: Module | None) -> Table:
        path = module.path if module else ""
        if path not in self._tables:
            outside = path and path not in self._files
            self._tables[path] = _table_of(path) if outside else {}
        return self._tables[path]


def _of_module(label: str) -> str:
    return f"{label} is a legacy path: import what is used of it from {_PACKAGE}"
