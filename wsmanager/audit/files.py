"""Which files a run is about."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .settings import UsageError, matches

#: Folders that hold no code of the project's own. A virtual environment is known by its pyvenv.cfg.
_SKIPPED: Final = frozenset(
    ".git .hg .svn .bzr .tox .nox .eggs __pycache__ __pypackages__ node_modules site-packages "
    ".mypy_cache .pytest_cache .ruff_cache .hypothesis".split()
)
_SUFFIXES: Final = (".py", ".pyw")


class File(NamedTuple):
    """One file: *path* is absolute and real, *shown* is what the user sees."""

    path: str
    shown: str


class Found(NamedTuple):
    """The files of a run, the folders they were asked for by, and folders that could not be listed."""

    files: list[File]
    roots: list[str]
    unreadable: list[tuple[str, str]]


def collect(paths: Iterable[str], exclude: tuple[str, ...]) -> Found:
    """Every Python file of *paths*, once each. A path that does not exist is a :exc:`UsageError`.

    Links to folders are not followed, so that loops do no harm; a link to a
    file is, to the file itself, which counts once however many links it has.
    """
    found = Found([], [], [])
    seen: set[str] = set()
    for path in paths:
        if os.path.isdir(path):
            found.roots.append(os.path.realpath(path))
            for shown, real in _walk(path, exclude, found.unreadable):
                _add(found, seen, shown, real)
        elif os.path.lexists(path):
            found.roots.append(os.path.dirname(os.path.realpath(path)))
            _add(found, seen, path, os.path.realpath(path))
        else:
            raise UsageError(f"{path}: no such file or folder")
    found.files.sort(key=lambda file: file.shown)
    return found


def _add(found: Found, seen: set[str], shown: str, real: str) -> None:
    if real not in seen:
        seen.add(real)
        found.files.append(File(real, _tidy(shown)))


def _tidy(path: str) -> str:
    return path[2:] if path.startswith("." + os.sep) and len(path) > 2 else path


def _walk(
    top: str, exclude: tuple[str, ...], unreadable: list[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Each file below *top* as it is reached, and by its real path."""
    pending = [(top, os.path.realpath(top))]
    while pending:
        folder, real = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append((_tidy(folder), f"cannot be listed: {error.strerror or error}"))
            continue
        if folder != top and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            if any(matches(os.path.relpath(entry.path, top), pattern) for pattern in exclude):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED:
                    pending.append((entry.path, os.path.join(real, entry.name)))
            elif entry.name.endswith(_SUFFIXES) and not _is_folder(entry):
                # Only the last part can be a link: the folders were walked, not followed.
                link = entry.is_symlink()
                yield (
                    entry.path,
                    os.path.realpath(entry.path) if link else os.path.join(real, entry.name),
                )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads round in a circle: reading it will say so
