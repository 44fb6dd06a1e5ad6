"""What S3 and S4 share: every contender in the arena, the same events, paired rounds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .arena import Contest, Unfit
from .bars import BETTER, SHARE, Bar
from .peers.catalogue import OUR_OTHERS, OURS, OURS_GENERIC, PEERS, REFERENCE, Peer
from .plan import Plan
from .rounds import interleave, quartiles, ratios
from .table import Row, absent, compare

SIZES = (200, 2048)
_PATIENCE = {True: 1.5, False: 12.0}  # seconds for one contender in one series


@dataclass(frozen=True)
class Series:
    """One kind of fan-out: *burst* events per loop turn, and the bars against the peers."""

    question: str
    name: str
    burst: int
    bar: Callable[[str, int], Bar | None]  # by the peer's key and the size


def measure(plan: Plan, series: Series) -> list[Row]:
    """Return the rows of one series for every number of connections and size."""
    rows: list[Row] = []
    for connections in plan.connections:
        with contextlib.ExitStack() as stack:
            plan.progress.step(
                f"{series.question}: starting servers with {connections} connections each"
            )
            contests, unfit = _start(plan, connections, stack)
            for size in SIZES:
                plan.progress.step(
                    f"{series.question}: {series.name}, {connections} connections, {size} B"
                )
                costs = _costs(plan, contests, series.burst, size, unfit)
                rows += _rows(series, connections, size, costs, unfit)
    return rows


def _start(
    plan: Plan, connections: int, stack: contextlib.ExitStack
) -> tuple[dict[str, Contest], dict[str, str]]:
    """Start every contender; those that cannot run, with the reason."""
    contests, unfit = {}, {}
    for peer in (REFERENCE, OURS, *OUR_OTHERS, OURS_GENERIC, *PEERS):
        plan.progress.detail(peer.name)
        why = peer.missing()
        if why is None:
            try:
                contests[peer.key] = stack.enter_context(Contest(peer.entrant(), connections))
                continue
            except Unfit as error:
                why = str(error)
        unfit[peer.key] = why
    return contests, unfit


def _costs(
    plan: Plan, contests: Mapping[str, Contest], burst: int, size: int, unfit: dict[str, str]
) -> dict[str, list[float]]:
    """Return microseconds of CPU per delivery, a list of rounds for each contender."""
    work = {}
    for key, contest in contests.items():
        if key in unfit:
            continue
        plan.progress.detail(f"warming {contest.entrant.name}")
        try:
            work[key] = _lap(contest, burst, size, plan.lap)
        except Unfit as error:
            unfit[key] = str(error)
    return interleave(work, plan.rounds, plan.progress.detail, patience=_PATIENCE[plan.quick])


def _lap(contest: Contest, burst: int, size: int, seconds: float) -> Callable[[], float]:
    warm = contest.run(1, burst, size)
    events = max(1, round(seconds / warm.wall))
    if events > 1:
        warm = contest.run(events, burst, size)
        events = max(1, round(events * seconds / warm.wall))

    def lap() -> float:
        if events > 10:  # the caches are another server's
            contest.run(events // 10, burst, size)
        return contest.run(events, burst, size).per_delivery

    return lap


def _rows(
    series: Series,
    connections: int,
    size: int,
    costs: Mapping[str, list[float]],
    unfit: Mapping[str, str],
) -> list[Row]:
    case = f"{series.name}, {connections} x {size} B"
    rows = []
    for way in (OURS, *OUR_OTHERS, OURS_GENERIC):
        bar = series.bar("h", size) if way is not OURS_GENERIC else None
        rows.append(_row(series, f"{case}, {way.name}", way, REFERENCE, bar or SHARE, costs, unfit))
    for peer in PEERS:
        bar = series.bar(peer.key, size) or BETTER
        rows.append(_row(series, f"{case}, {OURS.name}", OURS, peer, bar, costs, unfit))
    return rows


def _row(
    series: Series,
    name: str,
    ours: Peer,
    peer: Peer,
    bar: Bar,
    costs: Mapping[str, list[float]],
    unfit: Mapping[str, str],
) -> Row:
    for side in (ours, peer):
        if side.key in unfit:
            return absent(
                series.question,
                name,
                peer.name,
                bar,
                unfit[side.key],
                version=peer.version,
                ours=costs.get(ours.key, ()),
                peer=costs.get(peer.key, ()),
                units="µs",
            )
    note = "" if peer is REFERENCE else f"the peer is {_of_h(costs, peer):.2f} x (h)"
    return compare(
        series.question,
        name,
        peer.name,
        costs[ours.key],
        costs[peer.key],
        bar,
        "µs",
        version=peer.version,
        note=note,
    )


def _of_h(costs: Mapping[str, list[float]], peer: Peer) -> float:
    mine, h = costs[peer.key], costs[REFERENCE.key]
    shared = min(len(mine), len(h))
    return quartiles(ratios(mine[:shared], h[:shared]))[1]
