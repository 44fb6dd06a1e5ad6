"""S9: memory of ours per idle connection and per idle user.

Method: resident memory of this process (``/proc/self/statm``) before and
after 100,000 of them, divided by their number. The core takes its memory from
the raw allocator, which ``tracemalloc`` does not see. Contexts, sockets and
the lists that hold the results are made before the first reading. For the
peers, the servers of the fan-out are started with 200 and with 1,000 idle
connections; the difference of their resident memory is what one costs.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsmanager import configure, get_websocket_manager

from . import bars
from .arena import Contest, Unfit
from .contexts import FakeSocket, UserContext
from .peers.catalogue import OURS, OURS_GENERIC, PEERS, Peer
from .plan import Plan
from .table import Row, absent, alone, compare

_COUNT = 100_000
_FEW, _MANY = 200, 1000
_SERVERS = {"transport", "picows", "aiohttp", "websockets", "starlette", "socketio", "channels"}


def resident() -> int:
    """Return this process's resident memory in bytes, free memory given back first."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _bytes_per(count: int, make: Callable[[int], object], keep: list[Any] | None) -> float:
    before = resident()
    if keep is None:
        for i in range(count):
            make(i)
    else:
        for i in range(count):
            keep[i] = make(i)
    return (resident() - before) / count


async def _ours() -> dict[str, float]:
    contexts = [UserContext(f"user-{i:08d}") for i in range(_COUNT)]
    sockets = [FakeSocket() for _ in range(_COUNT)]
    managers: list[Any] = [None] * _COUNT
    many = get_websocket_manager("many")
    # What a first call allocates once for all is not a cost per connection.
    many.remove_connection(many.add_connection(FakeSocket()))
    result = {"user": _bytes_per(_COUNT, lambda i: get_websocket_manager(contexts[i]), managers)}
    result["connection"] = _bytes_per(
        _COUNT, lambda i: managers[i].add_connection(sockets[i]), None
    )
    tabs = [FakeSocket() for _ in range(_COUNT)]
    result["second"] = _bytes_per(_COUNT, lambda i: managers[i].add_connection(tabs[i]), None)
    await asyncio.sleep(0)
    return result


def _per_connection(plan: Plan, peer: Peer) -> float:
    """Return the server's resident bytes per idle connection, everything included."""
    readings = []
    for count in (_FEW, _MANY):
        plan.progress.detail(f"{peer.name}, {count} connections")
        with Contest(peer.entrant(), count) as contest:
            readings.append(contest.resident)
    return (readings[1] - readings[0]) / (_MANY - _FEW)


def _servers(plan: Plan) -> list[Row]:
    name = "whole server, per idle connection"
    contenders = [OURS, OURS_GENERIC, *(peer for peer in PEERS if peer.key in _SERVERS)]
    if plan.quick:
        contenders = [OURS, *(peer for peer in PEERS if peer.key in {"websockets", "starlette"})]
    figures: dict[str, float] = {}
    rows: list[Row] = []
    for peer in contenders:
        why = peer.missing()
        try:
            if why is None:
                figures[peer.key] = _per_connection(plan, peer)
        except Unfit as error:
            why = str(error)
        if why is not None:
            rows.append(absent("S9", name, peer.name, None, why, version=peer.version))
        elif peer is not OURS and OURS.key in figures:
            mine, theirs = [figures[OURS.key]], [figures[peer.key]]
            rows.append(
                compare("S9", name, peer.name, mine, theirs, bars.BETTER, "B", version=peer.version)
            )
    return rows


def run(plan: Plan) -> list[Row]:
    """Measure ours, then the whole servers."""
    plan.progress.step("S9: memory of idle users and connections")
    configure(max_users=1_000_000, max_idle_users=1_000_000)
    ours = asyncio.run(_ours())
    note = f"resident memory, {_COUNT:,} of them"
    rows = [
        alone("S9", "idle user", [ours["user"]], bars.USER_BYTES, "B", note=note),
        alone(
            "S9",
            "idle connection, one per user",
            [ours["connection"]],
            bars.CONNECTION_BYTES,
            "B",
            note=note,
        ),
        alone(
            "S9",
            "idle connection, the user's second",
            [ours["second"]],
            bars.CONNECTION_BYTES,
            "B",
            note=note,
        ),
    ]
    return rows + _servers(plan)
