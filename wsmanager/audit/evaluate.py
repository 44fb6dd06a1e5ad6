"""From an expression to a :mod:`value <.values>`, with what one file says.

Nothing is imported or run: names are followed to their bindings in the file,
functions to their ``return`` statements, and whatever leads out of the file
stays a reference. Depth and work are bounded, so hostile code costs little.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Final

from .scope import COMPREHENSIONS, Binding, Block, Scope, ScopeNode
from .values import (
    AWAITABLE,
    NOTHING,
    OPAQUE,
    UNKNOWN,
    Attr,
    Call,
    Class,
    Coroutine,
    Function,
    Global,
    Instance,
    Member,
    Plain,
    Plainly,
    Ref,
    Value,
    either,
)

_MAX_DEPTH: Final = 12
_MAX_RETURNS: Final = 24
_MAX_ITEMS: Final = 16

#: Decorators that leave a function what it is, by the last part of their name.
_TRANSPARENT: Final = frozenset(
    "staticmethod classmethod override final wraps lru_cache cache deprecated overload "
    "pytest_fixture runtime_checkable typechecked no_type_check beartype".split()
)
_PLAIN_BUILTINS: Final = frozenset(
    "abs all any ascii bin bool bytearray bytes callable chr complex dict dir divmod enumerate filter "
    "float format frozenset hash hex id input int isinstance issubclass len list map max memoryview min "
    "oct open ord pow print range repr reversed round set slice sorted str sum tuple type vars zip".split()
)
_PLAIN_TYPES: Final = _PLAIN_BUILTINS | frozenset(
    "Dict List Set FrozenSet Tuple Type Mapping MutableMapping Sequence Iterable Iterator Generator "
    "AsyncIterator AsyncGenerator AsyncIterable Callable None NoReturn Path datetime timedelta "
    "Decimal UUID Literal".split()
)
_LITERALS: Final = {
    ast.List: "a list",
    ast.ListComp: "a list",
    ast.Tuple: "a tuple",
    ast.Dict: "a dict",
    ast.DictComp: "a dict",
    ast.Set: "a set",
    ast.SetComp: "a set",
    ast.JoinedStr: "a str",
    ast.Compare: "a comparison",
    ast.GeneratorExp: "a generator",
    ast.Lambda: "a function",
}
_MOCKS: Final = frozenset({"Mock", "MagicMock", "NonCallableMock", "create_autospec", "mock_open"})
#: Calls that give something to await, by the last part of their name.
_AWAITABLES: Final = frozenset(
    "create_task ensure_future gather wait_for shield sleep to_thread run_in_executor create_future "
    "wrap_future Future".split()
)
_ASYNC_MOCKS: Final = frozenset({"AsyncMock", "coroutine", "sync_to_async", "asyncify"})


Assignments = dict[str, list[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.expr]]]


class Evaluator:
    """Evaluates expressions of one module. Scopes are kept, so each is collected once.

    *watched* are the attributes whose assignment (``hub.get_manager = ...``) is
    worth looking for; *walrus* is whether the file has any ``:=`` at all.
    """

    def __init__(
        self, module: ast.Module, watched: frozenset[str] = frozenset(), walrus: bool = True
    ) -> None:
        self._watched = watched
        self._walrus = walrus
        self.module = Scope(module, None, walrus)
        self._scopes: dict[int, Scope] = {id(module): self.module}
        self._active: set[int] = set()
        self._attributes: dict[int, Assignments] = {}

    def scope(self, node: ScopeNode, parent: Scope) -> Scope:
        """The scope of *node*, which stands in *parent*."""
        found = self._scopes.get(id(node))
        if found is None:
            found = self._scopes[id(node)] = Scope(node, parent, self._walrus)
        return found

    # -- expressions ----------------------------------------------------------

    def value(self, node: ast.AST | None, scope: Scope, block: Block = (), depth: int = 0) -> Value:
        """What *node* stands for where it is written: in *scope*, inside the statements *block*."""
        if node is None or depth > _MAX_DEPTH or id(node) in self._active:
            return UNKNOWN
        self._active.add(id(node))
        try:
            return self._value(node, scope, block, depth + 1)
        finally:
            self._active.discard(id(node))

    def _value(self, node: ast.AST, scope: Scope, block: Block, depth: int) -> Value:
        if isinstance(node, ast.Name):
            return self.name(node.id, scope, node.lineno, node.col_offset, block, depth)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope, block, depth)
        if isinstance(node, ast.Call):
            return self._call(node, scope, block, depth)
        if isinstance(node, ast.NamedExpr):
            return self.value(node.value, scope, block, depth)
        if isinstance(node, ast.IfExp):
            return either(
                [self.value(part, scope, block, depth) for part in (node.body, node.orelse)]
            )
        if isinstance(node, ast.BoolOp):
            return either([self.value(part, scope, block, depth) for part in node.values])
        if isinstance(node, ast.Lambda):
            inner = self.scope(node, scope)
            result = self.value(node.body, inner, (), depth)
            return Function("lambda", node.lineno, (result,), UNKNOWN, ())
        if isinstance(node, ast.Constant):
            return NOTHING if node.value is None else Plain(f"a {type(node.value).__name__}")
        if isinstance(node, ast.Subscript):
            return self._subscript(node, scope, block, depth)
        what = _LITERALS.get(type(node))
        return Plain(what) if what else UNKNOWN

    def _attribute(self, node: ast.Attribute, scope: Scope, block: Block, depth: int) -> Value:
        owner = node.value
        holder = scope.enclosing_class
        if holder is not None and isinstance(owner, ast.Name) and owner.id in ("self", "cls"):
            return self.member(holder, node.attr, depth)
        if node.attr in self._watched:
            found = self._set(dotted(node) or "", scope, holder, depth)
            if found:
                return either(found)
        return Attr(self.value(owner, scope, block, depth), node.attr)

    def _set(self, path: str, scope: Scope, holder: Scope | None, depth: int) -> list[Value]:
        """What the function, or for ``self.a.b`` the class, assigns to the attribute *path* itself."""
        if path.startswith("self."):
            if holder is None or not isinstance(holder.node, ast.ClassDef):
                return []
            return self._assigned(holder.node, holder, path.partition(".")[2], depth)
        home = scope.function
        if home is None or not isinstance(home.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return []
        if id(home.node) not in self._attributes:
            self._attributes[id(home.node)] = assignments([home.node])
        found = self._attributes[id(home.node)].get(path, ())
        return [self.value(value, home, (), depth) for _, value in found]

    def _subscript(self, node: ast.Subscript, scope: Scope, block: Block, depth: int) -> Value:
        key = node.slice
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            return UNKNOWN
        owner = node.value
        if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name):
            if owner.func.id == "globals":
                return Global(key.value)
            if owner.func.id == "vars" and len(owner.args) == 1:
                return Attr(self.value(owner.args[0], scope, block, depth), key.value)
        if isinstance(owner, ast.Attribute) and owner.attr == "__dict__":
            return Attr(self.value(owner.value, scope, block, depth), key.value)
        if (
            isinstance(owner, ast.Attribute)
            and owner.attr == "modules"
            and dotted(owner) == "sys.modules"
        ):
            return Ref(0, key.value, "")
        return UNKNOWN

    def _call(self, node: ast.Call, scope: Scope, block: Block, depth: int) -> Value:
        name = last_name(node.func)
        first = node.args[0] if node.args else None
        if name == "getattr" and isinstance(node.func, ast.Name) and len(node.args) >= 2:
            key = node.args[1]
            if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                return UNKNOWN
            owner = ast.copy_location(ast.Attribute(node.args[0], key.value, ast.Load()), node)
            return self._attribute(owner, scope, block, depth)
        if name in ("import_module", "__import__"):
            module = first.value if isinstance(first, ast.Constant) else None
            return self._imported(name, module, node) if isinstance(module, str) else UNKNOWN
        if name in ("partial", "staticmethod", "classmethod") and first is not None:
            return self.value(first, scope, block, depth)
        if name in _ASYNC_MOCKS:
            return Coroutine(name or "", 0)
        if name in _MOCKS:
            return OPAQUE
        if name in _AWAITABLES and name not in self.module.bindings:
            return AWAITABLE
        callee = self.value(node.func, scope, block, depth)
        if (
            callee == Global(name or "")
            and name in _PLAIN_BUILTINS
            and name not in self.module.bindings
        ):
            return Plain(f"the result of {name}()")
        return Call(callee) if callee != UNKNOWN else UNKNOWN

    @staticmethod
    def _imported(function: str, module: str, node: ast.Call) -> Value:
        if function == "__import__":
            whole = len(node.args) > 3 or any(word.arg == "fromlist" for word in node.keywords)
            return Ref(0, module if whole else module.partition(".")[0], "")
        level = len(module) - len(module.lstrip("."))
        return Ref(level, module[level:], "")

    # -- names ----------------------------------------------------------------

    def name(
        self, name: str, scope: Scope, line: int, column: int, block: Block = (), depth: int = 0
    ) -> Value:
        """What the name stands for at a position of *scope*."""
        home = scope.find(name)
        if home is None:
            return Global(name)
        same = home is scope or (isinstance(scope.node, COMPREHENSIONS) and home is scope.function)
        found = home.reaching(name, line, column, block) if same else home.bindings[name]
        return self.bound(found, home, depth)

    def bound(self, bindings: list[Binding], scope: Scope, depth: int = 0) -> Value:
        """One value for all of *bindings*, which stand in *scope*."""
        options = [self.binding(b, scope, depth) for b in bindings if not b.fallback]
        fallbacks = [self.binding(b, scope, depth) for b in bindings if b.fallback]
        return either(options, fallbacks)

    def binding(self, binding: Binding, scope: Scope, depth: int = 0) -> Value:
        """What one binding binds its name to."""
        node = binding.node
        if depth > _MAX_DEPTH:
            return UNKNOWN
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return self.function(node, scope, depth)
        if isinstance(node, ast.ClassDef):
            return self.class_(node, scope, depth)
        if isinstance(node, ast.alias):
            return imported(binding.owner, node)
        if isinstance(node, ast.arg):
            holder = scope.enclosing_class
            if node.arg == "cls" and holder is not None and isinstance(holder.node, ast.ClassDef):
                return self.class_(holder.node, holder.parent or self.module, depth + 1)
            annotation = self.annotation(node.annotation, scope, depth)
            return annotation if isinstance(annotation, Instance) else UNKNOWN
        if binding.kind == "value":
            if binding.part >= 0:
                if not (isinstance(node, (ast.Tuple, ast.List)) and binding.part < len(node.elts)):
                    return UNKNOWN
                node = node.elts[binding.part]
            return self.value(node, scope, binding.block, depth)
        if binding.kind == "loop" and isinstance(node, ast.expr):
            around = (
                scope.parent if isinstance(scope.node, COMPREHENSIONS) and scope.parent else scope
            )
            items = self._items(node, around, depth)
            if binding.part >= 0:
                tuples = [item.elts for item in items if isinstance(item, (ast.Tuple, ast.List))]
                items = [
                    elements[binding.part] for elements in tuples if binding.part < len(elements)
                ]
            return either([self.value(item, around, (), depth) for item in items[:_MAX_ITEMS]])
        return UNKNOWN

    def _items(self, node: ast.expr, scope: Scope, depth: int) -> list[ast.expr]:
        """The elements of a collection that is written out, here or where its name is bound."""
        if depth > _MAX_DEPTH:
            return []
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return node.elts
        if isinstance(node, ast.Name):
            home = scope.find(node.id) or self.module
            bound = home.bindings.get(node.id, [])
            values = [
                b.node
                for b in bound
                if b.kind == "value" and b.part < 0 and isinstance(b.node, ast.expr)
            ]
            return [item for value in values for item in self._items(value, home, depth + 1)]
        return []

    # -- functions and classes --------------------------------------------------

    def function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, depth: int = 0
    ) -> Value:
        """A function; its returns are read at once, so only local ones and those asked for come here."""
        decorators = self.decorators(node, scope, depth)
        if isinstance(node, ast.AsyncFunctionDef):
            return decorated_async(node, decorators)
        if isinstance(scope.node, ast.Module):
            return Plainly(node.name, node.lineno, decorators)
        return self.body(node, scope, decorators, depth)

    def body(
        self,
        node: ast.FunctionDef,
        scope: Scope,
        decorators: tuple[Value, ...],
        depth: int = 0,
    ) -> Function:
        """A plain function with what it returns."""
        annotation = self.annotation(node.returns, scope, depth)
        if depth > _MAX_DEPTH or id(node) in self._active:
            return Function(node.name, node.lineno, (UNKNOWN,), annotation, decorators)
        self._active.add(id(node))
        try:
            inner = self.scope(node, scope)
            return Function(
                node.name,
                node.lineno,
                self._returns(node, inner, depth + 1),
                annotation,
                decorators,
            )
        finally:
            self._active.discard(id(node))

    def _returns(self, node: ast.FunctionDef, scope: Scope, depth: int) -> tuple[Value, ...]:
        if is_stub(node):
            return (UNKNOWN,)
        found: list[Value] = []
        pending: list[tuple[ast.AST, Block]] = [(child, ()) for child in reversed(node.body)]
        generator = False
        while pending and len(found) < _MAX_RETURNS:
            item, block = pending.pop()
            if isinstance(item, ast.Return):
                found.append(
                    NOTHING if item.value is None else self.value(item.value, scope, block, depth)
                )
            elif isinstance(item, (ast.Yield, ast.YieldFrom)):
                generator = True
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
                continue
            for field, child in ast.iter_fields(item):
                inside = (*block, (id(item), field)) if isinstance(item, ast.stmt) else block
                if isinstance(child, ast.AST):
                    pending.append((child, block))
                elif isinstance(child, list):
                    nodes = [part for part in child if isinstance(part, ast.AST)]
                    pending += [
                        (part, inside if isinstance(part, ast.stmt) else block)
                        for part in reversed(nodes)
                    ]
        if generator:
            return (UNKNOWN,)  # a generator: types.coroutine may make an awaitable of it
        return tuple(found) if found else (NOTHING,)

    def decorators(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, depth: int = 0
    ) -> tuple[Value, ...]:
        """The decorators that may change what calling the function gives."""
        found: list[Value] = []
        for decorator in node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            if last_name(target) not in _TRANSPARENT:
                found.append(self.value(decorator, scope, (), depth))
        return tuple(found)

    def class_(self, node: ast.ClassDef, scope: Scope, depth: int = 0) -> Value:
        """A class with the names of its body; inherited ones are for the resolve pass."""
        bases = tuple(self.value(base, scope, (), depth) for base in node.bases)
        inner = self.scope(node, scope)
        members: dict[str, Value] = {}
        for name, bindings in inner.bindings.items():
            members[name] = self._class_member(bindings, inner, depth)
        return Class(node.name, node.lineno, bases, members)

    def _class_member(self, bindings: list[Binding], scope: Scope, depth: int) -> Value:
        last = bindings[-1].node
        if isinstance(last, ast.AsyncFunctionDef):
            return decorated_async(last, self.decorators(last, scope, depth))
        if isinstance(last, ast.FunctionDef):
            return Plainly(last.name, last.lineno, self.decorators(last, scope, depth))
        return self.bound(bindings, scope, depth)

    def member(self, holder: Scope, name: str, depth: int = 0) -> Value:
        """``self.name`` inside the class *holder*."""
        node = holder.node
        assert isinstance(node, ast.ClassDef)
        around = holder.parent or self.module
        bindings = holder.bindings.get(name)
        found: list[Value] = []
        if bindings:
            last = bindings[-1].node
            if isinstance(last, ast.FunctionDef):
                decorators = self.decorators(last, holder, depth)
                function = self.body(last, holder, decorators, depth)
                found.append(property_value(last, function))
            else:
                found.append(self._class_member(bindings, holder, depth))
        found += self._assigned(node, holder, name, depth)
        if found:
            return either(found)
        return Member(tuple(self.value(base, around, (), depth) for base in node.bases), name)

    def _assigned(self, node: ast.ClassDef, holder: Scope, name: str, depth: int) -> list[Value]:
        if id(node) not in self._attributes:
            self._attributes[id(node)] = assignments(
                [
                    item
                    for item in node.body
                    if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
                ]
            )
        found: list[Value] = []
        for method, value in self._attributes[id(node)].get(f"self.{name}", ()):
            found.append(self.value(value, self.scope(method, holder), (), depth))
        return found

    def annotation(self, node: ast.expr | None, scope: Scope, depth: int = 0) -> Value:
        """An instance of the annotated class; :data:`UNKNOWN` for what says too little."""
        if node is None or depth > _MAX_DEPTH:
            return UNKNOWN
        if isinstance(node, ast.Constant):
            if node.value is None:
                return Plain("None")
            if not isinstance(node.value, str):
                return UNKNOWN
            try:
                parsed = ast.parse(node.value.strip(), mode="eval").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return UNKNOWN
            return self.annotation(parsed, scope, depth + 1)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [self.annotation(side, scope, depth + 1) for side in (node.left, node.right)]
            return either(sides)
        if isinstance(node, ast.Subscript):
            name = last_name(node.value)
            if name == "Optional":
                return self.annotation(node.slice, scope, depth + 1)
            if name in ("Awaitable", "Coroutine", "Future", "Task"):
                return AWAITABLE
            return Plain(f"a {name}") if name in _PLAIN_TYPES else UNKNOWN
        name = last_name(node)
        if name in ("Awaitable", "Coroutine", "Future", "Task"):
            return AWAITABLE
        if name in _PLAIN_TYPES:
            return Plain(f"a {name}")
        if isinstance(node, (ast.Name, ast.Attribute)):
            target = dotted(node)
            if target is None:
                return UNKNOWN
            head, *rest = target.split(".")
            value = self.name(
                head,
                scope,
                getattr(node, "lineno", 0),
                getattr(node, "col_offset", 0),
                (),
                depth + 1,
            )
            for part in rest:
                value = Attr(value, part)
            return Instance(value)
        return UNKNOWN


# -- helpers over the tree --------------------------------------------------------


def assignments(functions: Sequence[ast.FunctionDef | ast.AsyncFunctionDef]) -> Assignments:
    """What *functions* assign to attributes, by their dotted text such as ``self.factory``."""
    found: Assignments = {}
    for function in functions:
        # Assignments are statements: expressions need not be looked into.
        pending: list[ast.stmt] = list(function.body)
        while pending:
            child = pending.pop()
            if isinstance(child, ast.Assign):
                targets, value = child.targets, child.value
            elif isinstance(child, ast.AnnAssign) and child.value is not None:
                targets, value = [child.target], child.value
            else:
                for block in blocks(child):
                    pending += block
                continue
            for target in targets:
                if isinstance(target, ast.Attribute):
                    path = dotted(target)
                    if path is not None:
                        found.setdefault(path, []).append((function, value))
    return found


def blocks(node: ast.AST) -> list[list[ast.stmt]]:
    """The lists of statements inside a compound statement."""
    found = [
        body
        for field in ("body", "orelse", "finalbody")
        if isinstance(body := getattr(node, field, None), list)
    ]
    for field in ("handlers", "cases"):
        found += [item.body for item in getattr(node, field, ())]
    return found


def imported(owner: ast.AST, alias: ast.alias) -> Value:
    """What an import statement binds: a module, or a name of one."""
    if isinstance(owner, ast.ImportFrom):
        return Ref(owner.level, owner.module or "", alias.name)
    whole = alias.name if alias.asname else alias.name.partition(".")[0]
    return Ref(0, whole, "")


def property_value(node: ast.FunctionDef, function: Function) -> Value:
    """The function itself, or for a property what reading it gives."""
    names = {last_name(item) for item in node.decorator_list}
    if names & {"property", "cached_property"}:
        return either(list(function.returns))
    return function


def decorated_async(node: ast.AsyncFunctionDef, decorators: tuple[Value, ...]) -> Value:
    """An ``async def``: a decorator may make a context manager or a plain function of it."""
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if last_name(target) in ("async_to_sync", "syncify", "asynccontextmanager", "fixture"):
            return UNKNOWN
    return Coroutine(node.name, node.lineno)


def own_nodes(node: ast.AST) -> list[ast.AST]:
    """The nodes of a function's body, without those of functions and classes inside it."""
    found: list[ast.AST] = []
    pending = list(getattr(node, "body", ()))
    while pending:
        child = pending.pop()
        found.append(child)
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(child))
    return found


def is_stub(node: ast.FunctionDef) -> bool:
    """Whether a function has no body of its own: ``...``, a docstring, or only ``raise``."""
    body = node.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return not body or all(isinstance(item, ast.Raise) for item in body)


def dotted(node: ast.AST) -> str | None:
    """``a.b.c`` for names and attributes, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))


def last_name(node: ast.AST) -> str | None:
    """The name itself, or the last part of an attribute."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None
