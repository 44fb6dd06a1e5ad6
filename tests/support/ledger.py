"""The checker of a stream: nothing lost, doubled or out of order, unless the client was told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["faults"]


def faults(log: Iterable[Any], last: int, first: int = 1, gaps_allowed: bool = False) -> list[str]:
    """What is wrong with what one client saw of the events *first* to *last*, each with its number.

    :param log: its entries in order: ``["event", n]`` for an event, ``["gap", ...]``
        where it was told that some are lacking; others are passed over.
    :param gaps_allowed: whether it may have been told so. What is lacking without a
        word, doubled or out of order is a fault in any case.
    """
    found: list[str] = []
    expected = first
    told = False
    seen: set[int] = set()
    for kind, value in log:
        if kind == "gap":
            told = True
            if not gaps_allowed:
                found.append(f"a gap before {expected}: {value}")
        elif kind == "event":
            if value in seen:
                found.append(f"{value} is doubled")
            elif value < expected:
                found.append(f"{value} comes after {expected - 1}")
            elif value > expected and not told:
                found.append(f"{expected} to {value - 1} are lost without a word")
            seen.add(value)
            expected = max(expected, value + 1)
            told = False
    if expected <= last and not told:
        found.append(f"{expected} to {last} are lost at the end")
    return found
