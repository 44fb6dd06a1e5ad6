"""Ties the C core to the package, once, when the package is imported."""

from __future__ import annotations

import time
from typing import Any, Final

from . import _log, _loops, _pump, _wsmanager, adapters, events
from .connections import WebSocketConnection
from .mode import WebSocketManagerMode

core: Any = _wsmanager
"""The core with what is not for users: ``_install``, ``_configure``, ``_settings``."""

core._install(
    encode=events.encode,
    encode_any=events.encode_any,
    decode=events.decode,
    as_mapping=events.as_mapping,
    resolve=adapters.resolve,
    close=adapters.close,
    report=_log.report,
    record_type=WebSocketConnection,
    mode=WebSocketManagerMode.UNIFIED,
    pump_send_text=_pump.send_text,
    pump_send_str=_pump.send_str,
    pump_send=_pump.send,
    waker=_loops.waker,
)
core._share(events.writer)
events.Limits.max_event_bytes = core._settings()["max_event_bytes"]

STARTED: Final = time.time()
"""When the package was imported, seconds since the epoch."""
