"""What a run is told: the command line over ``[tool.wsmanager]`` over the defaults."""

from __future__ import annotations

import difflib
import fnmatch
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .names import Names
from .rules import RULES

FIX_STYLES: Final = ("sync", "async")


class UsageError(ValueError):
    """The command line or the configuration cannot be used; the message says why."""


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on besides the files.

    *select* and *ignore* are rule ids; *exclude* are glob patterns of paths;
    *per_file_ignores* maps such patterns to rule ids. Names are identifiers.
    *syntax_check* is whether files that no rule can be about are looked at for
    syntax errors; it changes no finding, only the list of files that do not parse.
    """

    select: frozenset[str] = frozenset(RULES)
    ignore: frozenset[str] = frozenset()
    exclude: tuple[str, ...] = ()
    per_file_ignores: Mapping[str, frozenset[str]] = field(default_factory=dict)
    factories: frozenset[str] = frozenset({"get_websocket_manager"})
    async_factories: frozenset[str] = frozenset({"get_websocket_manager_async"})
    manager_classes: tuple[str, ...] = ("*WebSocketManager", "*WebSocketManagerImplementation")
    legacy_modules: tuple[str, ...] = ()
    fix_style: str = "sync"
    syntax_check: bool = True

    @property
    def names(self) -> Names:
        """The part that the index pass needs."""
        return Names(
            self.factories,
            self.async_factories,
            self.manager_classes,
            self.legacy_modules,
            self.syntax_check,
        )

    def wants(self, rule: str, path: str) -> bool:
        """Whether findings of *rule* in *path* are asked for."""
        if rule not in self.select or rule in self.ignore:
            return False
        for pattern, rules in self.per_file_ignores.items():
            if rule in rules and matches(path, pattern):
                return False
        return True


def matches(path: str, pattern: str) -> bool:
    """Whether *path*, any of its parts or any of its trailing parts fits the glob *pattern*."""
    text = path.replace(os.sep, "/")
    pattern = pattern.replace(os.sep, "/").rstrip("/")
    if fnmatch.fnmatch(text, pattern) or fnmatch.fnmatch(text, "*/" + pattern):
        return True
    return fnmatch.fnmatch(text, pattern + "/*") or fnmatch.fnmatch(text, "*/" + pattern + "/*")


def rule_ids(text: str, where: str) -> frozenset[str]:
    """Rule ids from a comma-separated list; "ALL" and prefixes such as "WSM00" are understood."""
    found: set[str] = set()
    for word in text.replace(" ", ",").split(","):
        wanted = word.strip().upper()
        if not wanted:
            continue
        hits = (
            set(RULES) if wanted == "ALL" else {rule for rule in RULES if rule.startswith(wanted)}
        )
        if not hits:
            raise UsageError(
                f"{where}: there is no rule {word.strip()!r}; the rules are {', '.join(RULES)}"
            )
        found |= hits
    return frozenset(found)


def load(paths: list[str], config: str | None) -> Settings:
    """The settings of *config*, or of the nearest ``pyproject.toml`` at or above all of *paths*."""
    file = config or _nearest(paths)
    if file is None:
        return Settings()
    try:
        with open(file, "rb") as opened:
            data = opened.read()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from error
    if b"wsmanager" not in data:
        return Settings()
    try:
        document = _toml()(data.decode("utf-8"))
    except (ValueError, UnicodeError) as error:
        raise UsageError(f"{file}: not valid TOML: {error}") from error
    except ImportError as error:
        if config is None and b"[tool.wsmanager" not in data:
            return Settings()
        raise UsageError(
            f"{file} has a [tool.wsmanager] table, and Python {sys.version_info[0]}.{sys.version_info[1]} "
            "cannot read TOML by itself: `pip install tomli`, or run the audit with Python 3.11 or later"
        ) from error
    tool = document.get("tool", {})
    table = tool.get("wsmanager", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(f"{file}: [tool.wsmanager] must be a table")
    return _from_table(table, file)


def _nearest(paths: list[str]) -> str | None:
    folders = [
        path if os.path.isdir(path) else os.path.dirname(path)
        for path in map(os.path.abspath, paths)
    ]
    try:
        folder = os.path.commonpath(folders)
    except ValueError:
        return None  # several drives have nothing in common
    while True:
        file = os.path.join(folder, "pyproject.toml")
        if os.path.isfile(file):
            return file
        if os.path.dirname(folder) == folder:
            return None
        folder = os.path.dirname(folder)


def _toml() -> Callable[[str], dict[str, Any]]:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads
    import importlib

    loads: Callable[[str], dict[str, Any]] = importlib.import_module("tomli").loads
    return loads


def _from_table(table: dict[str, Any], file: str) -> Settings:
    changed: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{file}: [tool.wsmanager] {key}"
        if key in ("select", "ignore"):
            changed[key] = rule_ids(",".join(_strings(value, where)), where)
        elif key in ("exclude", "manager-classes", "legacy-modules"):
            changed[key.replace("-", "_")] = tuple(_strings(value, where))
        elif key in ("factories", "async-factories"):
            changed[key.replace("-", "_")] = _identifiers(value, where)
        elif key == "fix-style":
            if value not in FIX_STYLES:
                raise UsageError(f"{where}: must be one of {', '.join(FIX_STYLES)}, not {value!r}")
            changed["fix_style"] = value
        elif key == "syntax-check":
            if not isinstance(value, bool):
                raise UsageError(f"{where}: must be true or false, not {value!r}")
            changed["syntax_check"] = value
        elif key == "per-file-ignores":
            changed["per_file_ignores"] = _per_file(value, where)
        elif not isinstance(value, dict):  # other tables belong to other commands
            raise UsageError(f"{where}: unknown key{_suggestion(key)}")
    return Settings(**changed)


_KEYS: Final = (
    "select ignore exclude manager-classes legacy-modules factories async-factories fix-style "
    "per-file-ignores syntax-check"
).split()


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key, _KEYS, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(_KEYS)}"


def _strings(value: object, where: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise UsageError(f"{where}: must be a list of strings, not {value!r}")


def _identifiers(value: object, where: str) -> frozenset[str]:
    names = _strings(value, where)
    for name in names:
        if not name.isidentifier():
            raise UsageError(f"{where}: {name!r} is not a name")
    if not names:
        raise UsageError(f"{where}: needs at least one name")
    return frozenset(names)


def _per_file(value: object, where: str) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: must be a table of patterns to lists of rules")
    return {
        pattern: rule_ids(",".join(_strings(rules, where)), f"{where}: {pattern}")
        for pattern, rules in value.items()
    }
