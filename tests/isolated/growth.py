"""Connect, emit, disconnect with ids that never come back; argv[1]: how many.

Prints the growth of the resident memory over the last nine tenths and of the
open descriptors; exits 1 above 256 KiB or with a descriptor more.
"""

import asyncio
import gc
import os
import sys

import wsmanager

COUNT = int(sys.argv[1])
wsmanager.configure(max_idle_users=100)


class Socket:
    async def send_text(self, text):
        pass


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def main():
    marks = []
    fds = descriptors()
    for n in range(COUNT):
        manager = wsmanager.get_websocket_manager(f"user-{n}")
        connection_id = manager.add_connection(Socket())
        await manager.emit_event("x", {"n": n})
        manager.remove_connection(connection_id)
        if n % (COUNT // 10) == COUNT // 10 - 1:
            gc.collect()
            marks.append(resident())
    growth = marks[-1] - marks[0]
    status = wsmanager.get_manager_registry_status()
    print("KiB", marks, "growth", growth, "KiB fds", descriptors() - fds)
    assert status["total_connections"] == 0, status
    assert status["total_registered_managers"] <= 102, status
    return growth > 256 or descriptors() > fds


sys.exit(asyncio.run(main()))
