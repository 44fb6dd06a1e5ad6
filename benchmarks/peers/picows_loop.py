"""picows: a loop of ``transport.send(WSMsgType.TEXT, data)``, encoded once."""

from __future__ import annotations

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from .stage import Events, Stage, text

TRANSPORTS: set[WSTransport] = set()


class Listener(WSListener):
    """Registers the connection until it closes."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        TRANSPORTS.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        TRANSPORTS.discard(transport)


def listener_factory(request: WSUpgradeRequest) -> WSListener:
    """Return the listener of a new connection."""
    return Listener()


async def main() -> None:
    """Serve until the arena ends."""
    events = Events()

    def emit(size: int) -> None:
        data = text(events(size)).encode()
        for transport in TRANSPORTS:
            transport.send(WSMsgType.TEXT, data)

    server = await ws_create_server(listener_factory, "127.0.0.1", 0)
    stage = Stage()
    stage.perform(emit)
    stage.announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
