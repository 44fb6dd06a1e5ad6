"""The five agent events, and how an event becomes JSON.

The encoder is msgspec where it is installed, else orjson, else the standard
library's ``json``; what is sent does not depend on which it is. Values that
JSON does not know are written so:

===========================================  ==================================
``Enum``                                     its value
``datetime``, ``date``, ``time``             ISO 8601 text
``timedelta``                                seconds
``UUID``, ``Decimal``, ``pathlib`` paths     text
``set``, ``frozenset``                       a list, sorted where it can be
mapping, sequence                            an object, a list
dataclass, attrs, msgspec.Struct, pydantic   an object of its fields
===========================================  ==================================

Anything else, and NaN, Infinity, bytes, lone surrogates, cycles and nesting
beyond 200 levels, is a :class:`~wsmanager.EncodeError` that names the place
(``payload.tool.args[2]``). Nothing is sent to anyone then.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal

from ._plain import members, plain, too_deep
from ._wsmanager import EncodeError

__all__ = ["AGENT_EVENTS", "ENCODER", "as_mapping", "decode", "encode", "encode_any"]

AGENT_EVENTS: Final[tuple[str, str, str, str, str]] = (
    "agent_started",
    "agent_thinking",
    "tool_executing",
    "tool_completed",
    "agent_completed",
)
"""The events a user must see of every run, in order; they are never dropped."""

Encoder = Callable[[Any], bytes]

_STANDARD = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_make: Any = getattr(json.encoder, "c_make_encoder", None)
#: What ``_STANDARD.encode`` makes anew for each value, which takes longer than to use it.
writer: Any = (
    _STANDARD.iterencode  # an interpreter without it
    if _make is None
    else _make(
        None, _STANDARD.default, json.encoder.encode_basestring, None, ":", ",", False, False, False
    )
)


def _encode_standard(value: Any, write: Any = writer) -> bytes:
    # A default, not the module's name: a finalizer at the interpreter's end may still emit.
    return "".join(write(value, 0)).encode()


def encoder(name: Literal["msgspec", "orjson", "json"]) -> Encoder:
    """The encoder of plain values of that library; ImportError if it is not installed."""
    if name == "msgspec":
        import msgspec

        return msgspec.json.Encoder().encode
    if name == "orjson":
        import orjson

        return orjson.dumps
    return _encode_standard


def _best() -> tuple[str, Encoder]:
    names: tuple[Literal["msgspec"], Literal["orjson"]] = ("msgspec", "orjson")
    for name in names if _in_main_interpreter() else ():
        try:
            return name, encoder(name)
        except ImportError:
            continue
    return "json", _encode_standard


def _in_main_interpreter() -> bool:
    """Neither encoder supports others: an isolated one refuses them, and crashes for it at exit."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # from 3.13 on, and before
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True


_chosen, encode = _best()
ENCODER: Final = _chosen
"""The library in use: ``"msgspec"``, ``"orjson"`` or ``"json"``. Its function, ``encode``, is for
plain values only: str, int of 64 bits, finite float, bool, None, dict with str keys, list, tuple."""


class Limits:
    """What the core's settings mean for encoding; kept up to date by :mod:`wsmanager.config`."""

    max_event_bytes: ClassVar[int] = 2 << 20


def encode_any(value: object, root: str = "payload") -> bytes:
    """JSON of any value of the table above; *root* is what an error calls it.

    :raises EncodeError: for bad data of any kind, and when a class's own code
        (a property, ``model_dump``) fails; that error is its ``__cause__``.
    """
    material, wide = plain(value, root, Limits.max_event_bytes)
    try:
        return _encode_standard(material) if wide else encode(material)
    except RecursionError:
        pass
    raise too_deep(root)


def decode(data: bytes | str) -> Any:
    """The value of *data*, which is JSON."""
    return json.loads(data)


def as_mapping(value: object) -> dict[Any, Any]:
    """A message as a dict: from a mapping, pydantic model, dataclass, attrs or msgspec.Struct object."""
    try:
        found = None if isinstance(value, type) else members(value)
    except MemoryError:
        raise
    except Exception as error:
        kind = type(value).__qualname__
        raise EncodeError(
            f"message: {kind} failed to give its content ({type(error).__qualname__})"
        ) from error
    if found is None:
        raise TypeError(
            'a message is a mapping with "type", such as {"type": "notice", "payload": {...}}, '
            f"or a pydantic model, dataclass, attrs or msgspec.Struct object; not {type(value).__qualname__}"
        )
    return dict(found)
