"""A loop's timer: it looks at what is watched, once each, and judges who takes nothing by what waits."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.wire import Ending, Line

import wsmanager
from wsmanager import get_websocket_manager
from wsmanager._wsmanager import Channel

SIOCOUTQ = 0x5411


@pytest.mark.parametrize("case", ["strangers", "fellows"])
def test_a_look_that_emits(isolated: Callable[..., Any], case: str) -> None:
    """What is watched meanwhile waits for the next tick, and what was looked at is watched once."""
    isolated("watched.py", case, timeout=60)


# -- is the peer's kernel taking anything? --------------------------------------


class Tcp(Line):
    """The same over TCP, with a peer that takes little at once."""

    @classmethod
    async def open(cls, buffer: int = 0) -> Tcp:
        listener = socket.create_server(("127.0.0.1", 0))
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.connect(listener.getsockname())
        ours, _ = listener.accept()
        listener.close()
        for end in (ours, peer):
            end.setblocking(False)
        lost = asyncio.Event()
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: Ending(lost), sock=ours
        )
        return cls(transport, peer, lost)

    def unsent(self) -> int:
        """Bytes in the kernel's send queue, once they change no more."""
        number = self.transport.get_extra_info("socket").fileno()
        seen = [-1]
        while len(seen) < 5 or len(set(seen[-4:])) > 1:
            (size,) = struct.unpack("i", fcntl.ioctl(number, SIOCOUTQ, b"\0" * 4))
            seen.append(size)
            time.sleep(0.0005)
        return seen[-1]

    def fill(self, level: int) -> None:
        """Bytes of the application's own, until the queue is as long as it was."""
        while (missing := level - self.unsent()) > 0:
            self.transport.write(b"\0" * missing)
        assert self.transport.get_write_buffer_size() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="SIOCOUTQ and TCP_INFO are Linux's")
@pytest.mark.parametrize("reads", [True, False])
async def test_progress_is_what_the_peer_acknowledges(reads: bool) -> None:
    """The queue is equally long at each look: by a peer that reads all the time, or by one that is frozen."""
    wsmanager.configure(outbox_max_age=1.0)
    line = await Tcp.open()
    manager = get_websocket_manager("ann")
    manager.add_connection(line, channel=Channel(line.transport))
    manager.emit_event("x", {})
    line.fill(60_000)
    level = line.unsent()
    assert level > 20_000
    begin, taken, alike = time.monotonic(), 0, True
    while time.monotonic() - begin < 4 and len(manager) == 1:
        if reads:
            taken += len(line.read_now())
            line.fill(level)
            alike = alike and line.unsent() == level
        await asyncio.sleep(0.01)
    assert alike, "this proves nothing"
    assert len(manager) == reads
    assert not reads or taken > level, "it has read the event, and more"
    await line.shut()
