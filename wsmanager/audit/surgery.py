"""Edits of a text together with the same change to its syntax tree."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple, TypeVar

_Node = TypeVar("_Node", bound=ast.AST)


class Surgery(NamedTuple):
    """A change to the node at a position of the tree.

    *kind* is "unawait" (an ``await`` becomes what it awaits), "rename" (a name
    becomes *text*), "attribute" (so does an attribute, which is told by its
    end), "import" (an imported name becomes *text*) or "also" (it gets *text*
    as a neighbour). The text of an import may be ``name as alias``.
    """

    kind: str
    line: int
    column: int
    text: str

    def operate(self, tree: ast.Module) -> ast.Module:
        """The changed tree; *tree* itself is changed too. Nodes keep their positions."""
        changed: ast.Module = _Operation(self).visit(tree)
        return changed


class Edit(NamedTuple):
    """Put *text* in the place of the characters from *start* to *end*."""

    start: int
    end: int
    text: str
    surgery: Surgery | None


class _Operation(ast.NodeTransformer):
    def __init__(self, surgery: Surgery) -> None:
        self.surgery = surgery

    def _here(self, node: ast.AST) -> bool:
        place = (getattr(node, "lineno", None), getattr(node, "col_offset", None))
        return place == (self.surgery.line, self.surgery.column)

    def visit(self, node: ast.AST) -> Any:
        # Only the statements around the line are gone into.
        if isinstance(node, ast.stmt) and not getattr(node, "decorator_list", ()):
            end = node.end_lineno
            if end is not None and not node.lineno <= self.surgery.line <= end:
                return node
        return super().visit(node)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        return node.value if self.surgery.kind == "unawait" and self._here(node) else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if self.surgery.kind == "rename" and self._here(node):
            node.id = self.surgery.text
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        # An attribute starts where its owner does, so it is told by its end.
        end = (node.end_lineno, node.end_col_offset)
        if self.surgery.kind == "attribute" and end == (self.surgery.line, self.surgery.column):
            node.attr = self.surgery.text
        self.generic_visit(node)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if self.surgery.kind not in ("import", "also"):
            return node
        names: list[ast.alias] = []
        for alias in node.names:
            here = self._here(alias)
            if not (here and self.surgery.kind == "import"):
                names.append(alias)
            if here:
                name, _, asname = self.surgery.text.partition(" as ")
                names.append(ast.alias(name=name, asname=asname or None))
        node.names = names
        return node
