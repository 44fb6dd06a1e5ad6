"""Which bindings of a name can reach a place, by Python's scoping rules.

A scope is a module, class, function, lambda or comprehension. Its bindings are
collected once, when a name in it is first asked for, without entering the
scopes nested in it. Inside a function the last binding that surely ran before
the place hides the earlier ones; across scopes all of them count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

#: Where a statement stands: the compound statements around it, each with the block it is in.
Block = tuple[tuple[int, str], ...]

ScopeNode = (
    ast.Module
    | ast.ClassDef
    | ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.Lambda
    | ast.ListComp
    | ast.SetComp
    | ast.DictComp
    | ast.GeneratorExp
)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_LOOPS = frozenset({"For", "AsyncFor", "While"})


class Binding(NamedTuple):
    """One place that binds a name.

    *node* is what it is bound to: a definition, an import's ``alias``, an
    expression, a parameter's ``arg``, or None for what cannot be followed.
    *part* is the index of the element when a tuple is taken apart, else -1.
    """

    kind: str
    node: ast.AST | None
    owner: ast.AST
    line: int
    column: int
    block: Block
    fallback: bool
    part: int = -1


class Scope:
    """The names that one scope binds."""

    def __init__(self, node: ScopeNode, parent: Scope | None, walrus: bool = True) -> None:
        self.node = node
        self.parent = parent
        self.walrus = walrus  # whether := occurs in the file; to look for it takes time
        self._bindings: dict[str, list[Binding]] | None = None
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        #: id() of each loop statement, for the question whether a later binding comes round again
        self.loops: set[int] = set()

    @property
    def bindings(self) -> dict[str, list[Binding]]:
        """Every binding of the scope, by name, in the order of the text."""
        if self._bindings is None:
            self._bindings = {}
            _Collector(self, self._bindings).collect()
        return self._bindings

    @property
    def function(self) -> Scope | None:
        """The innermost function or lambda at or around this scope."""
        scope: Scope | None = self
        while scope is not None and not isinstance(scope.node, FUNCTIONS):
            scope = scope.parent
        return scope

    @property
    def enclosing_class(self) -> Scope | None:
        """The class whose method this scope is in, if any."""
        scope: Scope | None = self
        while scope is not None and not isinstance(scope.node, ast.ClassDef):
            scope = scope.parent
        return scope

    def find(self, name: str) -> Scope | None:
        """The scope that *name* belongs to when used here; None for a module-level or built-in name."""
        scope: Scope | None = self
        first = True
        while scope is not None and not isinstance(scope.node, ast.Module):
            # A class body's names are seen in the body itself, not in its methods.
            if first or not isinstance(scope.node, ast.ClassDef):
                bindings = scope.bindings
                if name in scope.globals:
                    return None
                if name in bindings and name not in scope.nonlocals:
                    return scope
            first = first and isinstance(scope.node, COMPREHENSIONS)
            scope = scope.parent
        return None

    def reaching(self, name: str, line: int, column: int, block: Block) -> list[Binding]:
        """The bindings of *name* in this very scope that may hold at a position in it."""
        every = self.bindings.get(name, [])
        before = [b for b in every if (b.line, b.column) < (line, column)]
        found: list[Binding] = []
        for binding in reversed(before):
            found.append(binding)
            if block[: len(binding.block)] == binding.block and not binding.fallback:
                break
        around = {key for key, _ in block if key in self.loops}
        found += [
            b
            for b in every
            if (b.line, b.column) >= (line, column) and any(key in around for key, _ in b.block)
        ]
        return found or every

    def final(self, name: str) -> list[Binding]:
        """The bindings of *name* that may hold once the scope's body has run."""
        found: list[Binding] = []
        for binding in reversed(self.bindings.get(name, [])):
            found.append(binding)
            if not binding.block:
                break
        return found


