"""Finds the sites of one file, going down only where a marked line lies."""

from __future__ import annotations

import ast
import builtins
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any, Final

from . import expects
from .annotated import stated
from .evaluate import Evaluator, dotted, last_name, own_nodes
from .names import (
    ASYNCIO_CONSUMERS,
    CONSUMERS,
    DOTTED,
    MESSAGE_BUILDERS,
    NAMES_MODULE,
    TAKES_COLLECTION,
    Aliases,
    Patterns,
)
from .place import Place
from .scope import COMPREHENSIONS
from .sites import Site, label, position
from .usage import PROTOCOL
from .values import UNKNOWN, Attr, Call, Global, Instance, Ref, Value, either, needs_tree

_SENDS = ("emit", "send", "broadcast")
_BUILTINS = frozenset(dir(builtins))
#: What may begin above its own line.
_DECORATED = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef})
#: Nodes with nothing in them and no rule about them; most of a tree is these.
_LEAVES = frozenset({ast.Name, ast.Constant, ast.Load, ast.Store, ast.Pass})


class Walker:
    """One file's sites.

    *lines* are the marked lines, sorted; *names* what the file's top level binds.
    """

    def __init__(
        self,
        module: ast.Module,
        evaluator: Evaluator,
        patterns: Patterns,
        lines: list[int],
        aliases: Aliases,
        names: dict[str, Value],
    ) -> None:
        self._module = module
        self._evaluator = evaluator
        self._patterns = patterns
        self._names = patterns.names
        self._lines = lines
        self._marks = frozenset(lines)
        self._top = names
        self._factories = patterns.names.both | aliases.factories
        self._builders = MESSAGE_BUILDERS | aliases.builders
        self._words = frozenset(word for _, word in patterns.names.shims)
        self._helpers: dict[int, bool] = {}
        self._seen: set[tuple[str, int, int]] = set()

    def sites(self) -> Iterator[Site]:
        """Every site, in no particular order, none twice."""
        top = Place(self._evaluator.module)
        pending: list[tuple[ast.AST, Place]] = [(node, top) for node in self._module.body]
        while pending:
            node, place = pending.pop()
            first = getattr(node, "lineno", 0)
            last = getattr(node, "end_lineno", first)
            if first == last and type(node) not in _DECORATED:
                if first not in self._marks and first:
                    continue
            elif not self._marked(node, first, last):
                continue
            look = _LOOKS.get(type(node))
            if look is not None:
                for site in look(self, node, place):
                    key = (site.kind, site.line, site.column)
                    if key not in self._seen:
                        self._seen.add(key)
                        yield site
            if type(node) not in _LEAVES:
                pending += self._children(node, place)

    def _marked(self, node: ast.AST, first: int, last: int) -> bool:
        for decorator in getattr(node, "decorator_list", ()):
            first = min(first, decorator.lineno)
        at = bisect_left(self._lines, first)
        return at < len(self._lines) and self._lines[at] <= last

    # -- going down ---------------------------------------------------------------

    def _children(self, node: ast.AST, place: Place) -> list[tuple[ast.AST, Place]]:
        if type(node) in (ast.Call, ast.Attribute, ast.Await, ast.keyword):
            return [
                (item, place) for item in ast.iter_child_nodes(node) if type(item) not in _LEAVES
            ]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            scope = self._evaluator.scope(node, place.scope)
            expected = expects.by_decorators(node, self._names.both) or expects.by_body(
                node, self._names.both
            )
            inner = place.inside(scope, node.name, expected)
            outer = [
                *node.decorator_list,
                *node.args.defaults,
                *filter(None, node.args.kw_defaults),
            ]
            return [*((item, place) for item in outer), *self._sequence(node.body, inner)]
        if isinstance(node, ast.ClassDef):
            inner = place.inside(
                self._evaluator.scope(node, place.scope),
                "",
                expects.by_decorators(node, self._names.both),
            )
            above = [*node.decorator_list, *node.bases]
            return [*((item, place) for item in above), *((item, inner) for item in node.body)]
        if isinstance(node, ast.Lambda):
            return [(node.body, place.inside(self._evaluator.scope(node, place.scope)))]
        if isinstance(node, COMPREHENSIONS):
            scope = self._evaluator.scope(node, place.scope)
            inner = place._replace(scope=scope)
            return [(item, inner) for item in ast.iter_child_nodes(node)]
        if isinstance(node, (ast.With, ast.AsyncWith)):
            body = place.expecting(expects.by_with(node, self._names.both))
            return [*((item, place) for item in node.items), *self._sequence(node.body, body)]
        if isinstance(node, ast.IfExp):
            kind, behind = expects.guards(node.test), place.behind(node.test)
            return [
                (node.test, place),
                (node.body, behind if kind is True else place),
                (node.orelse, behind if kind is False else place),
            ]
        if isinstance(node, ast.stmt):
            return list(self._statement_children(node, place))
        return [(item, place) for item in ast.iter_child_nodes(node) if type(item) not in _LEAVES]

    def _statement_children(self, node: ast.stmt, place: Place) -> Iterator[tuple[ast.AST, Place]]:
        places = {"body": place.expecting(expects.by_try(node))}
        if isinstance(node, (ast.If, ast.While)):
            kind = expects.guards(node.test)
            if kind is not None:
                places["body" if kind else "orelse"] = place.behind(node.test)
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                yield value, place
            elif isinstance(value, list) and value:
                if isinstance(value[0], ast.stmt):
                    inside = places.get(field, place).within(node, field)
                    yield from self._sequence(value, inside)
                    continue
                for number, item in enumerate(value):
                    if isinstance(item, ast.ExceptHandler):
                        yield from self._sequence(item.body, place.within(node, f"handler{number}"))
                    elif isinstance(item, ast.match_case):
                        yield from self._sequence(item.body, place.within(node, f"case{number}"))
                    elif isinstance(item, ast.AST):
                        yield item, place

    @staticmethod
    def _sequence(body: list[ast.stmt], place: Place) -> Iterator[tuple[ast.AST, Place]]:
        """The statements of a block; those behind ``if not isawaitable(x): return`` know what it is."""
        for statement in body:
            yield statement, place
            if isinstance(statement, ast.If) and expects.passed(statement):
                place = place.behind(statement.test)

    # -- what a node is --------------------------------------------------------------

    def _await(self, node: ast.Await, place: Place) -> Iterator[Site]:
        yield from self._awaited("await", node, node.value, place, ())

    def _attribute(self, node: ast.Attribute, place: Place) -> Iterator[Site]:
        if isinstance(node.value, ast.Call) and node.attr not in PROTOCOL:
            yield from self._unused(node.value, place, f"its attribute {node.attr!r} is used")

    def _class(self, node: ast.ClassDef, place: Place) -> Iterator[Site]:
        if self._patterns.is_manager_class(node.name) and not _is_interface(node):
            yield self._site("class", node, node.name, UNKNOWN, place)

    def _site(
        self,
        kind: str,
        node: ast.AST,
        text: str,
        value: Value,
        place: Place,
        info: tuple[str, ...] = (),
    ) -> Site:
        expected = self._expected(place)
        if not expected and any(expects.guarded(guard, node) for guard in place.guards):
            expected = "guard"
        return Site(kind, *position(node), text, value, expected, place.function, info)

    def _expected(self, place: Place) -> str:
        if place.expected == "TypeError":
            return place.expected
        function = place.scope.function
        outer = function.parent.function if function is not None and function.parent else None
        if function is None or outer is None:
            return place.expected
        key = id(function.node)
        if key not in self._helpers:
            self._helpers[key] = expects.called_where_expected(function.node, outer.node)
        return "TypeError" if self._helpers[key] else place.expected

    def _value(self, node: ast.AST, place: Place) -> Value:
        return self._evaluator.value(node, place.scope, place.block)

    def _awaited(
        self, kind: str, at: ast.AST, operand: ast.AST, place: Place, info: tuple[str, ...]
    ) -> Iterator[Site]:
        value = self._value(operand, place)
        if needs_tree(value, self._names.both) and not self._outside(value):
            how = _how(operand)
            yield self._site(kind, at, label(operand), value, place, (how, *info))

    def _called(self, node: ast.Call, place: Place) -> Iterator[Site]:
        name = last_name(node.func)
        if name is None:
            return
        if name in CONSUMERS or (name in ASYNCIO_CONSUMERS and self._is_asyncio(node.func, place)):
            for item, where in self._handed(node, name, place):
                yield from self._awaited("consume", item, item, where, (label(node.func),))
        if self._patterns.is_manager_class(name):
            inside = place.scope.enclosing_class
            own = (
                isinstance(inside.node, ast.ClassDef) and inside.node.name == name
                if inside
                else False
            )
            if not own:
                yield self._site("construct", node, name, self._value(node.func, place), place)
        if name in NAMES_MODULE and node.args:
            yield from self._named_module(node, place)
        if name in self._builders:
            value = self._value(node.func, place)
            yield self._site("message", node, name, value, place, _shape(node))

    def _outside(self, value: Value) -> bool:
        """Whether *value* comes from the standard library, by way of a module-level name."""
        root = value
        while isinstance(root, (Call, Attr)):
            if isinstance(root, Attr) and root.name in self._names.both:
                return False
            root = root.callee if isinstance(root, Call) else root.owner
        if not isinstance(root, Global) or root.name not in self._top:
            return isinstance(root, Global) and root.name in _BUILTINS
        return not needs_tree(self._top[root.name], self._names.both)

    def _is_asyncio(self, function: ast.expr, place: Place) -> bool:
        value = self._value(function, place)
        if isinstance(value, Global):
            value = self._top.get(value.name, value)
        if isinstance(value, Attr):
            owner = value.owner
            if isinstance(owner, Global):
                owner = self._top.get(owner.name, owner)
            return owner == Ref(0, "asyncio", "")
        return isinstance(value, Ref) and value.module == "asyncio"

    # -- what a consumer is given ------------------------------------------------------

    def _handed(self, node: ast.Call, name: str, place: Place) -> Iterator[tuple[ast.expr, Place]]:
        arguments = node.args if name == "gather" else node.args[:1]
        for argument in arguments:
            if isinstance(argument, ast.Starred):
                yield from self._elements(argument.value, place, 0)
            elif name in TAKES_COLLECTION:
                yield from self._elements(argument, place, 0)
            elif not isinstance(argument, ast.Await):
                yield argument, place
        for word in node.keywords:
            if word.arg in ("coro", "fut", "coro_or_future", "future", "main", "aw", "arg"):
                yield word.value, place

    def _elements(
        self, node: ast.expr, place: Place, depth: int
    ) -> Iterator[tuple[ast.expr, Place]]:
        """The expressions that make up a collection, as far as its text shows."""
        if depth > 4:
            return
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            for item in node.elts:
                if isinstance(item, ast.Starred):
                    yield from self._elements(item.value, place, depth + 1)
                else:
                    yield item, place
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            scope = self._evaluator.scope(node, place.scope)
            yield node.elt, place._replace(scope=scope)
        elif isinstance(node, ast.DictComp):
            scope = self._evaluator.scope(node, place.scope)
            yield node.value, place._replace(scope=scope)
        elif isinstance(node, ast.Dict):
            yield from ((item, place) for item in node.values)
        elif isinstance(node, ast.BinOp):
            yield from self._elements(node.left, place, depth + 1)
            yield from self._elements(node.right, place, depth + 1)
        elif isinstance(node, ast.Call):
            yield from self._called_elements(node, place, depth)
        elif isinstance(node, ast.Name):
            yield from self._named_elements(node.id, place, depth)

    def _called_elements(
        self, node: ast.Call, place: Place, depth: int
    ) -> Iterator[tuple[ast.expr, Place]]:
        name = last_name(node.func)
        if name == "map" and isinstance(node.func, ast.Name) and len(node.args) >= 2:
            made = ast.copy_location(ast.Call(node.args[0], node.args[1:], []), node)
            yield made, place
        elif name in ("list", "tuple", "set") and len(node.args) == 1:
            yield from self._elements(node.args[0], place, depth + 1)
        elif name == "values" and isinstance(node.func, ast.Attribute) and not node.args:
            yield from self._elements(node.func.value, place, depth + 1)

    def _named_elements(
        self, name: str, place: Place, depth: int
    ) -> Iterator[tuple[ast.expr, Place]]:
        home = place.scope.find(name)
        if home is None:
            return
        for binding in home.bindings[name]:
            if binding.kind == "value" and isinstance(binding.node, ast.expr) and binding.part < 0:
                where = place._replace(scope=home, block=binding.block)
                yield from self._elements(binding.node, where, depth + 1)
        where = place._replace(scope=home, block=())
        for child in own_nodes(home.node):
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.args:
                if isinstance(child.func.value, ast.Name) and child.func.value.id == name:
                    if child.func.attr in ("append", "add"):
                        yield child.args[0], where
                    elif child.func.attr in ("extend", "update"):
                        yield from self._elements(child.args[0], where, depth + 1)
            elif isinstance(child, ast.AugAssign) and last_name(child.target) == name:
                yield from self._elements(child.value, where, depth + 1)

    # -- the other rules ------------------------------------------------------------------

    def _dropped(self, node: ast.Expr, place: Place) -> Iterator[Site]:
        call = node.value
        if not isinstance(call, ast.Call):
            return
        yield from self._unused(call, place, "its result is dropped")
        function = call.func
        if isinstance(function, ast.Attribute) and function.attr.startswith(_SENDS):
            receiver = last_name(function.value) or (
                label(function.value.func) if isinstance(function.value, ast.Call) else ""
            )
            value = self._value(function.value, place)
            annotated = self._annotated(function.value, place)
            if annotated != UNKNOWN:
                value = either([], [value, annotated])
            named = "manager" if "manager" in receiver.lower() else ""
            if named or (needs_tree(value, self._names.both) and not self._outside(value)):
                info = (function.attr, named)
                yield self._site("emit", node, label(function), value, place, info)

    def _annotated(self, node: ast.expr, place: Place) -> Value:
        """What a name, or an attribute of ``self``, is said to be; UNKNOWN where nothing says it."""
        scope = place.scope
        for expression, where in stated(node, scope):
            value = self._evaluator.annotation(expression, where)
            if isinstance(value, Instance):
                return value
        return UNKNOWN

    def _unused(self, call: ast.Call, place: Place, why: str, name: str = "") -> Iterator[Site]:
        if last_name(call.func) in self._factories:
            yield self._site(
                "unused", call, label(call), self._value(call, place), place, (why, name)
            )

    def _assigned(self, node: ast.Assign | ast.AnnAssign, place: Place) -> Iterator[Site]:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if (
            len(targets) != 1
            or not isinstance(targets[0], ast.Name)
            or not isinstance(node.value, ast.Call)
        ):
            return
        if place.scope.function is not None:
            # Whether anything awaits the name is looked at only if the call turns out to be async.
            yield from self._unused(node.value, place, "", targets[0].id)

    def _locked(self, node: ast.With, place: Place) -> Iterator[Site]:
        function = place.scope.function
        if function is None or not isinstance(function.node, ast.AsyncFunctionDef):
            return
        for item in node.items:
            text = dotted(item.context_expr) or ""
            value = self._value(item.context_expr, place)
            named = any(word in text.lower() for word in ("lock", "mutex"))
            if not named and not self._is_threading(value):
                continue
            awaits = [child for child in own_nodes(node) if isinstance(child, ast.Await)]
            if awaits and self._uses_factory(function.node):
                line = min(item.lineno for item in awaits)
                yield self._site(
                    "lock",
                    item.context_expr,
                    text or label(item.context_expr),
                    value,
                    place,
                    (str(line),),
                )

    def _is_threading(self, value: Value) -> bool:
        if isinstance(value, Global):
            value = self._top.get(value.name, value)
        if not isinstance(value, Call) or not isinstance(value.callee, Attr):
            return False
        owner = value.callee.owner
        if isinstance(owner, Global):
            owner = self._top.get(owner.name, owner)
        return owner == Ref(0, "threading", "")

    def _uses_factory(self, node: ast.AST) -> bool:
        if getattr(node, "name", None) in self._names.both:
            return True
        return any(last_name(child) in self._factories for child in ast.walk(node))

    def _imports(self, node: ast.ImportFrom, place: Place) -> Iterator[Site]:
        module = node.module or ""
        names = tuple(alias.name for alias in node.names)
        if self._names.is_legacy(module) or self._may_be_shim(f"{module}.{'.'.join(names)}"):
            whole = Ref(node.level, module, "")
            yield self._site("import", node, "." * node.level + module, whole, place, names)

    def _modules(self, node: ast.Import, place: Place) -> Iterator[Site]:
        for alias in node.names:
            if self._names.is_legacy(alias.name) or self._may_be_shim(alias.name):
                yield self._site("import", alias, alias.name, Ref(0, alias.name, ""), place)

    def _named_module(self, node: ast.Call, place: Place) -> Iterator[Site]:
        """A module that a call imports or patches by its name."""
        text = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        if isinstance(text, str) and DOTTED.fullmatch(text) and self._may_be_shim(text):
            yield self._site("named", node.args[0], text, UNKNOWN, place)

    def _may_be_shim(self, text: str) -> bool:
        return not self._words.isdisjoint(text.split("."))


