"""The index pass over one file: what its top level binds, and the sites the rules may be about.

Runs in worker processes and knows no other file. The tree is walked only
along the lines that a byte search marked, so that most of a large file is
parsed but never looked at.
"""

from __future__ import annotations

import ast
import pickle
import re
from typing import Final, NamedTuple

from .._shims import is_shim
from . import source
from .evaluate import Evaluator, blocks
from .names import Names, Patterns
from .resolve import Definition, Summary
from .scope import Scope
from .sites import Site
from .values import UNKNOWN, Class, Coroutine, Either, Global, Plainly, Ref, Value, either
from .walk import Walker

_TEST_PATH: Final = re.compile(
    r"(^|[\\/])(tests?|testing|test_[^\\/]*|[^\\/]*_tests?\.py|conftest\.py)([\\/]|$)"
)
_ROUGH: Final = re.compile(
    r"^from[ \t]+(?P<module>[\w.]+)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n(]+)"
    r"|^(?P<async>async[ \t]+)?def[ \t]+(?P<def>\w+)"
    r"|^(?P<name>\w+)[ \t]*=[ \t]*(?P<value>[A-Za-z_]\w*)[ \t]*$",
    re.M,
)


class ClassFact(NamedTuple):
    """A class with a manager's name, for the lists of duplicates and of their async methods."""

    name: str
    path: str
    line: int
    async_methods: frozenset[str]
    plain_methods: frozenset[str]


class Facts(NamedTuple):
    """What the index pass found out about one file.

    *summary* is pickled: of most modules nobody will ask for it. Of a file that
    no rule can be about it is not even made, and is empty. *shim* is whether
    ``wsmanager shim`` wrote the file.
    """

    path: str
    reason: str
    line: int | None
    sites: tuple[Site, ...]
    summary: bytes
    definitions: tuple[Definition, ...]
    classes: tuple[ClassFact, ...]
    shim: bool = False


def is_test(path: str) -> bool:
    """Whether *path* is a test by where it is or what it is called."""
    return _TEST_PATH.search(path) is not None


def extract(path: str, patterns: Patterns, whole: bool = False) -> Facts:
    """Index one file. Never raises for what the file holds: it says why it could not be parsed.

    With *whole* also the summary of a file that no rule can be about.
    """
    data = b""
    try:
        found = source.read(path)
        data = found.data
        return _extract(path, found, patterns, whole)
    except source.Unparsed as error:
        return _unparsed(path, error.reason, error.line, data, patterns.names)
    except RecursionError:
        return _unparsed(path, "nested too deeply to be audited", None, data, patterns.names)
    except Exception as error:  # noqa: BLE001 - one odd file must not cost the report on all others
        reason = f"internal error, please report it: {type(error).__name__}: {error}"
        return _unparsed(path, reason, None, data, patterns.names)


def _extract(path: str, found: source.Source, patterns: Patterns, whole: bool) -> Facts:
    # UTF-8 goes to the parser as it is; anything else as text, so that columns mean the same.
    plain = found.encoding == "utf-8"
    data = found.data[len(found.bom) :] if plain else found.text.encode("utf-8", "surrogatepass")
    text = found.data if plain else found.text
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not whole and not patterns.relevant(data):
        if patterns.names.syntax:
            source.check(text)
        return Facts(path, "", None, (), b"", (), (), is_shim(data))
    module = source.parse(text)
    evaluator = Evaluator(module, patterns.names.both, b":=" in data)
    summary = summarize(module, evaluator, b"global " in data)
    imported = frozenset(
        name.encode("utf-8", "replace")
        for name, value in summary.names.items()
        if isinstance(value, Ref)
    )
    aliases = patterns.aliases(data)
    lines = _lines(data, sorted(set(patterns.offsets(data, imported, aliases))))
    sites: tuple[Site, ...] = ()
    if lines:
        sites = tuple(Walker(module, evaluator, patterns, lines, aliases, summary.names).sites())
    return Facts(
        path,
        "",
        None,
        sites,
        pickle.dumps(summary, pickle.HIGHEST_PROTOCOL),
        tuple(_definitions(path, summary, patterns.names)),
        tuple(_classes(path, summary, patterns)),
        is_shim(data),
    )


def is_whole(facts: Facts) -> bool:
    """Whether *facts* say all that is to be known: that the file cannot be parsed, or its summary."""
    return bool(facts.reason or facts.summary)


def load(facts: Facts) -> Summary | None:
    """The summary of a file that parsed, or what could be read off one that did not."""
    if not facts.summary:
        return None
    summary = pickle.loads(facts.summary)  # our own bytes, from our own worker
    assert isinstance(summary, Summary)
    return summary


def _lines(data: bytes, offsets: list[int]) -> list[int]:
    lines: list[int] = []
    line, position = 1, 0
    for offset in offsets:
        line += data.count(b"\n", position, offset)
        position = offset
        if not lines or lines[-1] != line:
            lines.append(line)
    return lines


