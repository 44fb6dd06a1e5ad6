"""S1: what a hit of ``get_websocket_manager(ctx)`` costs.

Against the least a program can do, ``d[ctx.user_id]``, and against the usual
factory in Python: an attribute, a ``threading.Lock``, a dict.
"""

from __future__ import annotations

import threading
from typing import Any

from wsmanager import get_websocket_manager

from . import bars
from .contexts import UserContext
from .loops import loop
from .plan import Plan
from .rounds import interleave
from .table import Row, compare

_LOCK = threading.Lock()
_MANAGERS: dict[str, object] = {}


def with_lock(user_context: Any) -> object:
    """Return the manager as a factory in Python does it."""
    user_id = user_context.user_id
    with _LOCK:
        manager = _MANAGERS.get(user_id)
        if manager is None:
            manager = _MANAGERS[user_id] = object()
    return manager


def run(plan: Plan) -> list[Row]:
    """Measure the hit in its three forms."""
    plan.progress.step("S1: a hit of get_websocket_manager")
    ctx = UserContext("user-12345678")
    mapping = {"user_id": "user-12345678", "thread_id": "t1", "run_id": "r1"}
    held = get_websocket_manager(ctx)
    inline = {ctx.user_id: held}
    with_lock(ctx)

    def timed(statement: str, get: Any = get_websocket_manager, c: Any = ctx) -> Any:
        return loop(statement, plan.loop, get=get, ctx=c, d=inline)

    results = interleave(
        {
            "inline": timed("d[ctx.user_id]"),
            "object": timed("get(ctx)"),
            "dict": timed("get(ctx)", c=mapping),
            "keyword": timed("get(user_context=ctx)"),
            "lock": timed("get(ctx)", with_lock),
            "lock by keyword": timed("get(user_context=ctx)", with_lock),
            "inline dict": timed("d[ctx['user_id']]", c=mapping),
        },
        plan.rounds * 3,
        plan.progress.detail,
    )
    rows = []
    for form, bar, lock in (
        ("object", bars.HIT, "lock"),
        ("dict", bars.HIT, "lock"),
        ("keyword", bars.HIT_BY_KEYWORD, "lock by keyword"),
    ):
        name, ours = _NAMES[form], results[form]
        note = f"best of ours {min(ours):.1f} ns"
        rows.append(
            compare("S1", name, "d[ctx.user_id]", ours, results["inline"], bar, "ns", note=note)
        )
        rows.append(
            compare(
                "S1",
                name,
                "attribute + Lock + dict",
                ours,
                results[lock],
                bars.HIT_AGAINST_LOCK,
                "ns",
            )
        )
    rows.append(
        compare(
            "S1",
            _NAMES["dict"],
            'd[ctx["user_id"]]',
            results["dict"],
            results["inline dict"],
            bars.SHARE,
            "ns",
        )
    )
    return rows


_NAMES = {
    "object": "hit, object context",
    "dict": "hit, dict context",
    "keyword": "hit, user_context=object",
}
