"""Any Python value as plain JSON material, or an error that says where and why not.

Plain material is what every JSON encoder writes alike: exact ``dict`` with
``str`` keys, ``list``, ``str``, ``int``, finite ``float``, ``bool`` and
``None``. Turning a value into it here, and not in an encoder's own hooks,
makes the result the same whichever encoder is installed.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import sys
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    KeysView,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, Final
from uuid import UUID

from ._wsmanager import EncodeError, EventTooLarge

MAX_DEPTH = 200
"""Levels of nesting. Every encoder can write that many (orjson stops at 254)."""

MAX_INT_BITS = 1024
"""A larger integer is beyond a double, so a browser reads it as Infinity."""

_BYTES = (bytes, bytearray, memoryview)
_Members = Iterable[tuple[Any, Any]]


class _Refused(Exception):
    """Why a value cannot be written; collects its path on the way out."""

    def __init__(self, why: str, *, of: type[EncodeError] = EncodeError) -> None:
        super().__init__(why)
        self.why = why
        self.of = of
        self.path: list[str] = []
        self.containers: list[int] = []

    def left(self, container: object, segment: str) -> None:
        """The error leaves *container*, whose member at *segment* it was in."""
        self.path.append(segment)
        self.containers.append(id(container))


def plain(value: object, root: str, max_bytes: int) -> tuple[Any, bool]:
    """*value* as plain material, and whether an ``int`` in it passes 64 bits.

    Only reads *value*. Raises :class:`~wsmanager.EncodeError`, whatever is
    wrong with the value or with the code of its class; it names the path from
    *root* (``payload.tool.args[2]: ...``), which begins with a member's name
    where *root* is empty. Raises :class:`~wsmanager.EventTooLarge` as soon as
    the JSON of what was read must pass *max_bytes*, so that a small object
    that repeats itself without end is refused without being written out.
    """
    walk = _Walk(max_bytes)
    try:
        return walk.value(value, MAX_DEPTH), walk.wide
    except _Refused as refused:
        error, cause = refused.of(_explain(refused, root)), refused.__cause__
    except RecursionError:
        error, cause = too_deep(root), None
    except RuntimeError as changed:  # what a dict says when another thread resizes it meanwhile
        error = EncodeError(f"{_join(root, [])}: was changed while it was read; give a copy of it")
        cause = changed
    raise error from cause


_ATOMS: Final = frozenset((str, int, float, bool, NoneType))
_TEXT: Final = frozenset((str,))
_MAX_NODES: Final = 10_000


def settled(data: dict[str, Any], root: str, max_bytes: int) -> dict[str, Any]:
    """*data*, made :func:`plain` unless it is: what is left to encode then runs nobody's code."""
    try:
        if _is_plain(data):
            return data
    except RuntimeError:  # another thread changes it: plain() says so
        pass
    made: dict[str, Any] = plain(data, root, max_bytes)[0]
    return made


def _is_plain(data: dict[str, Any]) -> bool:
    nodes: list[Any] = [data]
    for _ in range(_MAX_NODES):  # a cycle ends there as well
        if not nodes:
            return True
        node = nodes.pop()
        if type(node) is dict:
            if not _TEXT.issuperset(map(type, node)):
                return False
            node = node.values()
        elif type(node) is not list and type(node) is not tuple:
            return False
        if not _ATOMS.issuperset(map(type, node)):
            nodes.extend(value for value in node if type(value) not in _ATOMS)
    return False


def too_deep(root: str) -> EncodeError:
    """For a value that needs more of the interpreter's stack than is left."""
    return EncodeError(f"{_join(root, [])}: is nested too deeply for the stack that is left")


def members(value: Any) -> _Members | None:
    """The named members of a record (pydantic, dataclass, attrs, msgspec) or mapping.

    ``None`` if *value* is neither. The error of a class's own code comes out
    as it is.
    """
    kind = type(value)
    if isinstance(value, Mapping):
        return _pairs(value)
    if callable(getattr(kind, "model_dump", None)):
        return _items(value.model_dump(mode="json"))
    if hasattr(kind, "__fields__") and callable(getattr(kind, "dict", None)):
        return _items(value.dict())
    if hasattr(kind, "__struct_fields__"):
        return _struct_members(value, kind)
    if hasattr(kind, "__dataclass_fields__"):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    if hasattr(kind, "__attrs_attrs__"):
        return [(a.name, getattr(value, a.name)) for a in value.__attrs_attrs__]
    return None


