"""The bytes of a connection, seen from the peer's end, by a decoder of our own."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each server frame; AssertionError on anything but whole, legal ones."""
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        assert first & 0x80, "a fragment"
        assert not first & 0x70, "a reserved bit is set"
        assert not second & 0x80, "a server must not mask"
        at += 2
        size = second
        if second == 126:
            (size,) = struct.unpack_from("!H", data, at)
            at += 2
            assert size > 125, "not the shortest form of the length"
        elif second == 127:
            (size,) = struct.unpack_from("!Q", data, at)
            at += 8
            assert size > 65535, "not the shortest form of the length"
        assert at + size <= len(data), "a frame is cut off"
        yield first & 15, data[at : at + size]
        at += size


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(payload) for opcode, payload in frames(data) if opcode == 1]


class Ending(asyncio.Protocol):
    """Tells when its connection is lost."""

    def __init__(self, lost: asyncio.Event) -> None:
        self.lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


class Line:
    """A transport of the running loop on one end of a socket pair, and the raw other end.

    It is also a WebSocket to the manager: its ``send_text`` writes a frame by
    the transport, as a library would, and counts how often.
    """

    def __init__(
        self, transport: asyncio.Transport, peer: socket.socket, lost: asyncio.Event
    ) -> None:
        self.transport = transport
        self.peer = peer
        self.by_library = 0
        self.closed_with: tuple[int, str] | None = None
        self.lost = lost

    @classmethod
    async def open(cls, buffer: int = 0) -> Line:
        """*buffer*: size of the sender's kernel buffer in bytes; 0: the system's own."""
        ours, peer = socket.socketpair()
        if buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        for end in (ours, peer):
            end.setblocking(False)
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: Ending(lost), sock=ours)
        return cls(transport, peer, lost)

    async def send_text(self, text: str) -> None:
        from wsmanager._wsmanager import frame

        self.by_library += 1
        if self.transport.is_closing():
            raise ConnectionResetError("Cannot write to closing transport")
        self.transport.write(frame(text))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = (code, reason)
        self.transport.close()

    def read_now(self) -> bytes:
        """What the kernel already has for the peer; nothing is waited for."""
        data = b""
        while True:
            try:
                chunk = self.peer.recv(1 << 20)
            except BlockingIOError:
                return data
            if not chunk:
                return data
            data += chunk

    async def read(self, size: int, timeout: float = 10.0) -> bytes:
        """Exactly *size* bytes."""
        loop = asyncio.get_running_loop()

        async def some() -> bytes:
            data = b""
            while len(data) < size:
                chunk = await loop.sock_recv(self.peer, size - len(data))
                assert chunk, f"end of stream after {len(data)} of {size} bytes"
                data += chunk
            return data

        return await asyncio.wait_for(some(), timeout)

    async def read_frame(self) -> tuple[bytes, bytes]:
        """The next frame as it came, and its payload."""
        raw = await self.read(2)
        size = raw[1] & 127
        if size > 125:
            raw += await self.read(2 if size == 126 else 8)
            size = int.from_bytes(raw[2:], "big")
        payload = await self.read(size)
        return raw + payload, payload

    async def read_to_end(self, timeout: float = 10.0) -> bytes:
        """All until the peer sees the end of the stream."""
        loop = asyncio.get_running_loop()

        async def some() -> bytes:
            data = b""
            while chunk := await loop.sock_recv(self.peer, 1 << 20):
                data += chunk
            return data

        return await asyncio.wait_for(some(), timeout)

    async def shut(self) -> None:
        """Abort the transport and close the peer's end."""
        self.transport.abort()
        self.peer.close()
        await asyncio.sleep(0)
