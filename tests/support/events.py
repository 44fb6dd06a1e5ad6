"""Server-sent events as a client reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx


class Source:
    """An EventSource: reads the wire format line by line, as the standard has it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = self._lines()
        self.last_id = ""
        self.retry: int | None = None
        self.comments = 0

    async def _lines(self) -> AsyncIterator[str]:
        """Ended by a line feed, as we end them; httpx's own also ends them at U+2028."""
        rest = b""
        async for chunk in self.response.aiter_raw():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode()

    async def message(self) -> tuple[str, Any]:
        """Type and data of the next event."""
        kind, data = "message", []
        async for line in self.lines:
            if not line:
                if data:
                    return kind, json.loads("\n".join(data))
                kind = "message"
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line.startswith(":"):
                self.comments += 1
            elif name == "id":
                assert "\0" not in value
                self.last_id = value
            elif name == "retry":
                self.retry = int(value)
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
        return "end", None

    async def events(self, count: int, timeout: float = 10.0) -> list[Any]:
        async def some() -> list[Any]:
            return [(await self.message())[1] for _ in range(count)]

        return await asyncio.wait_for(some(), timeout)


@asynccontextmanager
async def source(
    url: str, last_event_id: str | None = None, **options: Any
) -> AsyncIterator[Source]:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    async with (
        httpx.AsyncClient(timeout=20) as http,
        http.stream("GET", url, headers=headers, **options) as response,
    ):
        yield Source(response)
