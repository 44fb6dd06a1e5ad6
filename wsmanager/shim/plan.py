"""Which files are to be written, and whether they may be."""

from __future__ import annotations

import keyword
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .._shims import is_shim
from . import text

__all__ = ["MODULES", "File", "Plan", "make_plan", "write"]

MODULES: Final = (
    "agent_websocket_bridge",
    "canonical_import_patterns",
    "manager",
    "unified_manager",
    "websocket_manager",
    "websocket_manager_factory",
    "websocket_ssot",
)
"""The modules of a package that had the manager before, as far as is known."""

Action = Literal["write", "update", "replace", "unchanged", "kept", "refused"]


class File(NamedTuple):
    """One file of a plan: *why* says what is in the way of one that is refused."""

    path: Path
    text: str
    action: Action
    why: str = ""


class Plan(NamedTuple):
    """What is to be done."""

    files: list[File]

    @property
    def refused(self) -> list[File]:
        """The files that are somebody else's; while there are any, nothing is written."""
        return [file for file in self.files if file.action == "refused"]


def make_plan(
    folder: str | os.PathLike[str],
    package: str,
    modules: Iterable[str] = (),
    *,
    defaults: bool = True,
    force: bool = False,
    keep: bool = False,
) -> Plan:
    """What is to be written under *folder* so that the legacy paths can be imported.

    :param folder: a folder of ``sys.path``: the one the top package is in.
    :param package: the dotted name of the package that had the manager.
    :param modules: more modules: below *package*, or full dotted names in its top package.
    :param defaults: whether :data:`MODULES` are written too.
    :param force: replace files that are somebody else's.
    :param keep: leave those as they are, and write the others.
    :raises ValueError: for a name that cannot be imported, or that would hide another package.
    :raises NotADirectoryError: *folder* is none.
    """
    top = Path(folder)
    if not top.is_dir():
        raise NotADirectoryError(f"{top} is not a folder")
    _check_name(package)
    texts: dict[Path, str] = {}
    names = [_full_name(package, name) for name in [*(MODULES if defaults else ()), *modules]]
    for name in [package, *names]:
        parts = name.split(".")
        for length in range(1, len(parts)):
            above = top.joinpath(*parts[:length])
            if not above.exists():  # one that exists may be a namespace package, and stays one
                texts.setdefault(above / "__init__.py", text.parent())
    texts[_path(top, package) / "__init__.py"] = text.package(package)
    for name in names:
        texts[_path(top, name).with_suffix(".py")] = text.module(name)
    return Plan([_file(path, content, force, keep) for path, content in sorted(texts.items())])


def write(plan: Plan) -> None:
    """Write the files of *plan*, each in one step.

    :raises ValueError: some are refused; nothing is written.
    :raises OSError: one cannot be written; those before it are.
    """
    if plan.refused:
        raise ValueError(f"{len(plan.refused)} files are not ours to write")
    for file in plan.files:
        if file.action not in ("write", "update", "replace"):
            continue
        file.path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
                out.write(file.text)
            os.chmod(temporary, _mode())
            os.replace(temporary, file.path)
        except BaseException:
            os.unlink(temporary)
            raise


def _mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _file(path: Path, content: str, force: bool, keep: bool) -> File:
    beside = path.with_suffix("")
    if path.name != "__init__.py" and beside.is_dir():
        return File(path, content, "refused", f"the package {beside.name} would hide it")
    blocking = next((each for each in path.parents if each.exists() and not each.is_dir()), None)
    if blocking is None and path.parent.with_suffix(".py").is_file() and not path.parent.is_dir():
        blocking = path.parent.with_suffix(".py")
    if blocking is not None:
        return File(path, content, "refused", f"{blocking} is in the way")
    if not os.path.lexists(path):
        return File(path, content, "write")
    try:
        data = path.read_bytes()
    except OSError as error:
        return File(path, content, "refused", f"cannot be read: {error.strerror or error}")
    if data == content.encode():
        return File(path, content, "unchanged")
    if is_shim(data):
        return File(path, content, "update")
    if force:
        return File(path, content, "replace")
    if keep:
        return File(path, content, "kept")
    return File(path, content, "refused", "it is there, and not written by wsmanager shim")


def _path(top: Path, name: str) -> Path:
    return top.joinpath(*name.split("."))


def _full_name(package: str, name: str) -> str:
    first = package.partition(".")[0]
    full = name if name.startswith(first + ".") else f"{package}.{name}"
    _check_name(full)
    return full


def _check_name(name: str) -> None:
    for part in name.split("."):
        if not part.isidentifier() or keyword.iskeyword(part):
            raise ValueError(f"{name!r} is not a dotted name: {part!r} cannot be imported")
    first = name.partition(".")[0]
    if first == "wsmanager" or first in sys.stdlib_module_names:
        raise ValueError(f"{name!r} would hide the package {first}")
