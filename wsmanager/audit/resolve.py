"""The resolve pass: from a value to what it is, across the modules of the tree."""

from __future__ import annotations

import ast
import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from ..compat._deprecated import ALIASES
from . import source
from .evaluate import Evaluator
from .tree import Module, Tree
from .values import (
    UNKNOWN,
    Attr,
    Awaitable,
    Call,
    Class,
    Coroutine,
    Either,
    Function,
    Global,
    Instance,
    Member,
    Nothing,
    Opaque,
    Plain,
    Plainly,
    Ref,
    Value,
)

_MAX_DEPTH: Final = 40


class Kind(enum.Enum):
    """What a value turns out to be."""

    MANAGER = "manager"  # the result of the sync factory
    FACTORY = "factory"  # the sync factory
    COROUTINE = "coroutine"  # an async function
    AWAITABLE = "awaitable"
    FUNCTION = "function"  # another plain function
    CLASS = "class"
    INSTANCE = "instance"
    PLAIN = "plain"  # not awaitable, otherwise of no interest
    MODULE = "module"
    NONE = "none"
    OPAQUE = "opaque"  # a mock
    MIXED = "mixed"  # awaitable or not, depending on what runs
    UNKNOWN = "unknown"


class Source(NamedTuple):
    """The plain function that a thing is the result of."""

    name: str
    path: str
    line: int


class Thing(NamedTuple):
    """What a value is and where that is written.

    *certain* is False when other outcomes are possible; *value* and *path* are
    for following it further; *in_tree* is whether the tree itself says so;
    *source* the function that returned it, if one did.
    """

    kind: Kind
    name: str = ""
    path: str = ""
    line: int = 0
    certain: bool = True
    in_tree: bool = False
    value: Value = UNKNOWN
    module: Module | None = None
    source: Source | None = None


class Summary(NamedTuple):
    """What a module's top level binds."""

    names: dict[str, Value]
    stars: tuple[Ref, ...]


class Definition(NamedTuple):
    """A function or method of the tree that has a factory's name."""

    name: str
    method: bool
    is_async: bool
    path: str
    line: int
    in_test: bool


_UNKNOWN_THING: Final = Thing(Kind.UNKNOWN)
_OPAQUE_THING: Final = Thing(Kind.OPAQUE)
_NOT_AWAITABLE: Final = frozenset({Kind.MANAGER, Kind.PLAIN, Kind.INSTANCE, Kind.NONE})

#: What our own package exports beyond the two factories, and that is awaited.
_OWN_COROUTINES: Final = frozenset(
    "check_websocket_service_available create_websocket_manager get_manager_registry_status".split()
)
#: The plain functions there, whose results cannot be awaited.
OWN_PLAIN: Final = frozenset(
    "broadcast configure create_error_message create_server_message get_config "
    "get_manager_registry_status install_drain reset_manager_registry".split()
)
_OWN_HOMES: Final = frozenset({"wsmanager", "wsmanager.compat"})
#: Bases outside the tree that add no ``__await__``.
_KNOWN_BASES: Final = frozenset(
    "object ABC Protocol Enum IntEnum StrEnum Exception BaseException ValueError TypeError RuntimeError "
    "dict list set str int tuple NamedTuple TypedDict BaseModel Generic TestCase IsolatedAsyncioTestCase".split()
)


