"""Names of before, what they are now, and one warning for each place that still uses one."""

from __future__ import annotations

import sys
import threading
import warnings
from types import FrameType
from typing import Final

__all__ = ["ALIASES", "alias"]

#: Names of before with the name in this package that they are another word for.
ALIASES: Final = {
    "CRITICAL_EVENTS": "AGENT_EVENTS",
    "DegradedWebSocketManager": "UnifiedWebSocketManager",
    "EmergencyWebSocketManager": "UnifiedWebSocketManager",
    "IsolatedWebSocketManager": "UnifiedWebSocketManager",
    "MAX_CONNECTIONS_PER_USER": 'get_config()["max_connections_per_user"]',
    "UnifiedWebSocketManagerImplementation": "UnifiedWebSocketManager",
    "WebSocketConnectionManager": "UnifiedWebSocketManager",
    "WebSocketManagerProtocol": "UnifiedWebSocketManager",
    "_UnifiedWebSocketManagerImplementation": "UnifiedWebSocketManager",
    "create_agent_websocket_bridge": "AgentWebSocketBridge",
    "create_manager": "get_websocket_manager",
    "create_websocket_manager_async": "get_websocket_manager_async",
    "get_agent_websocket_bridge": "AgentWebSocketBridge",
    "get_manager": "get_websocket_manager",
    "reset_websocket_manager_registry": "reset_manager_registry",
}

MAX_PLACES: Final = 10_000
"""Places that are remembered; when there are more, they are forgotten and warned of again."""

_lock: Final = threading.Lock()
_warned: Final[set[tuple[str, str, int]]] = set()


def alias(name: str) -> None:
    """Warn the code that asked the package for *name*, once for each of its lines.

    To be called from the package's ``__getattr__`` only. Where the filters make
    an error of the warning, it is one each time.
    """
    frame = _asker(sys._getframe(2))
    place = (name, frame.f_code.co_filename, frame.f_lineno)
    with _lock:
        if place in _warned:
            return
    # Not warn(): how it skips the frames of an import differs with the version,
    # and the filter "always" would say it each time.
    warnings.warn_explicit(
        f"{name} is another word for wsmanager's {ALIASES[name]}; use that",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__", "<unknown>"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )
    with _lock:
        if len(_warned) >= MAX_PLACES:
            _warned.clear()
        _warned.add(place)


def _asker(frame: FrameType) -> FrameType:
    """The first frame that is not the machinery of ``import``."""
    here = frame
    while here.f_back is not None and str(here.f_globals.get("__name__", "")).startswith(
        "importlib."
    ):
        here = here.f_back
    return here
