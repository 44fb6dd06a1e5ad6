"""Django Channels: ``await layer.group_send(group, message)`` with the in-memory layer, on uvicorn's default."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

settings.configure(
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 - after setup
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from .stage import Events, serve_asgi, text  # noqa: E402


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """As in the Channels tutorial: one group, and a handler that forwards."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("u1", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("u1", self.channel_name)

    async def agent_event(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


events = Events()


async def emit(size: int) -> None:
    """Send one event to the group."""
    await get_channel_layer().group_send("u1", {"type": "agent.event", "text": text(events(size))})


if __name__ == "__main__":
    router = URLRouter([path("ws", Consumer.as_asgi())])
    serve_asgi(ProtocolTypeRouter({"websocket": router}), emit)
