"""Paired rounds: what is compared is measured in turns, and compared round by round.

A machine drifts: its clock, its neighbours, its caches. Two figures taken
minutes apart differ by that drift, two taken one after the other hardly do.
So the contenders run A B A B ..., each round gives one ratio, and the median
of those ratios is reported with its quartiles.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def interleave(
    work: Mapping[str, Callable[[], float]],
    rounds: int,
    tell: Callable[[str], None] = lambda text: None,
    *,
    patience: float = math.inf,
) -> dict[str, list[float]]:
    """Run every measurement once a round; its results by name.

    Every other round runs backwards: else each would always follow the same
    neighbour, and find the caches as that one leaves them.
    One that has taken more than *patience* seconds in all sits out the
    remaining rounds.
    """
    results: dict[str, list[float]] = {name: [] for name in work}
    taken = dict.fromkeys(work, 0.0)
    for turn in range(rounds):
        for name in list(work)[:: 1 if turn % 2 == 0 else -1]:
            if taken[name] > patience:
                continue
            tell(f"round {turn + 1}/{rounds}: {name}")
            start = time.monotonic()
            results[name].append(work[name]())
            taken[name] += time.monotonic() - start
    return results


def ratios(ours: Sequence[float], peer: Sequence[float]) -> list[float]:
    """Return ours / peer, round by round."""
    return [a / b for a, b in zip(ours, peer, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, middle, third
