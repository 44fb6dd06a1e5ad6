"""Every WebSocket of a user behind one object, and events to all of them from anywhere.

::

    manager = get_websocket_manager(user_context)              # plain code, any thread
    manager = await get_websocket_manager_async(user_context)  # the same manager
    manager.add_connection(websocket)
    manager.emit_event("agent_started", {"agent_name": "researcher"})

An emit sends whether or not it is awaited; ``await`` gives a receipt.
"""

from __future__ import annotations

from . import _hooks as _hooks
from ._version import __version__
from ._wsmanager import (
    Connection,
    ConnectionId,
    Delivery,
    Receipt,
    UnifiedWebSocketManager,
    broadcast,
    get_manager_registry_status,
    get_websocket_manager,
    get_websocket_manager_async,
    reset_manager_registry,
)
from .bridge import AgentWebSocketBridge, EventOrderError
from .config import configure, get_config
from .connections import WebSocketConnection
from .draining import DrainSummary, drain, install_drain
from .errors import (
    BackplaneError,
    ConnectionLimitError,
    ConnectionNotFound,
    EncodeError,
    EventTooLarge,
    InvalidUserContext,
    ResumeError,
    ServerDraining,
    UserIsolationError,
    UserLimitError,
    WebSocketManagerError,
)
from .events import AGENT_EVENTS
from .messages import ErrorMessage, ServerMessage, create_error_message, create_server_message
from .mode import WebSocketManagerMode

WebSocketManager = UnifiedWebSocketManager

__all__ = [
    "AGENT_EVENTS",
    "AgentWebSocketBridge",
    "BackplaneError",
    "Connection",
    "ConnectionId",
    "ConnectionLimitError",
    "ConnectionNotFound",
    "Delivery",
    "DrainSummary",
    "EncodeError",
    "ErrorMessage",
    "EventOrderError",
    "EventTooLarge",
    "InvalidUserContext",
    "Receipt",
    "ResumeError",
    "ServerDraining",
    "ServerMessage",
    "UnifiedWebSocketManager",
    "UserIsolationError",
    "UserLimitError",
    "WebSocketConnection",
    "WebSocketManager",
    "WebSocketManagerError",
    "WebSocketManagerMode",
    "__version__",
    "broadcast",
    "configure",
    "create_error_message",
    "create_server_message",
    "drain",
    "get_config",
    "get_manager_registry_status",
    "get_websocket_manager",
    "get_websocket_manager_async",
    "install_drain",
    "reset_manager_registry",
]
