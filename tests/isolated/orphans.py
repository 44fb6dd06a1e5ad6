"""Awaitables that the collector finds together with the module object they came from.

Under PYTHONMALLOC=debug what is freed is overwritten: to read the module's
state after it has gone is a crash, not luck.
"""

import gc
import importlib.util
import warnings
import weakref

from wsmanager import _wsmanager as first


def load():
    spec = importlib.util.spec_from_file_location("wsmanager._wsmanager", first.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leave(awaited):
    """A cycle of awaitables that alone hold their type, and so the module."""
    module = load()
    cycle = [module.get_websocket_manager_async(f"user-{n}") for n in range(3)]
    cycle.append(cycle)
    if awaited:
        for awaitable in cycle[:3]:
            try:
                awaitable.send(None)
            except StopIteration:
                pass
    return weakref.ref(module)


def leave_a_hit():
    """The memory of one that was awaited is kept for the next, and goes with the module."""
    module = load()
    manager = module.get_websocket_manager("ann")
    hit = module.get_websocket_manager_async("ann")
    try:
        hit.send(None)
    except StopIteration as stop:
        assert stop.value is manager
    return weakref.ref(module)


for _ in range(5):
    alive = leave_a_hit()
    for _ in range(3):
        gc.collect()
    assert alive() is None, "the module object was never collected"

for awaited in (False, True):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        alive = leave(awaited)
        for _ in range(3):
            gc.collect()
    assert alive() is None, "the module object was never collected"
    texts = [str(warning.message) for warning in said]
    assert texts == ([] if awaited else [texts[0]] * 3), texts
    assert awaited or "never awaited" in texts[0]