class Resolver:
    """Answers what values are. Remembers every module-level name it has looked up."""

    def __init__(
        self,
        tree: Tree,
        summary: Callable[[str], Summary | None],
        factories: frozenset[str],
        async_factories: frozenset[str],
        definitions: list[Definition],
        is_manager_class: Callable[[str], bool],
    ) -> None:
        self._tree = tree
        self._summary = summary
        self._factories = factories
        self._async = async_factories
        self._definitions = definitions
        self._is_manager_class = is_manager_class
        self._names: dict[tuple[str, str], Thing] = {}
        self._active: set[tuple[str, str]] = set()
        self._results: dict[tuple[str, str, int], Thing] = {}
        self._modules: dict[str, _Bodies | None] = {}
        self._depth = 0

    def thing(self, value: Value, path: str) -> Thing:
        """What *value* is, found in the file *path*."""
        if self._depth > _MAX_DEPTH:
            return _UNKNOWN_THING
        self._depth += 1
        try:
            return self._thing(value, path)
        finally:
            self._depth -= 1

    def _thing(self, value: Value, path: str) -> Thing:
        if isinstance(value, Global):
            return self.lookup(path, value.name)
        if isinstance(value, Ref):
            return self._ref(value, path)
        if isinstance(value, Attr):
            return self.attribute(self.thing(value.owner, path), value.name, path)
        if isinstance(value, Call):
            return self.call(self.thing(value.callee, path))
        if isinstance(value, Instance):
            of = self.thing(value.of, path)
            return self.call(of) if of.kind is Kind.CLASS else _UNKNOWN_THING
        if isinstance(value, Either):
            return self._either(value, path)
        if isinstance(value, (Function, Plainly)):
            return self._function(value, path)
        if isinstance(value, Coroutine):
            return Thing(Kind.COROUTINE, value.name, path, value.line, in_tree=value.line > 0)
        if isinstance(value, Class):
            return Thing(Kind.CLASS, value.name, path, value.line, True, True, value)
        if isinstance(value, Member):
            return self._inherited(value.bases, value.name, path)
        if isinstance(value, Awaitable):
            return Thing(Kind.AWAITABLE)
        if isinstance(value, Opaque):
            return _OPAQUE_THING
        if isinstance(value, Plain):
            return Thing(Kind.PLAIN, value.what)
        return Thing(Kind.NONE, "None") if isinstance(value, Nothing) else _UNKNOWN_THING

    # -- names ----------------------------------------------------------------

    def lookup(self, path: str, name: str) -> Thing:
        """The module-level *name* of the file *path*. Cycles of imports end in "unknown"."""
        key = (path, name)
        if key in self._names:
            return self._names[key]
        if key in self._active:
            return _UNKNOWN_THING
        self._active.add(key)
        try:
            found = self._lookup(path, name)
        finally:
            self._active.discard(key)
        self._names[key] = found
        return found

    def _lookup(self, path: str, name: str) -> Thing:
        summary = self._summary(path)
        if summary is None:
            return self._named_in_text(path, name)
        if name in summary.names:
            found = self.thing(summary.names[name], path)
            # A variable that starts as None is there to become something else.
            return found if found.kind is not Kind.NONE else self.by_name(name, method=False)
        for star in summary.stars:
            found = self._ref(star._replace(name=name), path)
            if found.kind is not Kind.UNKNOWN and found.in_tree:
                return found
        return self.by_name(name, method=False)

    def _named_in_text(self, path: str, name: str) -> Thing:
        # A module that does not parse still shows how it defines a factory.
        if name not in self._factories and name not in self._async:
            return _UNKNOWN_THING
        for definition in self._definitions:
            if definition.path == path and definition.name == name and not definition.method:
                kind = Kind.COROUTINE if definition.is_async else Kind.FACTORY
                return Thing(kind, name, path, definition.line, True, True)
        return self.by_name(name, method=False)

    def _ref(self, ref: Ref, path: str) -> Thing:
        if not ref.level and ref.module.partition(".")[0] == "wsmanager":
            return self._own(ref)
        module = self._tree.find(path, ref.level, ref.module)
        if module is None:
            if not ref.name:
                return Thing(Kind.MODULE, ref.module)
            return self.by_name(ref.name, method=False)
        here = Thing(Kind.MODULE, ref.module, module.path, in_tree=True, module=module)
        return self.attribute(here, ref.name, path) if ref.name else here

    def _own(self, ref: Ref) -> Thing:
        if not ref.name:
            return Thing(Kind.MODULE, ref.module)
        name = ref.name
        if ref.module == "wsmanager.compat":
            if name in _OWN_COROUTINES:
                return Thing(Kind.COROUTINE, name)
            name = ALIASES.get(name, name)
        found = self.by_name(name, method=False, everywhere=False)
        if found.kind is Kind.UNKNOWN and name in OWN_PLAIN and ref.module in _OWN_HOMES:
            value = Function(name, 0, (Plain(name),), UNKNOWN, ())
            return Thing(Kind.FUNCTION, name, value=value)
        return found

    def by_name(self, name: str, *, method: bool, everywhere: bool = True) -> Thing:
        """What something called *name* is when it cannot be followed: what the tree defines it to be."""
        if name in self._async:
            return Thing(Kind.COROUTINE, name)
        if name not in self._factories:
            return _UNKNOWN_THING
        known = [d for d in self._definitions if d.name == name] if everywhere else []
        same = [d for d in known if d.method == method] or (known if method else [])
        real = [d for d in same if not d.in_test] or same
        if not real:
            return Thing(Kind.FACTORY, name, certain=not method)
        first = real[0]
        kinds = {definition.is_async for definition in real}
        kind = Kind.MIXED if len(kinds) == 2 else Kind.COROUTINE if first.is_async else Kind.FACTORY
        return Thing(kind, name, first.path, first.line, True, True)

    # -- attributes -------------------------------------------------------------

    def attribute(self, owner: Thing, name: str, path: str) -> Thing:
        """``owner.name``."""
        if owner.kind is Kind.MODULE:
            if owner.module is None:
                if owner.name.partition(".")[0] == "wsmanager":
                    return self._own(Ref(0, owner.name, name))
                return self.by_name(name, method=False)
            if owner.module.path:
                summary = self._summary(owner.module.path)
                if summary is None or name in summary.names:
                    return self.lookup(owner.module.path, name)
            child = self._tree.child(owner.module, name)
            if child is not None:
                return Thing(Kind.MODULE, name, child.path, in_tree=True, module=child)
            return self.lookup(owner.module.path, name) if owner.module.path else _UNKNOWN_THING
        if owner.kind is Kind.OPAQUE:
            return owner
        if owner.kind is Kind.COROUTINE and not owner.line and owner.name == "AsyncMock":
            return owner
        if owner.kind in (Kind.CLASS, Kind.INSTANCE) and isinstance(owner.value, Class):
            return self._member(owner.value, owner.path, name, set())
        return self.by_name(name, method=True)

    def _member(self, holder: Class, path: str, name: str, seen: set[tuple[str, int]]) -> Thing:
        if name in holder.members:
            return self.thing(holder.members[name], path)
        return self._inherited(holder.bases, name, path, seen)

    def _inherited(
        self,
        bases: tuple[Value, ...],
        name: str,
        path: str,
        seen: set[tuple[str, int]] | None = None,
    ) -> Thing:
        seen = set() if seen is None else seen
        for base in bases:
            found = self.thing(base, path)
            if found.kind is not Kind.CLASS or not isinstance(found.value, Class):
                continue
            key = (found.path, found.line)
            if key in seen:
                continue
            seen.add(key)
            member = self._member(found.value, found.path, name, seen)
            if member.kind is not Kind.UNKNOWN:
                return member
        return self.by_name(name, method=True)

    def awaitable_class(self, holder: Class, path: str) -> bool | None:
        """Whether instances have ``__await__``; None when a base outside the tree may add it."""
        pending = [(holder, path)]
        seen: set[tuple[str, int]] = set()
        sure = True
        while pending:
            item, where = pending.pop()
            if (where, item.line) in seen:
                continue
            seen.add((where, item.line))
            if {"__await__", "__getattr__"} & set(item.members):
                return True if "__await__" in item.members else None
            for base in item.bases:
                found = self.thing(base, where)
                if found.kind is Kind.CLASS and isinstance(found.value, Class):
                    pending.append((found.value, found.path))
                elif _base_name(base) not in _KNOWN_BASES:
                    sure = False
        return False if sure else None

    def is_manager(self, instance: Thing) -> bool:
        """Whether the class of *instance*, or one that it is derived from, is a manager by its name."""
        pending = [(instance.value, instance.path)]
        seen: set[tuple[str, int]] = set()
        while pending:
            item, where = pending.pop()
            if not isinstance(item, Class) or (where, item.line) in seen:
                continue
            seen.add((where, item.line))
            if self._is_manager_class(item.name):
                return True
            for base in item.bases:
                found = self.thing(base, where)
                pending.append((found.value, found.path))
        return False

    # -- functions ----------------------------------------------------------------

    def _function(self, value: Function | Plainly, path: str) -> Thing:
        here = Thing(Kind.FUNCTION, value.name, path, value.line, True, True, value)
        for decorator in value.decorators:
            made = self.call(self.thing(decorator, path))
            if made.kind is Kind.COROUTINE:
                return made._replace(name=value.name, line=value.line, path=path)
            if made.kind is not Kind.FUNCTION:
                if value.name not in self._factories:
                    return _UNKNOWN_THING
                here = here._replace(certain=False)
        if value.name in self._factories:
            result = self.result(here)
            if result.kind in (Kind.AWAITABLE, Kind.MIXED):
                kind = Kind.COROUTINE if result.kind is Kind.AWAITABLE else Kind.MIXED
                return here._replace(kind=kind)
            return here._replace(kind=Kind.FACTORY)
        return here

    def call(self, callee: Thing) -> Thing:
        """What calling *callee* gives."""
        kind = callee.kind
        if kind is Kind.FACTORY:
            return callee._replace(kind=Kind.MANAGER)
        if kind is Kind.COROUTINE:
            return callee._replace(kind=Kind.AWAITABLE)
        if kind is Kind.FUNCTION:
            return self.result(callee)
        if kind in (Kind.MIXED, Kind.OPAQUE):
            return callee
        if kind is Kind.CLASS and isinstance(callee.value, Class):
            made = self.awaitable_class(callee.value, callee.path)
            if made:
                return Thing(Kind.AWAITABLE, callee.name, callee.path, callee.line)
            # A manager is not awaitable, whatever it is derived from outside the tree.
            certain = made is False or self._is_manager_class(callee.value.name)
            return callee._replace(kind=Kind.INSTANCE, certain=certain)
        if kind is Kind.INSTANCE and isinstance(callee.value, Class):
            return self.call(self._member(callee.value, callee.path, "__call__", set()))
        return _UNKNOWN_THING

    def result(self, function: Thing) -> Thing:
        """What a plain function of the tree returns."""
        value = function.value
        if isinstance(value, Plainly):
            key = (function.path, value.name, value.line)
            if key in self._results:
                return self._results[key]
            self._results[key] = _UNKNOWN_THING  # a function that calls itself
            body = self._body(function.path, value)
            self._results[key] = self._returned(body, function) if body else _UNKNOWN_THING
            return self._results[key]
        return self._returned(value, function) if isinstance(value, Function) else _UNKNOWN_THING

    def definition(self, function: Thing) -> ast.FunctionDef | None:
        """The ``def`` of a plain function at a module's top level."""
        if not isinstance(function.value, Plainly):
            return None
        bodies = self._bodies(function.path)
        return bodies.node(function.value) if bodies else None

    def tree_of(self, path: str) -> ast.Module | None:
        """The syntax tree of a file, None if it does not parse."""
        bodies = self._bodies(path)
        return bodies.module if bodies else None

    def binding(self, path: str, name: str) -> Value | None:
        """What the file *path* binds *name* to at its top level, unresolved."""
        summary = self._summary(path)
        return summary.names.get(name) if summary else None

    def imports_own(self, path: str) -> bool:
        """Whether the file *path* imports anything of wsmanager at its top level."""
        summary = self._summary(path)
        return summary is not None and any(
            isinstance(value, Ref) and value.module.partition(".")[0] == "wsmanager"
            for value in summary.names.values()
        )

    def _returned(self, body: Function, function: Thing) -> Thing:
        found = combine([self.thing(item, function.path) for item in body.returns])
        if found.kind is Kind.UNKNOWN:
            annotated = self.thing(body.annotation, function.path)
            if annotated.kind is Kind.AWAITABLE or (
                annotated.kind in (Kind.PLAIN, Kind.INSTANCE) and annotated.certain
            ):
                found = annotated
        return found._replace(source=Source(function.name, function.path, function.line))

    def _body(self, path: str, value: Plainly) -> Function | None:
        bodies = self._bodies(path)
        return bodies.function(value) if bodies else None

    def _bodies(self, path: str) -> _Bodies | None:
        if path not in self._modules:
            try:
                self._modules[path] = _Bodies(source.read(path).parse())
            except (source.Unparsed, RecursionError):
                self._modules[path] = None
        return self._modules[path]

    def _either(self, value: Either, path: str) -> Thing:
        first = combine([self.thing(item, path) for item in value.options])
        if not value.fallbacks or (first.in_tree and first.kind not in (Kind.UNKNOWN, Kind.NONE)):
            return first
        rest = [self.thing(item, path) for item in value.fallbacks]
        rest = [item for item in rest if item.kind not in (Kind.NONE, Kind.UNKNOWN)]
        return combine([first, *rest]) if value.options else combine(rest)


