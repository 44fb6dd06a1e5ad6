"""Ends the interpreter in the middle of something; argv[1] names what."""

import asyncio
import atexit
import sys
import threading
import time
import warnings
from unittest.mock import patch

import wsmanager


class Socket:
    async def send_text(self, text):
        pass


class Hanging:
    async def send_text(self, text):
        await asyncio.sleep(3600)


def loop_in_thread():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def fill(loop, users=5, each=20, socket=Socket):
    for n in range(users):
        manager = wsmanager.get_websocket_manager(f"user-{n}")
        for _ in range(each):
            manager.add_connection(socket(), loop=loop)
    return manager


def connections_alive():
    fill(asyncio.new_event_loop()).emit_event("x", {})


def daemon_threads_emit():
    manager = fill(loop_in_thread())

    def emit():
        while True:
            manager.emit_event("x", {"pad": "x" * 100})

    for _ in range(4):
        threading.Thread(target=emit, daemon=True).start()
    time.sleep(0.05)


def loop_closed_with_events_queued():
    loop = asyncio.new_event_loop()
    manager = fill(loop)
    manager.emit_event("x", {})
    loop.close()
    manager.emit_event("y", {})


def atexit_emit():
    manager = fill(loop_in_thread())
    atexit.register(manager.emit_event, "bye", {})
    atexit.register(lambda: wsmanager.get_websocket_manager("late").emit_event("bye", {}))
    atexit.register(wsmanager.reset_manager_registry)


class Dying:
    def __init__(self, manager):
        self.manager = manager

    def __del__(self):
        self.manager.emit_event("dying", {})


def emit_from_del():
    manager = fill(loop_in_thread())
    manager.dying = Dying(manager)
    sys.modules["kept"] = Dying(manager)
    globals()["_kept"] = Dying(manager)


def module_attribute():
    sys.modules["wsmanager"].kept = fill(asyncio.new_event_loop())
    sys.kept = wsmanager.get_websocket_manager("sys").emit_event("x", {})


def hanging_send():
    async def main():
        manager = wsmanager.get_websocket_manager("ann")
        manager.add_connection(Hanging())
        manager.emit_event("x", {})
        manager.emit_event("y", {})
        await asyncio.sleep(0.01)

    asyncio.run(main())


def acquire_pending():
    async def check():
        await asyncio.sleep(3600)

    async def main():
        wsmanager.configure(availability_check=check)
        globals()["task"] = asyncio.ensure_future(wsmanager.get_websocket_manager_async("ann"))
        await asyncio.sleep(0.01)

    asyncio.run(main())


def patched_manager():
    manager = wsmanager.get_websocket_manager("ann")
    patch.object(manager, "emit_event").start()
    manager.self = manager


def sys_exit_in_a_send():
    class Exiting:
        async def send_text(self, text):
            sys.exit(0)

    async def main():
        manager = wsmanager.get_websocket_manager("ann")
        manager.add_connection(Exiting())
        manager.emit_event("x", {})
        await asyncio.sleep(0.05)

    asyncio.run(main())


def delivery_kept():
    loop = loop_in_thread()
    globals()["deliveries"] = [fill(loop, 1, 3).emit_event("x", {}) for _ in range(50)]
    globals()["flushed"] = globals()["deliveries"][0]


def thread_local_manager():
    local = threading.local()

    def keep():
        local.manager = wsmanager.get_websocket_manager("ann")
        local.connection = local.manager.add_connection(Socket(), loop=asyncio.new_event_loop())
        local.acquire = wsmanager.get_websocket_manager_async("bob")
        local.acquire.close()

    thread = threading.Thread(target=keep)
    thread.start()
    thread.join()
    globals()["local"] = local


warnings.simplefilter("ignore", ResourceWarning)
globals()[sys.argv[1].replace(" ", "_").replace("sys.exit", "sys_exit")]()
