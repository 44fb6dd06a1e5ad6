"""Where a file says of what class a name or an attribute of ``self`` is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .evaluate import own_nodes
from .scope import Scope


def stated(node: ast.expr, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
    """The annotations of *node*, used in *scope*, each with the scope that it is to be read in."""
    if isinstance(node, ast.Name):
        yield from _of_name(node.id, scope)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        holder = scope.enclosing_class
        if node.value.id == "self" and holder is not None:
            yield from _of_attribute(node.attr, holder)


def _of_name(name: str, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
    inner: Scope | None = scope
    while inner is not None:
        found = inner.node
        if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
            every = [*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs]
            said = [arg.annotation for arg in every if arg.arg == name and arg.annotation]
            yield from ((_known(item), inner) for item in said)
        if not isinstance(found, ast.ClassDef):
            yield from ((item, inner) for item in _assigned(found, name))
        if name in inner.bindings:
            return  # another one, from here outwards
        inner = inner.parent


def _of_attribute(name: str, holder: Scope) -> Iterator[tuple[ast.expr, Scope]]:
    yield from ((item, holder) for item in _assigned(holder.node, name))
    for method in getattr(holder.node, "body", ()):
        if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from ((item, holder) for item in _assigned(method, f"self.{name}"))


def _assigned(node: ast.AST, name: str) -> Iterator[ast.expr]:
    for child in own_nodes(node):
        if isinstance(child, ast.AnnAssign) and ast.unparse(child.target) == name:
            yield _known(child.annotation)


def _known(annotation: ast.expr) -> ast.expr:
    """*annotation* without its quotes and "or None": where something is sent, it is not."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            parsed = ast.parse(annotation.value.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return annotation
        return parsed if isinstance(parsed, ast.Constant) else _known(parsed)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        for one, other in (
            (annotation.left, annotation.right),
            (annotation.right, annotation.left),
        ):
            if isinstance(one, ast.Constant) and one.value is None:
                return other
    return annotation
