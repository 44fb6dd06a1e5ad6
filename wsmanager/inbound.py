"""The messages of a client that are for the package, not for the application.

::

    async for text in websocket.iter_text():
        if not handle_client_message(manager, connection_id, text):
            ...  # the application's own
"""

from __future__ import annotations

from ._wsmanager import UnifiedWebSocketManager
from .errors import ConnectionNotFound
from .resume import read_message

__all__ = ["handle_client_message"]

_LATE = "the connection was added before its resume message came"


def handle_client_message(
    manager: UnifiedWebSocketManager, connection_id: str, text: str | bytes
) -> bool:
    """Deal with *text* if it is one of the four messages below; tell whether it was.

    ``{"type": "ack", "id": "..."}``
        Acknowledges an event that was emitted with ``ack=True``.
    ``{"type": "ping"}``
        Is answered with ``{"type": "pong"}`` on the same connection.
    ``{"type": "pong"}``
        The answer to a ping of the application's own; nothing else to do.
    ``{"type": "resume", "position": "..."}``
        Comes too late here (see :func:`wsmanager.resume.receive_resume`): it is
        answered with ``recovered: false`` and the position of now.

    Never raises for what a client sends: anything else, however malformed, is
    the application's own message. May be called from any thread.

    :param manager: the manager of the connection's user.
    :param connection_id: what ``add_connection`` gave.
    :param text: one message as received.
    """
    message = read_message(text)
    if message is None:
        return False
    kind = message["type"]
    if kind == "ack":
        if not isinstance(message.get("id"), str):
            return False
        if message["id"].isascii():  # every id of ours is
            manager.acknowledge(message["id"])
    elif kind == "ping":
        _answer(manager, connection_id, {"type": "pong"})
    elif kind == "resume":
        payload = {
            "recovered": False,
            "replayed": 0,
            "position": manager.position,
            "reason": _LATE,
        }
        _answer(manager, connection_id, {"type": "resumed", "payload": payload})
    else:
        return bool(kind == "pong")
    return True


def _answer(
    manager: UnifiedWebSocketManager, connection_id: str, message: dict[str, object]
) -> None:
    try:
        manager.send_message(connection_id, message)
    except ConnectionNotFound:
        pass  # it has left since it sent this: there is no one to answer
