"""Fake clients, recorders and assertions for tests of code that emits events.

The pytest plugin is :mod:`wsmanager.testing.plugin`; nothing here needs pytest.
::

    async def test_a_run_is_seen(wsm_recorder):
        ann = wsm_recorder.connect("ann")
        await run_agent("ann")
        await assert_events_in_order(ann, "agent_started", "agent_completed")

The fakes of a library need that library, and import it when they are first
named; :class:`FakeText`, :class:`FakeJson` and :class:`FakeAsgi` need none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from . import blocking
    from .aiohttp import FakeAiohttp
    from .asgi import FakeAsgi
    from .asserts import assert_event, assert_events_in_order, assert_isolated, assert_no_event
    from .faults import (
        ClosingClient,
        FailingClient,
        HangingClient,
        ReentrantClient,
        SlowClient,
        slow_client,
    )
    from .inbox import Inbox, describe
    from .loops import LoopThread
    from .plain import FakeJson, FakeText
    from .recorder import Recorder
    from .registry import isolated_registry
    from .starlette import FakeStarlette
    from .websockets import FakeSync, FakeWebsockets

_WHERE: Final = {
    "ClosingClient": "faults",
    "FailingClient": "faults",
    "FakeAiohttp": "aiohttp",
    "FakeAsgi": "asgi",
    "FakeJson": "plain",
    "FakeStarlette": "starlette",
    "FakeSync": "websockets",
    "FakeText": "plain",
    "FakeWebsockets": "websockets",
    "HangingClient": "faults",
    "Inbox": "inbox",
    "LoopThread": "loops",
    "Recorder": "recorder",
    "ReentrantClient": "faults",
    "SlowClient": "faults",
    "assert_event": "asserts",
    "assert_events_in_order": "asserts",
    "assert_isolated": "asserts",
    "assert_no_event": "asserts",
    "blocking": "",
    "describe": "inbox",
    "isolated_registry": "registry",
    "slow_client": "faults",
}

__all__ = [
    "ClosingClient",
    "FailingClient",
    "FakeAiohttp",
    "FakeAsgi",
    "FakeJson",
    "FakeStarlette",
    "FakeSync",
    "FakeText",
    "FakeWebsockets",
    "HangingClient",
    "Inbox",
    "LoopThread",
    "Recorder",
    "ReentrantClient",
    "SlowClient",
    "assert_event",
    "assert_events_in_order",
    "assert_isolated",
    "assert_no_event",
    "blocking",
    "describe",
    "isolated_registry",
    "slow_client",
]


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not where:
        return importlib.import_module(f"{__name__}.{name}")
    found = getattr(importlib.import_module(f"{__name__}.{where}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