def _pairs(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """The items of *value*, by its keys.

    ``list(value.items())`` of a dict crashes CPython up to 3.11 where memory
    runs out in it; iterating over the keys does not.
    """
    return [(key, value[key]) for key in list(value)]


def _items(dumped: object) -> _Members | None:
    """A pydantic root model dumps to anything; only a mapping has members."""
    return _pairs(dumped) if isinstance(dumped, Mapping) else None


def _struct_members(value: object, kind: Any) -> _Members:
    """A msgspec.Struct by its encoded names, with its tag, without what is UNSET."""
    config = kind.__struct_config__
    found: list[tuple[Any, Any]] = []
    if config.tag is not None:
        found.append((config.tag_field, config.tag))
    unset = getattr(sys.modules.get("msgspec"), "UNSET", None)
    for attribute, name in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        member = getattr(value, attribute)
        if member is not unset or unset is None:
            found.append((name, member))
    return found


class _Walk:
    """One pass over one value."""

    __slots__ = ("left", "max_bytes", "wide")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.left = max_bytes  # bytes, a lower bound of what the JSON needs
        self.wide = False

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self.text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return self.integer(value)
        if kind is float:
            return _number(value)
        if depth == 0:
            raise _Refused(f"is nested more than {MAX_DEPTH} levels deep")
        if kind is dict:
            return self.mapping(value, _pairs(value), depth - 1)
        if kind is list or kind is tuple:
            return self.sequence(value, list(value), depth - 1)
        return self.other(value, kind, depth - 1)

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Refused(
                f"the event is larger than max_event_bytes={self.max_bytes}; send less, "
                "send a link to it, or raise the limit with wsmanager.configure()",
                of=EventTooLarge,
            )

    def text(self, value: str) -> str:
        self.spend(len(value) + 2)
        if not value.isascii():
            _check_text(value)
        return value

    def integer(self, value: int) -> int:
        if value.bit_length() > 63:
            if value.bit_length() > MAX_INT_BITS:
                raise _Refused(
                    f"is an int of {value.bit_length()} bits, which no browser can read; send it as str"
                )
            self.wide = True
        return value

    def mapping(
        self, container: object, items: list[tuple[Any, Any]], depth: int
    ) -> dict[str, Any]:
        self.spend(4 * len(items))
        out: dict[str, Any] = {}
        for key, item in items:
            name = key if type(key) is str and key.isascii() else _key(key)
            self.left -= len(name)
            try:
                out[name] = self.value(item, depth)
            except _Refused as refused:
                refused.left(container, _member(name))
                raise
        if len(out) != len(items):
            raise _Refused("has two keys that are the same text in JSON")
        return out

    def sequence(self, container: object, items: list[Any], depth: int) -> list[Any]:
        self.spend(2 * len(items))
        out: list[Any] = []
        for item in items:
            try:
                out.append(self.value(item, depth))
            except _Refused as refused:
                refused.left(container, f"[{len(out)}]")
                raise
        return out

    def other(self, value: Any, kind: type, depth: int) -> Any:
        """What only Python knows; *depth* has been taken off, so no chain of wrappers is endless."""
        try:
            found = self.unwrap(value, kind)
        except (_Refused, RecursionError, MemoryError):
            raise
        except Exception as error:
            raise _Refused(
                f"{_name(kind)} failed to give its content ({_name(type(error))})"
            ) from error
        if isinstance(found, dict):
            return self.mapping(value, _pairs(found), depth)
        if isinstance(found, list):
            return self.sequence(value, found, depth)
        return self.value(found, depth)

    def unwrap(self, value: Any, kind: type) -> Any:
        """One layer less: a dict or list of members, or what *value* stands for."""
        exact = _SCALARS.get(kind)
        if exact is not None:
            return exact(value)
        if isinstance(value, Enum):
            return value.value
        for base, scalar in _SCALAR_ROWS:
            if isinstance(value, base):
                return scalar(value)
        if isinstance(value, _BYTES):
            raise _Refused(
                f"{_name(kind)} has no place in JSON; decode it to str, or send it base64-encoded"
            )
        if isinstance(value, (list, tuple, KeysView, ValuesView, ItemsView)):
            return list(value)
        if isinstance(value, Set):
            return _ordered(value)
        if callable(getattr(kind, "model_dump", None)):
            return value.model_dump(mode="json")
        if getattr(getattr(kind, "__struct_config__", None), "array_like", False):
            return [member for _, member in _struct_members(value, kind)]
        found = members(value)
        if found is not None:
            return dict(found)
        if isinstance(value, Sequence):
            return list(value)
        raise _refusal(value, kind)


def _ordered(values: Iterable[Any]) -> list[Any]:
    """A set in an order that does not change from run to run, where it has one."""
    items = list(values)
    try:
        return sorted(items)
    except TypeError:
        return items


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Refused(
            f"has a lone surrogate at character {error.start}, which is not text; "
            'give str.encode("utf-8", "replace").decode(), or find where it was decoded wrongly'
        ) from None


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise _Refused(f"is {value!r}, which JSON does not have; send None or a str")
    return value


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise _Refused(f"is Decimal {value}, which JSON does not have; send None or a str")
    return Decimal.__str__(value)


_SCALARS: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__index__,
    float: float.__float__,
    datetime: lambda value: value.isoformat(),
    date: lambda value: value.isoformat(),
    time: lambda value: value.isoformat(),
    timedelta: timedelta.total_seconds,
    UUID: UUID.__str__,
    Decimal: _decimal,
    PurePath: os.fspath,
}
_SCALAR_ROWS = tuple(_SCALARS.items())
"""How a scalar, or an object of a subclass of it, is written (seconds for a timedelta)."""


