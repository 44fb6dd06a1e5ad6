"""What becomes of a local name: whether anything ever awaits what it holds."""

from __future__ import annotations

import ast
from typing import Final

#: A coroutine's own methods: to use them is no sign of a mistake.
PROTOCOL: Final = frozenset({"send", "throw", "close", "__await__"})


def function_at(module: ast.Module, line: int, column: int) -> ast.AST | None:
    """The innermost function around a position."""
    found: ast.AST | None = None
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
            inside = (node.lineno, node.col_offset) <= (line, column) < end
            if inside and (found is None or node.lineno >= getattr(found, "lineno", 0)):
                found = node
    return found


def never_awaited(function: ast.AST, name: str) -> str:
    """Why the value in the local *name* of *function* is never awaited; "" if it may be.

    Handing it to anything, returning or storing it counts as "may be".
    """
    attribute = ""
    loads = 0
    pending: list[ast.AST] = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Attribute) and _is(node.value, name):
            loads += 1
            if node.attr not in PROTOCOL:
                attribute = attribute or node.attr
            continue
        if isinstance(node, ast.Compare) and _is(node.left, name):
            pending += node.comparators
            loads += 1
            continue
        if _is(node, name) and isinstance(getattr(node, "ctx", None), ast.Load):
            return ""
        pending += ast.iter_child_nodes(node)
    if attribute:
        return f"its attribute {attribute!r} is used"
    return "" if loads else "its result is never used"


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
