"""Frames made once and written by hand: ``socket.send`` or ``transport.write`` in a loop.

No peer anybody runs, but a mark of what Python itself costs: option
``socket`` or ``transport``.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from typing import ClassVar

from .stage import Events, Stage, listener, text

_ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def frame(message: str) -> bytes:
    """Return an unmasked final text frame of 126 to 65,535 bytes."""
    data = message.encode()
    return struct.pack("!BBH", 0x81, 126, len(data)) + data


class Client(asyncio.Protocol):
    """One connection: answers the upgrade, ignores the rest."""

    transports: ClassVar[list[asyncio.Transport]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if b"\r\n\r\n" in data:
            self.transport.write(_ACCEPT)
            self.transports.append(self.transport)


async def main(way: str) -> None:
    """Serve until the arena ends."""
    sock = listener()
    server = await asyncio.get_running_loop().create_server(Client, sock=sock)
    events = Events()

    def by_transport(size: int) -> None:
        data = frame(text(events(size)))
        for transport in Client.transports:
            transport.write(data)

    def by_socket(size: int) -> None:
        data = frame(text(events(size)))
        for transport in Client.transports:
            transport.get_extra_info("socket")._sock.send(data)

    stage = Stage()
    stage.perform(by_socket if way == "socket" else by_transport)
    stage.announce(sock.getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