#: No part of a walker, which would then keep itself and its tree alive: workers do not collect cycles.
_LOOKS: Final[dict[type[ast.AST], Callable[[Walker, Any, Place], Iterator[Site]]]] = {
    ast.Await: Walker._await,
    ast.Call: Walker._called,
    ast.Expr: Walker._dropped,
    ast.Attribute: Walker._attribute,
    ast.Assign: Walker._assigned,
    ast.AnnAssign: Walker._assigned,
    ast.With: Walker._locked,
    ast.Import: Walker._modules,
    ast.ImportFrom: Walker._imports,
    ast.ClassDef: Walker._class,
}


def _how(operand: ast.AST) -> str:
    """How the awaited thing is written: a call of a name, of an attribute of a name, or otherwise."""
    if isinstance(operand, ast.Call):
        if isinstance(operand.func, ast.Name):
            return "name"
        if isinstance(operand.func, ast.Attribute) and dotted(operand.func):
            return "attribute"
    return "other"


def _shape(node: ast.Call) -> tuple[str, ...]:
    """A call's arguments: how many positional, what the first is, stars, and the keywords."""
    first = "nothing"
    if node.args:
        item = node.args[0]
        if isinstance(item, ast.Constant):
            first = "str" if isinstance(item.value, str) else "constant"
        elif isinstance(item, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in item.keys]
            first = "typed" if "type" in keys or None in keys else "untyped"
        else:
            first = "other"
    stars = any(isinstance(item, ast.Starred) for item in node.args) or any(
        word.arg is None for word in node.keywords
    )
    words = tuple(word.arg for word in node.keywords if word.arg is not None)
    return (str(len(node.args)), first, "stars" if stars else "", *words)


def _is_interface(node: ast.ClassDef) -> bool:
    names = {
        last_name(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases
    }
    return bool(
        names & {"Protocol", "Enum", "IntEnum", "StrEnum", "Exception", "TypedDict", "TestCase"}
    )
