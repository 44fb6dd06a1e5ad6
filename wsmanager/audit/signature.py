"""Whether the arguments of a call fit, as far as its text tells."""

from __future__ import annotations

import ast
from typing import Final

OWN_BUILDERS: Final = {
    "create_server_message": ("type", "data", "correlation_id"),
    "create_error_message": ("code", "text", "details", "suggestions"),
}
_OWN_ALIASES: Final = {"error_code": "code", "error_message": "text"}


def own_mismatch(name: str, shape: tuple[str, ...]) -> str:
    """What is wrong with a call of our own builder *name*; "" if nothing is, or if it cannot be told.

    *shape* is the number of positional arguments, the kind of the first,
    "stars" if there are any, and the keywords.
    """
    count, first, stars, *words = shape
    if stars:
        return ""
    parameters = OWN_BUILDERS[name]
    positional = int(count)
    if positional > len(parameters):
        return f"takes at most {len(parameters)} arguments, {positional} are given"
    given = set(parameters[:positional])
    for word in words:
        plain = _OWN_ALIASES.get(word, word) if name == "create_error_message" else word
        if plain not in parameters:
            return f"has no parameter {word!r}"
        if plain in given:
            return f"gets {plain!r} twice"
        given.add(plain)
    if name == "create_server_message" and given <= {"type", "correlation_id"} and "type" in given:
        if positional == 0 or first in ("typed", "other"):
            return ""
        if first == "untyped":
            return "the mapping has no 'type'"
    missing = [parameter for parameter in parameters[:2] if parameter not in given]
    return f"{' and '.join(map(repr, missing))} missing" if missing else ""


def mismatch(shape: tuple[str, ...], definition: ast.FunctionDef) -> str:
    """What is wrong with a call of *definition*; "" if nothing is, or if it cannot be told."""
    count, _, stars, *words = shape
    arguments = definition.args
    if stars:
        return ""
    named = [item.arg for item in (*arguments.posonlyargs, *arguments.args)]
    positional = int(count)
    if positional > len(named) and arguments.vararg is None:
        return f"takes at most {len(named)} positional arguments, {positional} are given"
    given = set(named[:positional])
    by_word = {item.arg for item in (*arguments.args, *arguments.kwonlyargs)}
    for word in words:
        if word in given:
            return f"gets {word!r} twice"
        if word not in by_word and arguments.kwarg is None:
            return f"has no parameter {word!r}"
        given.add(word)
    required = named[: len(named) - len(arguments.defaults)]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required += [item.arg for item, default in pairs if default is None]
    missing = [name for name in required if name not in given]
    return f"{', '.join(map(repr, missing))} missing" if missing else ""