def summarize(module: ast.Module, evaluator: Evaluator, rebinds: bool = False) -> Summary:
    """What the module's top level binds once it has run; with *rebinds*, also by its functions' ``global``."""
    scope = evaluator.module
    names = {name: _final(scope, name, evaluator) for name in scope.bindings}
    stars = []
    pending: list[ast.stmt] = list(module.body)
    for statement in pending:
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            stars.append(Ref(statement.level, statement.module or "", ""))
        elif isinstance(statement, (ast.If, ast.Try)):
            for block in blocks(statement):
                pending.extend(block)
    for name, values in _rebound(module, evaluator).items() if rebinds else ():
        names[name] = either([names[name], *values] if name in names else values)
    return Summary(names, tuple(stars))


def _rebound(module: ast.Module, evaluator: Evaluator) -> dict[str, list[Value]]:
    """What functions assign to names that they declare ``global``."""
    found: dict[str, list[Value]] = {}
    pending: list[tuple[ast.stmt, Scope]] = [(item, evaluator.module) for item in module.body]
    while pending:
        node, scope = pending.pop()
        inner = scope
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = evaluator.scope(node, scope)
        pending += [(child, inner) for block in blocks(node) for child in block]
        if isinstance(node, ast.Global):
            for name in node.names:
                values = [evaluator.binding(item, scope) for item in scope.bindings.get(name, ())]
                found.setdefault(name, []).extend(values)
    return found


def _final(scope: Scope, name: str, evaluator: Evaluator) -> Value:
    try:
        return evaluator.bound(scope.final(name), scope)
    except RecursionError:
        return UNKNOWN


def _definitions(path: str, summary: Summary, names: Names) -> list[Definition]:
    found = []
    test = is_test(path)
    for name, value in summary.names.items():
        options = value.options + value.fallbacks if isinstance(value, Either) else (value,)
        for option in options:
            if (
                isinstance(option, (Coroutine, Plainly))
                and option.name in names.both
                and option.line
            ):
                found.append(
                    Definition(
                        option.name, False, isinstance(option, Coroutine), path, option.line, test
                    )
                )
            elif isinstance(option, Class):
                double = name.startswith(("Test", "Mock", "Fake", "Stub", "Dummy"))
                for member, bound in option.members.items():
                    if (
                        member in names.both
                        and isinstance(bound, (Coroutine, Plainly))
                        and bound.line
                    ):
                        found.append(
                            Definition(
                                member,
                                True,
                                isinstance(bound, Coroutine),
                                path,
                                bound.line,
                                test or double,
                            )
                        )
    return found


def _classes(path: str, summary: Summary, patterns: Patterns) -> list[ClassFact]:
    found = []
    for value in summary.names.values():
        if isinstance(value, Class) and patterns.is_manager_class(value.name):
            members = value.members.items()
            found.append(
                ClassFact(
                    value.name,
                    path,
                    value.line,
                    frozenset(name for name, bound in members if isinstance(bound, Coroutine)),
                    frozenset(name for name, bound in members if isinstance(bound, Plainly)),
                )
            )
    return found


def _unparsed(path: str, reason: str, line: int | None, data: bytes, names: Names) -> Facts:
    # How a broken module defines a factory can still be read off its text.
    found = []
    for name in names.both:
        pattern = rb"^(async[ \t]+)?def[ \t]+" + re.escape(name.encode()) + rb"[ \t]*\("
        for match in re.finditer(pattern, data, re.M):
            number = data.count(b"\n", 0, match.start()) + 1
            found.append(
                Definition(name, False, match.group(1) is not None, path, number, is_test(path))
            )
    summary = pickle.dumps(_rough(data), pickle.HIGHEST_PROTOCOL) if data else b""
    return Facts(path, reason, line, (), summary, tuple(found), ())


def _rough(data: bytes) -> Summary:
    """What the top level of a file that does not parse seems to import and define."""
    names: dict[str, Value] = {}
    stars: list[Ref] = []
    for match in _ROUGH.finditer(data.decode("utf-8", "replace")):
        module, imported, name, is_async, function = match.group(
            "module", "names", "name", "async", "def"
        )
        if imported is not None:
            level = len(module) - len(module.lstrip("."))
            for item in re.sub(r"#.*|[()\\]", "", imported).split(","):
                words = item.split()
                if words == ["*"]:
                    stars.append(Ref(level, module[level:], ""))
                elif words and words[-1].isidentifier():
                    names[words[-1]] = Ref(level, module[level:], words[0])
        elif function is not None:
            line = (
                data.count(b"\n", 0, len(match.string[: match.start()].encode("utf-8", "replace")))
                + 1
            )
            names[function] = Coroutine(function, line) if is_async else Plainly(function, line, ())
        elif name is not None:
            names[name] = Global(match.group("value"))
    return Summary(names, tuple(stars))
