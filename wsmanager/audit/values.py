"""What an expression may stand for, written down without running anything.

The index pass turns each expression of interest into one of these small
immutable values; whatever lies in another module stays a :class:`Ref` until
the resolve pass, which knows the whole tree. They are plain tuples so that
workers can send them to the parent cheaply.
"""

from __future__ import annotations

import sys
from typing import NamedTuple


class Unknown(NamedTuple):
    """Nothing can be said of it."""


class Plain(NamedTuple):
    """Something that no ``await`` takes, such as a literal; *what* names it for messages."""

    what: str


class Nothing(NamedTuple):
    """The constant ``None``: often a placeholder that is replaced later."""


class Awaitable(NamedTuple):
    """A coroutine, task, future or the like."""


class Opaque(NamedTuple):
    """A mock: neither it nor its attributes nor its results can be said to be anything."""


class Coroutine(NamedTuple):
    """A callable whose result is awaitable; *line* is that of its ``async def``, 0 for a mock."""

    name: str
    line: int


class Ref(NamedTuple):
    """``from <level dots><module> import <name>``; an empty *name* is the module itself."""

    level: int
    module: str
    name: str


class Global(NamedTuple):
    """A module-level name of the module that the value was found in."""

    name: str


class Attr(NamedTuple):
    """``owner.name``."""

    owner: Value
    name: str


class Call(NamedTuple):
    """The result of ``callee(...)``."""

    callee: Value


class Instance(NamedTuple):
    """An object that an annotation says is of the class *of*."""

    of: Value


class Function(NamedTuple):
    """A plain function: what it may return, and what its annotation says it does."""

    name: str
    line: int
    returns: tuple[Value, ...]
    annotation: Value
    decorators: tuple[Value, ...]


class Plainly(NamedTuple):
    """A plain function of the module's top level or of a class, whose body is read only when asked for."""

    name: str
    line: int
    decorators: tuple[Value, ...]


class Class(NamedTuple):
    """A class: its bases and the names bound in its body."""

    name: str
    line: int
    bases: tuple[Value, ...]
    members: dict[str, Value]


class Member(NamedTuple):
    """An attribute of an instance, searched for in *bases*, the bases of the class it is used in."""

    bases: tuple[Value, ...]
    name: str


class Either(NamedTuple):
    """One of *options*; one of *fallbacks* (``except ImportError``) only where no option is to be had."""

    options: tuple[Value, ...]
    fallbacks: tuple[Value, ...] = ()


Value = (
    Unknown
    | Plain
    | Nothing
    | Awaitable
    | Opaque
    | Coroutine
    | Ref
    | Global
    | Attr
    | Call
    | Instance
    | Function
    | Plainly
    | Class
    | Member
    | Either
)

UNKNOWN = Unknown()
NOTHING = Nothing()
AWAITABLE = Awaitable()
OPAQUE = Opaque()


def either(options: list[Value], fallbacks: list[Value] | None = None) -> Value:
    """One value for several possible ones; :data:`UNKNOWN` for none at all."""
    distinct = tuple(_unique(options))
    rest = tuple(value for value in _unique(fallbacks or []) if value not in distinct)
    if not distinct and not rest:
        return UNKNOWN
    if len(distinct) == 1 and not rest:
        return distinct[0]
    return Either(distinct, rest)


def _unique(values: list[Value]) -> list[Value]:
    # Values may hold dicts (the members of a class), so they are compared, not hashed.
    kept: list[Value] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def needs_tree(value: Value, names: frozenset[str]) -> bool:
    """Whether *value* may turn out to matter once the other modules are known.

    *names* are the factories': what is called like one matters wherever it comes from.
    """
    pending: list[Value] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Ref):
            # The standard library is not part of the tree, and none of it is poisoned.
            if (
                item.level
                or item.module.partition(".")[0] not in sys.stdlib_module_names
                or item.name in names
            ):
                return True
        elif isinstance(item, (Global, Member, Class, Plainly, Function)):
            return True
        elif isinstance(item, Coroutine):
            if item.name in names:
                return True
        elif isinstance(item, Attr):
            if item.name in names:
                return True
            pending.append(item.owner)
        elif isinstance(item, Call):
            pending.append(item.callee)
        elif isinstance(item, Instance):
            pending.append(item.of)
        elif isinstance(item, Either):
            pending.extend(item.options)
            pending.extend(item.fallbacks)
    return False
