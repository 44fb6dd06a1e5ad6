"""Clients written by others: what arrives on the far side of a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from wsmanager import get_websocket_manager


class Tab:
    """One browser tab: a ``websockets`` client that keeps the events it reads."""

    def __init__(self, client: ClientConnection, user: str) -> None:
        self.client = client
        self.user = user
        self.events: list[dict[str, Any]] = []

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def read(self, count: int, timeout: float = 10.0) -> list[dict[str, Any]]:
        """Read *count* more events; TimeoutError if they do not come."""

        async def some() -> None:
            for _ in range(count):
                self.events.append(json.loads(await self.client.recv()))

        await asyncio.wait_for(some(), timeout)
        return self.events

    async def silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing more arrives for *seconds*."""
        try:
            extra = await asyncio.wait_for(self.client.recv(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return True
        self.events.append(json.loads(extra))
        return False


async def open_tab(url: str, user: str, expected: int = 1, **options: Any) -> Tab:
    """Log in as *user* and wait until that user has at least *expected* connections."""
    client = await connect(f"{url}?user={user}", **options)
    for _ in range(2000):
        if len(get_websocket_manager(user)) >= expected:
            return Tab(client, user)
        await asyncio.sleep(0.002)
    raise AssertionError(f"the server did not register {user}'s connection")
