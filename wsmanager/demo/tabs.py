"""A browser tab of a user, for the proof: log-in over HTTP, then a WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

READY_SECONDS = 10.0
HTTP_SECONDS = 10.0


@dataclass
class Seen:
    """One event, as a tab got it."""

    type: str
    id: str
    run_id: str | None
    user_id: str | None
    owner: str | None
    """For whom the agent emitted it, as the agent itself wrote it into the event."""
    ms: float
    """From the emit in the agent's thread until the client had it."""


@dataclass
class Tab:
    """One tab: what it is, and what it got."""

    user_id: str
    number: int
    socket: ClientConnection
    channel: str
    events: list[Seen] = field(default_factory=list)

    async def listen(self, until: str, seconds: float, grace: float) -> None:
        """Collect events up to one of type *until*, and whatever comes *grace* seconds after it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                text = await asyncio.wait_for(self.socket.recv(), left)
            except asyncio.TimeoutError:
                return
            now = time.monotonic_ns()
            event = json.loads(text)
            self.events.append(_seen(event, now))
            if event["type"] == until:
                end = time.monotonic() + grace


async def open_tab(url: str, session: dict[str, str], number: int) -> Tab:
    """Connect as the page does; returns when the server has registered the connection."""
    socket = await connect(url.replace("http", "ws", 1) + "/ws")
    await socket.send(session["token"])
    await socket.send(json.dumps({"type": "resume", "position": ""}))
    await _message(socket, "resumed")
    ready = await _message(socket, "ready")
    return Tab(session["user_id"], number, socket, ready["payload"]["channel"])


async def _message(socket: ClientConnection, expected: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), READY_SECONDS))
    if message["type"] != expected:
        raise RuntimeError(f"{message['type']!r} came where {expected!r} was due")
    return message


async def post(url: str, body: dict[str, str], token: str = "") -> dict[str, str]:
    """The answer of a POST, as JSON."""
    return await asyncio.to_thread(_post, url, body, token)


def _post(url: str, body: dict[str, str], token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as response:
        answer: dict[str, str] = json.load(response)
    return answer


def _seen(event: dict[str, Any], now: int) -> Seen:
    trace = event.get("payload", {}).get("trace_context", {})
    return Seen(
        type=event["type"],
        id=event["id"],
        run_id=event.get("run_id"),
        user_id=event.get("user_id"),
        owner=trace.get("owner"),
        ms=(now - trace.get("emitted_ns", now)) / 1e6,
    )
