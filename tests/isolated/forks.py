"""os.fork while other threads emit: the child must not hang, must see nobody, must write nothing.

argv[1]: how many forks. Prints one line of counts; exits 1 if any is wrong.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
import warnings

import wsmanager

warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: that is the test

FORKS = int(sys.argv[1])
ours, peer = socket.socketpair()
ours.setblocking(False)


class PipeSocket:
    """Writes what it is sent to a real file descriptor, as a transport would."""

    async def send_text(self, text):
        try:
            ours.send(text.encode() + b"\n")
        except BlockingIOError:
            pass


loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
manager = wsmanager.get_websocket_manager("parent")
manager.add_connection(PipeSocket(), loop=loop)

stopping = False
seen = []


def emitter():
    while not stopping:
        manager.emit_event("from-parent", {})
        time.sleep(0)


def reader():
    while True:
        data = peer.recv(1 << 16)
        if not data:
            return
        if b"from-child" in data:
            seen.append(data)


def child():
    """0: all as promised; else what was wrong."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 5)
    if wsmanager.get_manager_registry_status()["total_connections"] != 0:
        return 2
    if wsmanager.get_manager_registry_status()["total_registered_managers"] != 0:
        return 3
    manager.emit_event("from-child", {"by": "the parent's manager"})
    fresh = wsmanager.get_websocket_manager("parent")
    fresh.emit_event("from-child", {"by": "a manager of the child"})
    if len(fresh) != 0:
        return 4

    class Own:
        texts = []

        async def send_text(self, text):
            self.texts.append(text)

    async def own_loop():
        user = wsmanager.get_websocket_manager("child")
        user.add_connection(Own())
        await user.emit_event("own", {})

    asyncio.set_event_loop(None)
    asyncio.Runner().run(own_loop()) if sys.version_info >= (3, 11) else asyncio.run(own_loop())
    return 0 if len(Own.texts) == 1 else 5


threads = [threading.Thread(target=emitter, daemon=True) for _ in range(4)]
threads.append(threading.Thread(target=reader, daemon=True))
for thread in threads:
    thread.start()
hung = wrong = 0
for _ in range(FORKS):
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            status = child()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    hung += os.WIFSIGNALED(status)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        wrong += 1
        sys.stderr.write(f"a child exited with {os.WEXITSTATUS(status)}\n")
stopping = True
time.sleep(0.1)
print(f"forks {FORKS} hung {hung} wrong {wrong} foreign-bytes {sum(map(len, seen))}")
sys.stdout.flush()
os._exit(bool(hung or wrong or seen))