def _key(key: object) -> str:
    """A key as JSON has it: numbers, bool and None as the json module writes them."""
    if isinstance(key, Enum):
        return _key(key.value)
    if isinstance(key, str):
        text = str.__str__(key)
        if not text.isascii():
            _check_text(text)
        return text
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        if int.bit_length(key) > MAX_INT_BITS:
            raise _Refused("has a key that is an int no browser can read")
        return int.__repr__(key)
    if isinstance(key, float):
        if not math.isfinite(key):
            raise _Refused(f"has the key {float.__repr__(key)}, which JSON does not have")
        return float.__repr__(key)
    if isinstance(key, UUID):
        return UUID.__str__(key)
    if isinstance(key, (date, time)):
        return key.isoformat()
    raise _Refused(
        f"has a key of type {_name(type(key))}; keys are str, or int, float, bool, None, UUID, "
        "Enum, date or time, which become str"
    )


def _refusal(value: object, kind: type) -> _Refused:
    hint = "give a dict, list, str, number, bool or None made from it"
    if isinstance(value, BaseException):
        hint = "give str(error)"
    elif inspect.isawaitable(value):
        hint = "await it first"
    elif inspect.isgenerator(value) or hasattr(kind, "__next__"):
        hint = "give list(...) of it"
    elif callable(getattr(kind, "tolist", None)):
        hint = "give its .tolist()"
    elif isinstance(value, type):
        hint = "give its name, or an object of it"
    return _Refused(f"{_name(kind)} cannot be written as JSON; {hint}")


def _name(kind: type) -> str:
    """A type's name on one line, whatever its author called it."""
    module, name = str(kind.__module__), str(kind.__qualname__)
    text = name if module == "builtins" else f"{module}.{name}"
    return text if text.isascii() and text.isprintable() else ascii(text)


def _member(name: str) -> str:
    if name.isascii() and name.isidentifier() and len(name) <= 60:
        return f".{name}"
    cut = name if len(name) <= 60 else name[:57] + "..."
    return f"[{cut!a}]"


def _explain(refused: _Refused, root: str) -> str:
    path = refused.path[::-1]
    seen: dict[int, int] = {}
    for level, container in enumerate(refused.containers[::-1]):
        first = seen.setdefault(container, level)
        if first != level:
            again, at = _join(root, path[:level]), _join(root, path[:first])
            return f"{again}: is {at} again; what contains itself cannot be written as JSON"
    return f"{_join(root, path)}: {refused.why}"


def _join(root: str, path: list[str]) -> str:
    """The path as one word, without its middle where it is too long to read."""
    if len(path) > 20:
        path = [*path[:10], "...", *path[-9:]]
    return (root + "".join(path)).removeprefix(".") or "event"
