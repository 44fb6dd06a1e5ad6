"""The core loaded twice in one interpreter: two registries, two sets of types, one lifetime each."""

import asyncio
import gc
import importlib.util
import sys
import weakref

import wsmanager
from wsmanager import _wsmanager as first


def load_second():
    """A second module object from the same shared library."""
    spec = importlib.util.spec_from_file_location("wsmanager._wsmanager", first.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


second = load_second()
assert second is not first
assert second.UnifiedWebSocketManager is not first.UnifiedWebSocketManager
assert second.InvalidUserContext is not first.InvalidUserContext

own = first.get_websocket_manager("ann")
assert second.get_manager_registry_status()["total_registered_managers"] == 0
other = second.get_websocket_manager("ann")
assert type(other) is second.UnifiedWebSocketManager
assert other is not own
first.reset_manager_registry()
assert second.get_websocket_manager("ann") is other, "one reset emptied both"


class Socket:
    def __init__(self):
        self.texts = []

    async def send_text(self, text):
        self.texts.append(text)


async def main(second):
    socket = Socket()
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(socket)
    assert len(second.get_websocket_manager("ann")) == 0
    await manager.emit_event("one", {})
    assert len(socket.texts) == 1


asyncio.run(main(second))
settings = first._settings()
second._configure(max_users=7)
assert first._settings() == settings, "the settings are shared"

alive = weakref.ref(second.UnifiedWebSocketManager)
del second, other
for _ in range(3):
    gc.collect()
assert alive() is None, "the second module object was never collected"
assert sys.modules["wsmanager._wsmanager"] is first
assert first.get_websocket_manager("bob").user_id == "bob"
