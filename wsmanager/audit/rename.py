"""``--fix-style async``: call the asynchronous factory instead, and mend the import that brings it."""

from __future__ import annotations

import ast

from .findings import Finding
from .names import Names
from .resolve import Kind, Resolver
from .source import Source
from .surgery import Edit, Surgery
from .values import Ref


def async_edits(
    source: Source,
    tree: ast.Module,
    path: str,
    findings: list[Finding],
    names: Names,
    resolver: Resolver,
) -> list[tuple[Finding, list[Edit]]]:
    """The edits of each finding; none where the call or its import is not plain enough."""
    calls = _calls(tree, findings)
    uses: dict[str, list[ast.Call]] = {}
    for call in calls.values():
        if isinstance(call.func, ast.Name):
            uses.setdefault(call.func.id, []).append(call)
    maker = _Maker(source, tree, path, names, resolver)
    imports = {name: maker.imports(name, called) for name, called in uses.items()}
    result: list[tuple[Finding, list[Edit]]] = []
    for finding in findings:
        found = calls.get(id(finding))
        if found is None:
            result.append((finding, []))
        elif isinstance(found.func, ast.Name):
            mended = imports[found.func.id]
            edits = [maker.rename(found.func, mended[0]), *mended[1]] if mended else []
            result.append((finding, edits))
        else:
            result.append((finding, maker.attribute(found.func)))
    return result


def _calls(tree: ast.Module, findings: list[Finding]) -> dict[int, ast.Call]:
    """The call of each finding that is one: the awaited one, or the one handed over."""
    wanted = {(f.site.kind, f.site.line, f.site.column): f for f in findings}
    found: dict[int, ast.Call] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            finding = wanted.get(("await", node.lineno, node.col_offset))
            if finding is not None:
                found[id(finding)] = node.value
        elif isinstance(node, ast.Call):
            finding = wanted.get(("consume", node.lineno, node.col_offset))
            if finding is not None and node.end_lineno == finding.site.end_line:
                found.setdefault(id(finding), node)
    return found


class _Maker:
    def __init__(
        self, source: Source, tree: ast.Module, path: str, names: Names, resolver: Resolver
    ) -> None:
        self._source = source
        self._tree = tree
        self._path = path
        self._names = names
        self._resolver = resolver

    def _counterpart(self, name: str) -> str | None:
        if name not in self._names.factories:
            return None
        if f"{name}_async" in self._names.async_factories:
            return f"{name}_async"
        only = list(self._names.async_factories)
        return only[0] if len(only) == 1 else None

    def rename(self, node: ast.Name, new: str) -> Edit:
        """Call *new* instead of *node*."""
        start = self._source.index(node.lineno, node.col_offset)
        surgery = Surgery("rename", node.lineno, node.col_offset, new)
        return Edit(start, start + len(node.id), new, surgery)

    def attribute(self, node: ast.expr) -> list[Edit]:
        """Call the counterpart of a module's attribute; nothing for an object's, which may have none."""
        if (
            not isinstance(node, ast.Attribute)
            or node.end_lineno is None
            or node.end_col_offset is None
        ):
            return []
        new = self._counterpart(node.attr)
        module = self._module(node.value)
        if new is None or module is None or not self._has(module, new):
            return []
        end = self._source.index(node.end_lineno, node.end_col_offset)
        start = end - len(node.attr)
        if self._source.text[start:end] != node.attr:
            return []
        return [
            Edit(start, end, new, Surgery("attribute", node.end_lineno, node.end_col_offset, new))
        ]

    def _module(self, node: ast.expr) -> Ref | None:
        """The module that a plain name stands for, if the file imports it under that name only."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        found: set[Ref] = set()
        for statement in ast.walk(self._tree):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    if (alias.asname == node.id and not parts) or (
                        alias.asname is None and alias.name == ".".join([node.id, *parts])
                    ):
                        found.add(Ref(0, alias.name, ""))
            elif isinstance(statement, ast.ImportFrom) and not parts:
                for alias in statement.names:
                    if (alias.asname or alias.name) == node.id:
                        found.add(Ref(statement.level, statement.module or "", alias.name))
        return found.pop() if len(found) == 1 else None

    def _has(self, module: Ref, name: str) -> bool:
        thing = self._resolver.thing(module, self._path)
        if thing.kind is not Kind.MODULE:
            return False
        found = self._resolver.attribute(thing, name, self._path)
        return found.kind is Kind.COROUTINE and (found.in_tree or not thing.in_tree)

    def imports(self, name: str, called: list[ast.Call]) -> tuple[str, list[Edit]] | None:
        """The new name to call, and the edits of every import that binds *name*; None to refuse."""
        bound = self._bound(name)
        if bound is None:
            return None
        originals = {alias.name for _, alias in bound}
        new = self._counterpart(originals.pop()) if len(originals) == 1 else None
        if new is None:
            return None
        local = new if all(alias.asname is None for _, alias in bound) else f"{name}_async"
        text = new if local == new else f"{new} as {local}"
        alone = self._only_called(name, called)
        edits: list[Edit] = []
        for statement, alias in bound:
            module = Ref(statement.level, statement.module or "", "")
            if not self._has(module, new):
                return None
            if any((other.asname or other.name) == local for other in statement.names):
                continue
            edits.append(self._import(alias, text, alone))
        return local, edits

    def _import(self, alias: ast.alias, text: str, alone: bool) -> Edit:
        end_line, end_column = (
            alias.end_lineno or alias.lineno,
            alias.end_col_offset or alias.col_offset,
        )
        start = self._source.index(alias.lineno, alias.col_offset)
        end = self._source.index(end_line, end_column)
        if alone:
            return Edit(start, end, text, Surgery("import", alias.lineno, alias.col_offset, text))
        return Edit(end, end, f", {text}", Surgery("also", alias.lineno, alias.col_offset, text))

    def _bound(self, name: str) -> list[tuple[ast.ImportFrom, ast.alias]] | None:
        """The imports that bind *name*, if nothing else in the file does."""
        found: list[tuple[ast.ImportFrom, ast.alias]] = []
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ImportFrom):
                found += [
                    (node, alias) for alias in node.names if (alias.asname or alias.name) == name
                ]
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if node.name == name:
                    return None
            elif (isinstance(node, ast.arg) and node.arg == name) or (
                isinstance(node, ast.Name)
                and node.id == name
                and not isinstance(node.ctx, ast.Load)
            ):
                return None
        return found or None

    def _only_called(self, name: str, called: list[ast.Call]) -> bool:
        """Whether the wrong calls are all that the file does with *name*."""
        functions = {id(call.func) for call in called}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Name) and node.id == name and id(node) not in functions:
                return False
            if isinstance(node, ast.Constant) and node.value == name:
                return False  # most likely __all__ or getattr
        return not self._path.endswith("__init__.py")
