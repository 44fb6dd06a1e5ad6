"""The names that code before wsmanager imports, for as long as a migration takes.

::

    from wsmanager.compat import create_websocket_manager   # was: from app.websocket_core import ...

Here are, besides the names of :mod:`wsmanager` itself,

* what was awaited and is awaited still: :func:`create_websocket_manager` and
  :func:`get_manager_registry_status`, both coroutine functions here;
* :class:`UserExecutionContext`, a user context, and :class:`ConnectionManager`,
  the class of FastAPI's tutorial;
* other names of the same things, such as those of duplicate manager classes.
  They are deprecated: each place that uses one gets one ``DeprecationWarning``.

What made a context or a manager for a user that nobody named (``create_test_user_context``,
fallback and emergency managers) is not here: an identity is never made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import (
    AGENT_EVENTS,
    AgentWebSocketBridge,
    Connection,
    ErrorMessage,
    ServerMessage,
    UnifiedWebSocketManager,
    WebSocketConnection,
    WebSocketManager,
    WebSocketManagerError,
    WebSocketManagerMode,
    create_error_message,
    create_server_message,
    get_config,
    get_websocket_manager,
    get_websocket_manager_async,
    reset_manager_registry,
)
from ._deprecated import ALIASES, alias
from .connection_manager import ConnectionManager
from .context import UserExecutionContext
from .factory import (
    check_websocket_service_available,
    create_websocket_manager,
    get_manager_registry_status,
)

__all__ = [
    "AGENT_EVENTS",
    "AgentWebSocketBridge",
    "Connection",
    "ConnectionManager",
    "ErrorMessage",
    "ServerMessage",
    "UnifiedWebSocketManager",
    "UserExecutionContext",
    "WebSocketConnection",
    "WebSocketManager",
    "WebSocketManagerError",
    "WebSocketManagerMode",
    "check_websocket_service_available",
    "create_error_message",
    "create_server_message",
    "create_websocket_manager",
    "get_manager_registry_status",
    "get_websocket_manager",
    "get_websocket_manager_async",
    "reset_manager_registry",
]

if TYPE_CHECKING:
    CRITICAL_EVENTS = AGENT_EVENTS
    MAX_CONNECTIONS_PER_USER: int
    DegradedWebSocketManager = UnifiedWebSocketManager
    EmergencyWebSocketManager = UnifiedWebSocketManager
    IsolatedWebSocketManager = UnifiedWebSocketManager
    UnifiedWebSocketManagerImplementation = UnifiedWebSocketManager
    WebSocketConnectionManager = UnifiedWebSocketManager
    WebSocketManagerProtocol = UnifiedWebSocketManager
    _UnifiedWebSocketManagerImplementation = UnifiedWebSocketManager
    create_agent_websocket_bridge = AgentWebSocketBridge
    create_manager = get_websocket_manager
    create_websocket_manager_async = get_websocket_manager_async
    get_agent_websocket_bridge = AgentWebSocketBridge
    get_manager = get_websocket_manager
    reset_websocket_manager_registry = reset_manager_registry
else:

    def __getattr__(name: str) -> Any:
        if name == "MAX_CONNECTIONS_PER_USER":
            alias(name)
            return get_config()["max_connections_per_user"]
        if name in ALIASES:
            alias(name)
            return globals()[ALIASES[name]]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *ALIASES})
