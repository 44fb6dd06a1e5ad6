"""A place in a file that a rule may be about, before anybody knows the rest of the tree."""

from __future__ import annotations

import ast
from typing import NamedTuple

from .values import Value


class Site(NamedTuple):
    """One place.

    *kind* says which check looks at it; the position is the syntax tree's
    (lines from 1, columns in UTF-8 bytes from 0). *expected* is what the code
    around expects there ("TypeError", "Exception", "AsyncMock" or nothing),
    *function* the names of the functions around it, *info* what the check needs.
    """

    kind: str
    line: int
    column: int
    end_line: int
    end_column: int
    label: str
    value: Value
    expected: str = ""
    function: tuple[str, ...] = ()
    info: tuple[str, ...] = ()


def position(node: ast.AST) -> tuple[int, int, int, int]:
    """Start and end of a node, as a :class:`Site` keeps them."""
    line = int(getattr(node, "lineno", 1))
    column = int(getattr(node, "col_offset", 0))
    return (
        line,
        column,
        int(getattr(node, "end_lineno", None) or line),
        int(getattr(node, "end_col_offset", None) or column),
    )


def label(node: ast.AST) -> str:
    """The expression in short, for messages."""
    if isinstance(node, ast.Call):
        return f"{label(node.func)}({'...' if node.args or node.keywords else ''})"
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = label(node.value)
        return f"{owner}.{node.attr}" if len(owner) <= 60 else f"....{node.attr}"
    text = (
        " ".join(ast.unparse(node).split()) if isinstance(node, ast.expr) else type(node).__name__
    )
    return text if len(text) <= 60 else text[:57] + "..."
