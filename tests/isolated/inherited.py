"""A child's transport says that a connection of the parent is over: nothing of the parent's is touched."""

import asyncio
import os
import socket
import sys

import wsmanager
from wsmanager import get_manager_registry_status, get_websocket_manager
from wsmanager._hooks import core

wsmanager.configure(stray_interval=0, idle_ttl=0)


class Sink:
    async def send_text(self, text):
        pass


class Transport(asyncio.Transport):
    """One that the child has inherited."""

    def __init__(self):
        super().__init__()
        self._pair = socket.socketpair()

    def get_extra_info(self, name, default=None):
        return self._pair[0] if name == "socket" else default

    def is_closing(self):
        return False

    def get_write_buffer_size(self):
        return 0


def child(channel):
    for key in "bc":
        get_websocket_manager(key)
    for _ in range(8):
        get_manager_registry_status()
    channel.closed()
    for n in range(5):
        get_websocket_manager(f"new-{n}")
    counts = get_manager_registry_status()
    return (
        counts["connections_closed"] == 0
        and counts["total_connections"] == 0
        and 0 <= counts["total_registered_managers"] <= 7
    )


async def main():
    for key in "bc":
        get_websocket_manager(key)
    channel = core.Channel(Transport())
    get_websocket_manager("a").add_connection(Sink(), channel=channel)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if child(channel) else 3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: ASYNC222  nobody else waits


sys.exit(asyncio.run(main()))
