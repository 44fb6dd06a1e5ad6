"""The same str asked for again after its manager left the registry: what left must not come back.

argv[1]: how it leaves: "reset", "idle" or "fork". Exits 1 if the old manager is found.
"""

import os
import sys
import time
import warnings
import weakref

from wsmanager import (
    configure,
    get_manager_registry_status,
    get_websocket_manager,
    reset_manager_registry,
)

warnings.simplefilter("ignore", DeprecationWarning)

KEY = "-".join(("the", "same", "str"))


def users():
    return get_manager_registry_status()["total_registered_managers"]


def reset():
    held = get_websocket_manager(KEY)
    assert get_websocket_manager(KEY) is held
    reset_manager_registry()
    assert get_websocket_manager(KEY) is not held
    assert users() == 1


def idle():
    configure(idle_ttl=0.001)
    gone = weakref.ref(get_websocket_manager(KEY))
    assert get_websocket_manager(KEY) is gone()
    while gone() is not None:
        time.sleep(0.01)
        users()  # looks who has been idle for long
    assert users() == 0
    again = get_websocket_manager(KEY)
    assert users() == 1
    assert again.user_id == KEY
    assert get_websocket_manager("".join(KEY)) is again


def fork():
    held = get_websocket_manager(KEY)
    assert get_websocket_manager(KEY) is held
    child = os.fork()
    if child == 0:
        empty = users() == 0
        own = get_websocket_manager(KEY)
        os._exit(0 if empty and own is held and users() == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert get_websocket_manager(KEY) is held


{"reset": reset, "idle": idle, "fork": fork}[sys.argv[1]]()
