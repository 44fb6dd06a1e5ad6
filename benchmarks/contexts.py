"""The contexts a backend asks with: an object, a mapping."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class UserContext:
    """A frozen dataclass with the three ids, as agent backends carry it."""

    user_id: str
    thread_id: str = "t1"
    run_id: str = "r1"


class FakeSocket:
    """A WebSocket without a network: its send never suspends."""

    __slots__ = ("__weakref__", "received")

    def __init__(self) -> None:
        self.received = 0

    async def send_text(self, text: str) -> None:
        self.received += 1


class HangingSocket(FakeSocket):
    """A WebSocket whose send never returns."""

    async def send_text(self, text: str) -> None:
        await asyncio.get_running_loop().create_future()
