"""The modules of the audited code: which file an import means.

Files of the run are known beforehand. A module outside the run but inside the
project (a pre-commit hook names only the changed files) is looked for on disk,
so that the answer does not depend on which part of the tree was asked about.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

_PROJECT_MARKS = (".git", ".hg", "pyproject.toml", "setup.py", "setup.cfg")


class Module(NamedTuple):
    """A module or package: *stem* is its path without ``.py``, *path* its file, or "" for a bare folder."""

    stem: str
    path: str


class Tree:
    """Finds modules. *files* are absolute paths of the run, *roots* its folders."""

    def __init__(self, files: Iterable[str], roots: Iterable[str]) -> None:
        self._stems: dict[str, str] = {}
        self._folders: set[str] = set()
        self._by_last: dict[str, list[str]] = {}
        self._found: dict[tuple[str, int, str], Module | None] = {}
        self._roots = [project_root(root) for root in roots]
        self._tops = list(dict.fromkeys([*self._roots, *(os.path.abspath(root) for root in roots)]))
        for path in files:
            stem = stem_of(path)
            if path.endswith("__init__.py") or stem not in self._stems:
                self._stems[stem] = path
            self._by_last.setdefault(os.path.basename(stem), []).append(stem)
            folder = os.path.dirname(path)
            while folder not in self._folders:
                self._folders.add(folder)
                folder = os.path.dirname(folder)

    def find(self, importer: str, level: int, module: str) -> Module | None:
        """What ``from <level dots><module>`` means in the file *importer*; None if it is not of the tree."""
        folder = os.path.dirname(importer)
        key = (folder, level, module)
        if key not in self._found:
            self._found[key] = self._find(folder, level, module)
        return self._found[key]

    def child(self, module: Module, name: str) -> Module | None:
        """The submodule *name* of the package *module*."""
        if module.path and not module.path.endswith("__init__.py"):
            return None
        return self._at(os.path.join(module.stem, name))

    def member(self, importer: str, level: int, module: str, name: str) -> Module | None:
        """The module that ``from <level dots><module> import <name>`` means, if it means one."""
        package = self.find(importer, level, module)
        if package is not None:
            return self.child(package, name)
        # Of a top-level package that is found nowhere, what is in it may be.
        return None if level else self.find(importer, 0, f"{module}.{name}")

    def _find(self, folder: str, level: int, module: str) -> Module | None:
        parts = module.split(".") if module else []
        if level:
            for _ in range(level - 1):
                folder = os.path.dirname(folder)
            return self._at(os.path.join(folder, *parts))
        if not parts or parts[0] in sys.stdlib_module_names:
            return None
        for root in self._import_roots(folder):
            found = self._at(os.path.join(root, *parts))
            if found is not None:
                return found
        return self._by_suffix(parts) if len(parts) > 1 else None

    def _import_roots(self, folder: str) -> Iterable[str]:
        top = next((root for root in self._tops if _inside(folder, root)), folder)
        packages: list[str] = []
        current = folder
        while True:
            if self._is_package(current):
                packages.append(current)
            else:
                yield current
            if current == top or os.path.dirname(current) == current:
                break
            current = os.path.dirname(current)
        for root in self._tops:
            yield root
            yield os.path.join(root, "src")
        # A script inside a package sees its neighbours as top-level modules.
        yield from packages

    def _is_package(self, folder: str) -> bool:
        return self._stems.get(folder, "").endswith("__init__.py") or os.path.isfile(
            os.path.join(folder, "__init__.py")
        )

    def _at(self, stem: str) -> Module | None:
        path = self._stems.get(stem)
        if path is not None:
            return Module(stem, path)
        for candidate in (os.path.join(stem, "__init__.py"), stem + ".py"):
            if os.path.isfile(candidate) and any(_inside(candidate, top) for top in self._tops):
                self._stems[stem] = candidate
                return Module(stem, candidate)
        return Module(stem, "") if stem in self._folders else None

    def _by_suffix(self, parts: list[str]) -> Module | None:
        tail = os.sep + os.path.join(*parts)
        found = [stem for stem in self._by_last.get(parts[-1], ()) if stem.endswith(tail)]
        if not found:
            return None
        # Several copies of one package: the one nearest the top is the code, the others are fixtures.
        found.sort(key=lambda stem: (stem.count(os.sep), stem))
        return Module(found[0], self._stems[found[0]])


def stem_of(path: str) -> str:
    """The path of a module without its suffix; of a package's ``__init__.py``, its folder."""
    folder, name = os.path.split(path)
    return folder if name == "__init__.py" else os.path.splitext(path)[0]


def project_root(path: str) -> str:
    """The nearest folder at or above *path* that looks like a project, else *path*'s outermost non-package folder."""
    start = os.path.abspath(path)
    if not os.path.isdir(start):
        start = os.path.dirname(start)
    current = start
    while True:
        if any(os.path.exists(os.path.join(current, mark)) for mark in _PROJECT_MARKS):
            return current
        parent = os.path.dirname(current)
        if parent == current:
            break
        current = parent
    while os.path.isfile(os.path.join(start, "__init__.py")) and os.path.dirname(start) != start:
        start = os.path.dirname(start)
    return start


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
