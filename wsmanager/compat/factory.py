"""The functions of before that are awaited."""

from __future__ import annotations

from typing import Any

from .. import WebSocketManagerMode, get_config, get_websocket_manager_async
from .. import get_manager_registry_status as _status
from .._wsmanager import UnifiedWebSocketManager

__all__ = [
    "check_websocket_service_available",
    "create_websocket_manager",
    "get_manager_registry_status",
]


async def create_websocket_manager(
    user_context: Any = None, mode: Any = WebSocketManagerMode.UNIFIED
) -> UnifiedWebSocketManager:
    """The user's manager, as :func:`wsmanager.get_websocket_manager_async` gives it.

    :raises InvalidUserContext: when awaited, for a context that names no user.
    """
    return await get_websocket_manager_async(user_context, mode)


async def get_manager_registry_status() -> dict[str, Any]:
    """What :func:`wsmanager.get_manager_registry_status` gives, for code that awaits it."""
    return _status()


async def check_websocket_service_available() -> bool:
    """Whether the service is there, by the ``availability_check`` of :func:`wsmanager.configure`.

    True if none is configured: there is nothing to wait for. An error of the
    check is its own, and it is not bounded in time here; the factory bounds it.
    """
    check = get_config()["availability_check"]
    return True if check is None else bool(await check())