class _Bodies:
    """The functions of one module, read when first asked for."""

    def __init__(self, module: ast.Module) -> None:
        self.module = module
        self._evaluator = Evaluator(module)
        self._found: dict[tuple[str, int], tuple[ast.FunctionDef, tuple[ast.ClassDef, ...]]] = {}
        pending: list[tuple[ast.AST, tuple[ast.ClassDef, ...]]] = [(module, ())]
        while pending:
            node, holders = pending.pop()
            if isinstance(node, ast.FunctionDef):
                self._found[node.name, node.lineno] = (node, holders)
            elif isinstance(node, ast.ClassDef):
                pending += [(child, (*holders, node)) for child in node.body]
            elif isinstance(node, (ast.stmt, ast.Module, ast.ExceptHandler)):
                pending += [(child, holders) for child in ast.iter_child_nodes(node)]

    def node(self, value: Plainly) -> ast.FunctionDef | None:
        found = self._found.get((value.name, value.line))
        return found[0] if found else None

    def function(self, value: Plainly) -> Function | None:
        found = self._found.get((value.name, value.line))
        if found is None:
            return None
        node, holders = found
        scope = self._evaluator.module
        for holder in holders:
            scope = self._evaluator.scope(holder, scope)
        return self._evaluator.body(node, scope, value.decorators)


