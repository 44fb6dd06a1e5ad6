"""Signatures and types of the C core's members, taken from its stub ``_wsmanager.pyi``.

A C type tells autodoc its docstrings, but no annotations; the stub has them,
and ``make types`` holds the stub against the core.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wsmanager

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions() -> Iterator[tuple[str, _Function]]:
    """Every function and method of the stub, by name or ``Class.name``."""
    stub = Path(wsmanager.__file__).with_name("_wsmanager.pyi")
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, _Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            methods = {each.name: each for each in node.body if isinstance(each, _Function)}
            for each in node.body:
                if isinstance(each, _Function):
                    yield f"{node.name}.{each.name}", each
                elif isinstance(each, ast.Assign) and isinstance(each.value, ast.Name):
                    for target in each.targets:  # send_event = emit_event
                        if isinstance(target, ast.Name) and each.value.id in methods:
                            yield f"{node.name}.{target.id}", methods[each.value.id]


def _signature(function: _Function, bound: bool) -> tuple[str, str]:
    arguments = function.args
    first = [*arguments.posonlyargs, *arguments.args]
    if bound and first and first[0].arg in ("self", "cls"):
        (arguments.posonlyargs or arguments.args).pop(0)
    return f"({ast.unparse(arguments)})", ast.unparse(function.returns) if function.returns else ""


def _read() -> tuple[dict[str, list[tuple[str, str]]], dict[str, str]]:
    signatures: dict[str, list[tuple[str, str]]] = {}
    types: dict[str, str] = {}
    seen: dict[int, tuple[str, str]] = {}
    for name, function in _functions():
        decorators = {ast.unparse(each) for each in function.decorator_list}
        if "property" in decorators:
            types[name] = ast.unparse(function.returns) if function.returns else ""
            continue
        if id(function) not in seen:
            seen[id(function)] = _signature(function, "." in name)
        signatures.setdefault(name, []).append(seen[id(function)])
    return signatures, types


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to autodoc."""
    signatures, types = _read()

    def short(name: str) -> str:
        return name.removeprefix("wsmanager.").removeprefix("_wsmanager.")

    def give_signature(
        app: Sphinx, what: str, name: str, obj: Any, options: Any, args: Any, returns: Any
    ) -> tuple[str, str] | None:
        found = signatures.get(short(name))
        if found is None or what == "class":
            return None
        # autodoc adds the last one's return type itself.
        lines = [f"{each} -> {result}" for each, result in found[:-1]] + [found[-1][0]]
        return "\n".join(lines), found[-1][1]

    def give_type(
        app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
    ) -> None:
        found = types.get(short(name))
        if found and lines:
            lines[0] = f"``{found}``: {lines[0]}"

    app.connect("autodoc-process-signature", give_signature)
    app.connect("autodoc-process-docstring", give_type)
    return {"parallel_read_safe": True}
