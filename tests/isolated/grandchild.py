"""A manager that is held across two forks is the registry's in each process, with an epoch of its own.

argv[1]: 1 if the first child uses it.
"""

import os
import sys
import time

import wsmanager

wsmanager.configure(idle_ttl=0.001)
held = wsmanager.get_websocket_manager("ann")
suspended = wsmanager.get_websocket_manager("bob")
time.sleep(0.005)
for _ in range(10):  # both are idle for long, and held: out of the table
    wsmanager.get_manager_registry_status()
epochs = [held.position.split(":")[0]]


def check():
    """Both are the same object for who holds them and for who asks."""
    for key, manager in (("ann", held), ("bob", suspended)):
        if wsmanager.get_websocket_manager(key) is not manager:
            return f"{key}: another manager"
        manager.emit_event("x", {})
        if wsmanager.get_websocket_manager(key) is not manager:
            return f"{key}: another manager after an emit"
    epoch = held.position.split(":")[0]
    if epoch in epochs:
        return "the epoch of another process"
    epochs.append(epoch)
    if wsmanager.get_websocket_manager(f"new-{len(epochs)}").position.split(":")[0] in epochs:
        return "an epoch twice"
    return None


def forked(work):
    child = os.fork()
    if child == 0:
        problem = work()
        print(problem or "fine", flush=True)
        os._exit(1 if problem else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def first():
    problem = check() if sys.argv[1] == "1" else None
    return problem or (forked(check) and "in the child's child")


status = forked(first)
# A sibling, forked from the same memory, has epochs of its own too.
read, write = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.write(write, wsmanager.get_websocket_manager("carol").position.encode() + b"\n")
        os._exit(0)
    os.wait()
os.close(write)
with open(read) as pipe:
    siblings = {line.split(":")[0] for line in pipe}
if len(siblings) != 2:
    print("siblings with one epoch")
    status = 1
sys.exit(status)
