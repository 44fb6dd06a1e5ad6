"""Which files of ``wsmanager shim`` nothing imports any more."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable

from . import source
from .names import DOTTED
from .tree import Module, Tree, project_root, stem_of


def unused(shims: set[str], files: Iterable[str], roots: Iterable[str], tree: Tree) -> list[str]:
    """Those of *shims* that no other of *files* imports, or names in a text as ``import_module`` takes it.

    All are absolute paths. Of a project that *roots*, the folders asked for, do
    not hold whole, nothing can be said, and none is listed. A file that does not
    parse imports whatever it mentions. A package goes with all that is in it.
    """
    files = list(files)
    tops = [os.path.realpath(root) for root in roots]
    left = {shim for shim in shims if _whole(shim, tops)}
    words = {shim: os.path.basename(stem_of(shim)).encode() for shim in left}
    for path in files:
        if not left:
            break
        if path in shims:
            continue
        try:
            found = source.read(path)
        except source.Unparsed:
            continue  # listed as such; there is no text to look at
        mentioned = {shim for shim in left if words[shim] in found.data}
        if not mentioned:
            continue
        try:
            module = found.parse()
        except source.Unparsed:
            left -= mentioned
            continue
        left -= _imported(module, path, tree)
    return sorted(shim for shim in left if _goes(shim, files, left))


def _goes(shim: str, files: list[str], left: set[str]) -> bool:
    folder, name = os.path.split(shim)
    inside = folder + os.sep
    return name != "__init__.py" or all(path in left for path in files if path.startswith(inside))


def _whole(shim: str, tops: list[str]) -> bool:
    root = project_root(shim)
    return any(root == top or root.startswith(top.rstrip(os.sep) + os.sep) for top in tops)


def _imported(module: ast.Module, path: str, tree: Tree) -> set[str]:
    """The files that *module* may import, with the packages around them."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _add(found, tree.find(path, 0, alias.name), tree)
        elif isinstance(node, ast.ImportFrom):
            target = tree.find(path, node.level, node.module or "")
            _add(found, target, tree)
            for alias in node.names:
                _add(found, tree.member(path, node.level, node.module or "", alias.name), tree)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            _named(found, node.value, path, tree)
    return found


def _named(found: set[str], text: str, path: str, tree: Tree) -> None:
    if len(text) > 300 or not DOTTED.fullmatch(text):
        return
    parts = text.split(".")
    # "a.b.c.name" of patch() as well: the module is a part of it.
    for length in range(len(parts), 0, -1):
        _add(found, tree.find(path, 0, ".".join(parts[:length])), tree)


def _add(found: set[str], module: Module | None, tree: Tree) -> None:
    if module is None:
        return
    found.add(module.path)
    folder = os.path.dirname(module.stem)
    while os.path.isfile(init := os.path.join(folder, "__init__.py")):
        found.add(init)
        folder = os.path.dirname(folder)