class _Collector:
    """Walks a scope's own statements and notes what they bind."""

    def __init__(self, scope: Scope, out: dict[str, list[Binding]]) -> None:
        self.scope = scope
        self.out = out

    def collect(self) -> None:
        node = self.scope.node
        if isinstance(node, FUNCTIONS):
            self._parameters(node.args)
        if isinstance(node, ast.Lambda):
            if self.scope.walrus:
                self._expression(node.body, ())
        elif isinstance(node, COMPREHENSIONS):
            for generator in node.generators:
                self._target(generator.target, "loop", generator.iter, node, (), False)
        else:
            self._body(node.body, (), False)
        for bindings in self.out.values():
            bindings.sort(key=lambda b: (b.line, b.column))

    def _add(
        self,
        name: str,
        kind: str,
        node: ast.AST | None,
        owner: ast.AST,
        block: Block,
        fallback: bool,
        part: int = -1,
    ) -> None:
        # An assignment binds after its value was computed, so it counts from its end.
        line = getattr(owner, "end_lineno", None) if kind == "value" else None
        column = getattr(owner, "end_col_offset", None) if kind == "value" else None
        self.out.setdefault(name, []).append(
            Binding(
                kind,
                node,
                owner,
                line if line is not None else getattr(owner, "lineno", 0),
                column if column is not None else getattr(owner, "col_offset", 0),
                block,
                fallback,
                part,
            )
        )

    def _parameters(self, args: ast.arguments) -> None:
        named = [*args.posonlyargs, *args.args, *args.kwonlyargs]
        for arg in named:
            self._add(arg.arg, "parameter", arg, arg, (), False)
        for extra in (args.vararg, args.kwarg):
            if extra is not None:
                self._add(extra.arg, "opaque", None, extra, (), False)

    def _body(self, statements: list[ast.stmt], block: Block, fallback: bool) -> None:
        pending = [(statement, block, fallback) for statement in reversed(statements)]
        while pending:
            statement, where, late = pending.pop()
            self._statement(statement, where, late)
            inner = list(_blocks(statement))
            if type(statement).__name__ in _LOOPS:
                self.scope.loops.add(id(statement))
            for name, body, handler in reversed(inner):
                below = late or (handler is not None and catches_import_error(handler))
                # What a with block binds, it binds for what follows as well.
                inside = (
                    where
                    if isinstance(statement, (ast.With, ast.AsyncWith))
                    else (*where, (id(statement), name))
                )
                pending += [(child, inside, below) for child in reversed(body)]

    def _statement(self, node: ast.stmt, block: Block, fallback: bool) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._add(node.name, "definition", node, node, block, fallback)
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                if alias.name != "*":
                    self._add(bound, "import", alias, node, block, fallback)
            return
        if isinstance(node, ast.Global):
            self.scope.globals.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            self.scope.nonlocals.update(node.names)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._target(target, "value", node.value, node, block, fallback)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._target(node.target, "value", node.value, node, block, fallback)
        elif isinstance(node, ast.AugAssign):
            self._target(node.target, "opaque", None, node, block, fallback)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            inside = (*block, (id(node), "body"))
            kind = "loop" if isinstance(node, ast.For) else "opaque"
            self._target(node.target, kind, node.iter, node.target, inside, fallback)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    self._target(
                        item.optional_vars, "opaque", None, item.optional_vars, block, fallback
                    )
        elif hasattr(node, "handlers"):  # ast.Try, and ast.TryStar where there is one
            handlers: list[ast.ExceptHandler] = getattr(node, "handlers", [])
            for handler in handlers:
                if handler.name:
                    self._add(handler.name, "opaque", None, handler, block, fallback)
        elif isinstance(node, ast.Match):
            for child in ast.walk(node):
                for name in (getattr(child, "name", None), getattr(child, "rest", None)):
                    if isinstance(child, ast.pattern) and isinstance(name, str):
                        self._add(
                            name, "opaque", None, node, (*block, (id(node), "case")), fallback
                        )
        if self.scope.walrus and isinstance(self.scope.node, FUNCTIONS):
            for child in _expressions(node):
                self._expression(child, block)

    def _expression(self, node: ast.expr, block: Block) -> None:
        # Only := binds inside an expression, and most have none.
        pending: list[ast.AST] = [node]
        while pending:
            child = pending.pop()
            if isinstance(child, ast.NamedExpr):
                self._add(child.target.id, "value", child.value, child, block, False)
            if not isinstance(child, FUNCTIONS):
                pending.extend(ast.iter_child_nodes(child))

    def _target(
        self,
        target: ast.expr,
        kind: str,
        value: ast.expr | None,
        owner: ast.AST,
        block: Block,
        fallback: bool,
    ) -> None:
        if isinstance(target, ast.Name):
            self._add(target.id, kind, value, owner, block, fallback)
        elif isinstance(target, ast.Starred):
            self._target(target.value, "opaque", None, owner, block, fallback)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for position, element in enumerate(target.elts):
                if isinstance(element, ast.Name) and kind in ("value", "loop"):
                    self._add(element.id, kind, value, owner, block, fallback, position)
                else:
                    self._target(element, "opaque", None, owner, block, fallback)


def _blocks(node: ast.stmt) -> Iterator[tuple[str, list[ast.stmt], ast.ExceptHandler | None]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if isinstance(body, list) and body:
            yield name, body, None
    for number, handler in enumerate(getattr(node, "handlers", ())):
        yield f"handler{number}", handler.body, handler
    for number, case in enumerate(getattr(node, "cases", ())):
        yield f"case{number}", case.body, None


def _expressions(node: ast.stmt) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.withitem):
            yield child.context_expr


def catches_import_error(handler: ast.ExceptHandler) -> bool:
    """Whether *handler* is there for an import that failed."""
    names = exception_names(handler.type)
    return bool(names & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}) or (
        handler.type is None
    )


def exception_names(node: ast.expr | None) -> set[str]:
    """The last parts of the names in an ``except`` clause or in the argument of ``raises``."""
    if node is None:
        return set()
    elements = node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]
    names = set()
    for element in elements:
        if isinstance(element, ast.Name):
            names.add(element.id)
        elif isinstance(element, ast.Attribute):
            names.add(element.attr)
    return names
