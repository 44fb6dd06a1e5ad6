"""A timer raises KeyboardInterrupt somewhere inside add, emit and remove; argv[1]: rounds.

An interrupt between the return of add_connection and the caller's storing of
the id leaves a connection that nobody will remove: no library can prevent
that. What it owes: the registry is consistent, and when such sockets are
closed, one sweep (an emit) removes every one of them.
"""

import asyncio
import random
import signal
import sys

import wsmanager

ROUNDS = int(sys.argv[1])


class Socket:
    closed = False

    async def send_text(self, text):
        if self.closed:
            raise ConnectionResetError


armed = False
swallowed = []


def interrupt(*_):
    if armed:
        raise KeyboardInterrupt


def hook(unraisable):
    swallowed.append(unraisable.exc_value)


sys.unraisablehook = hook
signal.signal(signal.SIGALRM, interrupt)


def work(n, user, sockets):
    ids = []
    manager = wsmanager.get_websocket_manager(user)
    while True:
        sockets.append(Socket())
        ids.append(manager.add_connection(sockets[-1]))
        manager.emit_event("x", {"n": n})
        if len(ids) > 5:
            manager.remove_connection(ids.pop())


async def one_round(n):
    """Work until the timer fires; the sockets that were made, and the user."""
    global armed  # noqa: PLW0603  shared with the signal handler
    user = f"user-{n}"
    sockets = []
    try:
        armed = True
        # Again and again: an interrupt that our code swallows must not end in an endless loop.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 6e-4), 0.02)
        # In a function: CPython 3.14 leaves jumps of a loop out of the try around it.
        work(n, user, sockets)
    except KeyboardInterrupt:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        return user, sockets


async def main():
    strays = uneven = 0
    main_task = asyncio.current_task()
    for n in range(ROUNDS):
        user, sockets = await one_round(n)
        manager = wsmanager.get_websocket_manager(user)
        # Consistent: every way of counting says the same, and every id is found.
        names = manager.get_user_connections()
        total = wsmanager.get_manager_registry_status()["total_connections"]
        found = [manager.get_connection(name) for name in names]
        if not (len(manager) == len(names) == total and None not in found):
            uneven += 1
        for connection in found:
            if manager.get_connection_id_by_websocket(connection.websocket) is None:
                uneven += 1
        for socket in sockets:
            socket.closed = True
        manager.emit_event("sweep", {})
        await asyncio.sleep(0)
        strays += len(manager)
        # The loop's own idea of what runs now is as it was.
        uneven += asyncio.current_task() is not main_task
        # A removed socket may be added anew: nothing of it is left in any table.
        for socket in sockets:
            socket.closed = False
            wsmanager.get_websocket_manager("other").add_connection(socket)
        wsmanager.get_websocket_manager("other").remove_connection_by_user()
        if wsmanager.get_manager_registry_status()["total_connections"]:
            strays += 1
        if strays:
            wsmanager.reset_manager_registry()
    print("rounds", ROUNDS, "strays", strays, "uneven", uneven, "swallowed", len(swallowed))
    return bool(strays or uneven or swallowed)


sys.exit(asyncio.run(main()))