def combine(things: list[Thing]) -> Thing:
    """One thing for several that are possible; it is certain only if all agree."""
    real = [thing for thing in things if thing.kind is not Kind.NONE] or things
    if not real:
        return _UNKNOWN_THING
    kinds = {thing.kind for thing in real}
    first = real[0]
    if len(kinds) == 1:
        return first._replace(certain=all(thing.certain for thing in real))
    if Kind.MIXED in kinds:
        return next(thing for thing in real if thing.kind is Kind.MIXED)
    for plain, waits in ((Kind.MANAGER, Kind.AWAITABLE), (Kind.FACTORY, Kind.COROUTINE)):
        if plain in kinds:
            thing = next(thing for thing in real if thing.kind is plain)
            return (
                thing._replace(kind=Kind.MIXED) if waits in kinds else thing._replace(certain=False)
            )
    if kinds & {Kind.OPAQUE, Kind.UNKNOWN}:
        return _UNKNOWN_THING
    if kinds <= _NOT_AWAITABLE:
        return first._replace(kind=Kind.PLAIN, certain=all(thing.certain for thing in real))
    return _UNKNOWN_THING


def _base_name(value: Value) -> str:
    if isinstance(value, (Global, Attr)):
        return value.name
    return value.name if isinstance(value, Ref) else ""
