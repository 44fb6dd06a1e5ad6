"""Settings: one place, checked before any is changed."""

from __future__ import annotations

from typing import Any

import pytest

import wsmanager
from wsmanager import _wsmanager as core
from wsmanager import configure, get_config

SETTINGS = {
    "availability_check", "availability_timeout", "tolerate_await", "envelope", "max_event_bytes",
    "journal_max_events", "journal_max_bytes", "journal_max_age", "journal_budget",
    "idempotency_window", "stray_interval",
    "max_users", "max_connections_per_user", "idle_ttl", "max_idle_users", "outbox_max_events",
    "outbox_max_bytes", "outbox_max_age", "slow_policy", "coalesce_key", "tcp_user_timeout",
    "error_limit",
}  # fmt: skip


def test_every_setting_can_be_read() -> None:
    assert set(get_config()) == SETTINGS
    assert set(core._settings()) == SETTINGS - {"availability_timeout"}


def test_nothing_given_changes_nothing() -> None:
    before = get_config()
    configure()
    assert get_config() == before


def test_what_was_read_can_be_given_back() -> None:
    before = get_config()
    configure(max_users=5, envelope="flat", idle_ttl=1.5, tolerate_await=True)
    changed = get_config()
    assert (changed["max_users"], changed["envelope"]) == (5, "flat")
    assert (changed["idle_ttl"], changed["tolerate_await"]) == (1.5, True)
    configure(**before)
    assert get_config() == before


def test_what_is_handed_out_is_a_copy() -> None:
    get_config()["max_users"] = 1
    assert get_config()["max_users"] > 1


WRONG: list[dict[str, Any]] = [
    {"max_users": 0}, {"max_users": -1}, {"max_users": "5"}, {"max_users": 1.5},
    {"max_users": True}, {"max_users": None}, {"max_users": 1 << 80},
    {"max_event_bytes": 0}, {"max_connections_per_user": 0}, {"outbox_max_events": 0},
    {"outbox_max_bytes": -5}, {"outbox_max_age": 0}, {"outbox_max_age": float("nan")},
    {"journal_max_events": -1}, {"journal_max_bytes": 0}, {"journal_max_age": 0},
    {"journal_budget": 0}, {"idempotency_window": 0}, {"stray_interval": -1},
    {"idle_ttl": -1}, {"idle_ttl": float("inf")}, {"error_limit": 0},
    {"tcp_user_timeout": -1}, {"tolerate_await": 1}, {"slow_policy": "x"}, {"envelope": 5},
    {"coalesce_key": 5}, {"availability_check": 5}, {"availability_timeout": 0},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_one_wrong_value_changes_none(wrong: dict[str, Any]) -> None:
    before = get_config()
    with pytest.raises((TypeError, ValueError)) as caught:
        configure(**{"max_idle_users": 77, **wrong})
    assert next(iter(wrong)) in str(caught.value)
    assert get_config() == before


def test_unknown_names_are_type_errors() -> None:
    with pytest.raises(TypeError):
        configure(max_user=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        core._configure(max_user=5)


def test_settings_are_not_users_business_after_reset() -> None:
    configure(max_users=5)
    wsmanager.reset_manager_registry()
    assert get_config()["max_users"] == 5


def test_tolerated_awaits_are_warned_of_once_a_place() -> None:
    import asyncio
    import warnings

    configure(tolerate_await=True)

    async def main() -> list[Any]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(5):
                manager = wsmanager.get_websocket_manager("ann")
                assert await manager is manager  # type: ignore[misc]
            assert await manager is manager  # type: ignore[misc]
        return caught

    caught = asyncio.run(main())
    assert [w.category for w in caught] == [DeprecationWarning] * 2
    assert {w.filename for w in caught} == {__file__}
    assert len({w.lineno for w in caught}) == 2


def test_managers_made_before_the_switch_stay_as_they_are() -> None:
    import inspect

    before = wsmanager.get_websocket_manager("before")
    configure(tolerate_await=True)
    assert not inspect.isawaitable(before)
    assert inspect.isawaitable(wsmanager.get_websocket_manager("after"))
    assert isinstance(wsmanager.get_websocket_manager("after"), wsmanager.WebSocketManager)
