"""Forked children look up their parent's users while one thread forgets the whole registry.

argv: seconds, threads. For ThreadSanitizer to look at, which a mixed load shows this too rarely:
each child has a table of its parent's managers, once. Prints how many children there were; exits
1 if one crashed, hung, or found a manager that is not the user's.
"""

import os
import signal
import sys
import threading
import time

import wsmanager

SECONDS, THREADS = float(sys.argv[1]), int(sys.argv[2])
USERS = 200
sys.setswitchinterval(1e-6)


def child():
    """How many managers were another user's, or of no use."""
    signal.setitimer(signal.ITIMER_REAL, 60)
    wrong = []
    ready = threading.Barrier(THREADS + 1)

    def look_up(k):
        ready.wait()
        for n in range(2 * USERS):
            name = f"user-{(n * 7 + k) % USERS}" if n % 2 else f"new-{k}-{n}"
            manager = wsmanager.get_websocket_manager(name)
            if manager.user_id != name or manager.emit_event("x", {"n": n}).receipt is None:
                wrong.append(name)

    threads = [threading.Thread(target=look_up, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait()
    for _ in range(20):
        time.sleep(0.0005)
        wsmanager.reset_manager_registry()
    for thread in threads:
        thread.join()
    return len(wrong)


children = bad = 0
deadline = time.monotonic() + SECONDS
while time.monotonic() < deadline:
    held = [wsmanager.get_websocket_manager(f"user-{n}") for n in range(USERS)]
    # What a child keeps of these is its table alone.
    held.clear()
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            status = min(child(), 8)
        finally:
            os._exit(status)
    children += 1
    _, status = os.waitpid(pid, 0)
    if status:
        bad += 1
        sys.stderr.write(f"a child ended with {os.waitstatus_to_exitcode(status)}\n")
print(f"children {children} bad {bad}")
sys.exit(bool(bad))
