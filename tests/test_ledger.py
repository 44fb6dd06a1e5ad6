"""The checker of streams catches each fault it is there for."""

from __future__ import annotations

from typing import Any

import pytest
from support.ledger import faults


def events(*numbers: int) -> list[Any]:
    return [["event", n] for n in numbers]


GAP = ["gap", {"reason": "unknown epoch"}]


def test_a_whole_stream_has_no_fault() -> None:
    assert faults([["resumed", {}], *events(1, 2), ["close", {}], *events(3)], 3) == []
    assert faults([*events(1), GAP, *events(5, 6)], 6, gaps_allowed=True) == []
    assert faults([*events(1), GAP], 6, gaps_allowed=True) == []
    assert faults(events(4, 5), 5, first=4) == []


@pytest.mark.parametrize(
    ("log", "last", "gaps", "what"),
    [
        (events(1, 2, 4), 4, True, "without a word"),
        (events(1, 2, 2, 3), 3, True, "doubled"),
        (events(1, 3, 2), 3, True, "comes after"),
        (events(1, 2), 3, True, "at the end"),
        ([*events(1), GAP, *events(2, 4)], 4, True, "without a word"),
        ([*events(1, 2), GAP, *events(2, 3)], 3, True, "doubled"),
        ([*events(1), GAP, *events(2)], 2, False, "a gap"),
    ],
)
def test_control_each_fault_is_seen(log: list[Any], last: int, gaps: bool, what: str) -> None:
    found = faults(log, last, gaps_allowed=gaps)
    assert any(what in fault for fault in found), found
