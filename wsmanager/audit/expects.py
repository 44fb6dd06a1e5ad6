"""Places where a wrong await is the very point: the code around it expects the ``TypeError``."""

from __future__ import annotations

import ast

from .evaluate import last_name
from .scope import exception_names

_RAISES = frozenset({"raises", "assertRaises", "assertRaisesRegex", "failUnlessRaises"})
_GUARDS = frozenset(
    {"iscoroutinefunction", "iscoroutine", "isawaitable", "isfuture", "is_coroutine_function"}
)
_WIDE = frozenset({"Exception", "BaseException"})


def by_with(node: ast.With | ast.AsyncWith, factories: frozenset[str] = frozenset()) -> str:
    """What a ``with`` block expects: "TypeError", "Exception" when that is not sure, or nothing."""
    weaker = ""
    for item in node.items:
        call = item.context_expr
        if not isinstance(call, ast.Call):
            continue
        name = last_name(call.func)
        if name in _RAISES or name == "suppress":
            arguments = [
                *call.args,
                *(word.value for word in call.keywords if word.arg == "expected_exception"),
            ]
            names = (
                set().union(*(exception_names(argument) for argument in arguments))
                if arguments
                else set()
            )
            if "TypeError" in names:
                return "TypeError"
            if name in _RAISES and names & _WIDE:
                # raises(Exception, match="... can't be used in 'await' expression") is just as clear.
                if any("await" in text for text in _texts(call)):
                    return "TypeError"
                weaker = "Exception"
        elif (
            name in ("patch", "object") and "AsyncMock" in _names(call) and patched(call, factories)
        ):
            return "AsyncMock"
    return weaker


def by_try(node: ast.stmt) -> str:
    """ "TypeError" when a handler of this ``try`` is there for it, ahead of any wider one."""
    for handler in getattr(node, "handlers", ()):
        names = exception_names(handler.type)
        if "TypeError" in names:
            return "TypeError"
        if handler.type is None or names & _WIDE:
            return ""
    return ""


def by_decorators(node: ast.AST, factories: frozenset[str] = frozenset()) -> str:
    """What a function's or class's decorators expect of its body."""
    for decorator in getattr(node, "decorator_list", ()):
        if not isinstance(decorator, ast.Call):
            continue
        name = last_name(decorator.func)
        if name == "xfail":
            for word in decorator.keywords:
                if word.arg == "raises" and "TypeError" in exception_names(word.value):
                    return "TypeError"
        elif name in ("patch", "object") and _mocks(decorator, factories):
            return "AsyncMock"
    return ""


def guards(test: ast.expr) -> bool | None:
    """Whether *test* holds only for awaitables (True) or only for others (False); None if it says neither."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = guards(test.operand)
        return None if inner is None else not inner
    if isinstance(test, ast.BoolOp):
        parts = [guards(part) for part in test.values]
        # One part is enough for an "and" to say yes and for an "or" to say no.
        strong = isinstance(test.op, ast.And)
        if strong in parts:
            return strong
        return (not strong) if all(part is (not strong) for part in parts) else None
    if isinstance(test, ast.Call):
        if last_name(test.func) in _GUARDS:
            return True
        if last_name(test.func) == "hasattr" and "__await__" in _texts(test):
            return True
        if last_name(test.func) == "isinstance" and _names(test) & {
            "Awaitable",
            "Coroutine",
            "Future",
        }:
            return True
    return None


def guarded(test: ast.expr, operand: ast.AST) -> bool:
    """Whether *test* is about what *operand* awaits: the same name, or the function that it calls."""
    return bool(_names(test) & _names(operand) - {"asyncio", "inspect", "self"})


def passed(node: ast.If) -> bool:
    """Whether only awaitables get past *node*, because its block leaves with everything else."""
    ends = (ast.Return, ast.Raise, ast.Continue, ast.Break)
    return isinstance(node.body[-1], ends) and guards(node.test) is False


def by_body(node: ast.AST, factories: frozenset[str]) -> str:
    """ "AsyncMock" when the function itself puts one in the place of a factory (``monkeypatch.setattr``)."""
    for statement in getattr(node, "body", ()):
        call = getattr(statement, "value", None)
        if (
            isinstance(call, ast.Call)
            and last_name(call.func) == "setattr"
            and _mocks(call, factories)
        ):
            return "AsyncMock"
    return ""


def _mocks(call: ast.Call, factories: frozenset[str]) -> bool:
    return "AsyncMock" in _names(call) and patched(call, factories)


def patched(call: ast.AST, factories: frozenset[str]) -> bool:
    """Whether a ``patch`` call puts something in the place of one of *factories*."""
    return any(text.rpartition(".")[2] in factories for text in _texts(call))


def called_where_expected(function: ast.AST, around: ast.AST) -> bool:
    """Whether the helper *function* is only ever used, in *around*, where the TypeError is expected."""
    name = getattr(function, "name", None)
    uses = 0
    pending: list[tuple[ast.AST, bool]] = [(child, False) for child in ast.iter_child_nodes(around)]
    while pending:
        node, inside = pending.pop()
        if node is function:
            continue
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            if not inside:
                return False
            uses += 1
        if isinstance(node, (ast.With, ast.AsyncWith)) and by_with(node) == "TypeError":
            pending += [(child, inside) for child in node.items]
            pending += [(child, True) for child in node.body]
        elif hasattr(node, "handlers") and isinstance(node, ast.stmt) and by_try(node):
            pending += [(child, True) for child in getattr(node, "body", ())]
            rest = (
                *getattr(node, "handlers", ()),
                *getattr(node, "orelse", ()),
                *getattr(node, "finalbody", ()),
            )
            pending += [(child, inside) for child in rest]
        else:
            pending += [(child, inside) for child in ast.iter_child_nodes(node)]
    return uses > 0


def _names(node: ast.AST) -> set[str]:
    return {name for child in ast.walk(node) if (name := last_name(child)) is not None}


def _texts(node: ast.AST) -> list[str]:
    return [
        child.value
        for child in ast.walk(node)
        if isinstance(child, ast.Constant) and isinstance(child.value, str)
    ]
