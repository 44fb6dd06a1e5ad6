"""Through the manager of None each id reaches the user it belongs to, or nobody."""

from __future__ import annotations

import pytest
from support.sockets import StarletteSocket

from wsmanager import (
    UserIsolationError,
    WebSocketConnection,
    get_websocket_manager,
    reset_manager_registry,
)


async def test_an_id_that_is_another_users_is_refused() -> None:
    router = get_websocket_manager(None)
    ann, bob = StarletteSocket(), StarletteSocket()
    connection = router.connect_user("ann", ann, "c1")
    with pytest.raises(UserIsolationError, match="c1"):
        router.connect_user("bob", bob, "c1")
    with pytest.raises(UserIsolationError, match="c1"):
        router.add_connection(WebSocketConnection(connection_id="c1", user_id="bob", websocket=bob))
    assert not get_websocket_manager("bob").is_connection_active()
    router.send_message(connection, {"type": "secret"})
    router.emit_event("tool_executing", {}, connection_id=connection)
    assert ann.types == ["secret", "tool_executing"]
    assert bob.texts == []


async def test_the_refused_socket_may_come_under_another_id() -> None:
    router = get_websocket_manager(None)
    ann, bob = StarletteSocket(), StarletteSocket()
    router.connect_user("ann", ann, "c1")
    with pytest.raises(UserIsolationError):
        router.connect_user("bob", bob, "c1")
    router.connect_user("bob", bob, "c2")
    router.send_message("c2", {"type": "to-bob"})
    assert bob.types == ["to-bob"]
    assert ann.texts == []


async def test_an_id_is_free_again_when_its_connection_has_left() -> None:
    router = get_websocket_manager(None)
    ann, bob = StarletteSocket(), StarletteSocket()
    router.connect_user("ann", ann, "c1")
    assert router.remove_connection("c1")
    router.connect_user("bob", bob, "c1")
    router.send_message("c1", {"type": "to-bob"})
    assert bob.types == ["to-bob"]
    assert ann.texts == []


async def test_a_late_removal_spares_the_next_user_of_the_id() -> None:
    """Each removes by what add_connection() gave, as handlers do."""
    router = get_websocket_manager(None)
    mine = router.connect_user("ann", StarletteSocket(), "c1")
    router.remove_connection(mine)
    router.connect_user("bob", StarletteSocket(), "c1")
    assert not router.remove_connection(mine)
    assert get_websocket_manager("bob").is_connection_active()


async def test_a_late_removal_spares_the_id_after_a_reset() -> None:
    old = get_websocket_manager("ann").add_connection(StarletteSocket(), "c1")
    reset_manager_registry()
    get_websocket_manager("ann").add_connection(StarletteSocket(), "c1")
    assert not get_websocket_manager("ann").remove_connection(old)
    assert get_websocket_manager("ann").is_connection_active()


async def test_one_that_leaves_takes_no_other_route_with_it() -> None:
    router = get_websocket_manager(None)
    router.connect_user("ann", StarletteSocket(), "c1")
    second = StarletteSocket()
    router.connect_user("ann", second, "c1")  # takes over from the first
    router.send_message("c1", {"type": "to-second"})
    assert second.types == ["to-second"]
    assert router.get_connection("c1") is not None
    router.remove_connection("c1")  # the first one's handler
    assert router.get_connection("c1") is not None


async def test_an_id_of_a_connection_and_of_another_user_is_not_guessed() -> None:
    router = get_websocket_manager(None)
    ann, bob = StarletteSocket(), StarletteSocket()
    router.connect_user("ann", ann)
    connection = router.connect_user("bob", bob, connection_id="ann")
    for call in (
        lambda: router.send_message("ann", {"type": "for-ann"}),
        lambda: router.emit_event("ann", "tool_executing", {}),
    ):
        with pytest.raises(UserIsolationError, match="ann"):
            call()
    assert ann.texts == bob.texts == []
    router.send_message(connection, {"type": "for-bob"})  # what was given says which
    assert bob.types == ["for-bob"]
    assert ann.texts == []
