"""Cycles through a manager, a connection and a delivery must die; exits 1 if one does not."""

import asyncio
import gc
import sys
import weakref

import wsmanager


class Context:
    user_id = "ann"


class Socket:
    async def send_text(self, text):
        pass


async def main():
    context = Context()
    manager = wsmanager.get_websocket_manager(context)
    context.manager = manager
    socket = Socket()
    socket.id = manager.add_connection(socket)
    socket.connection = manager.get_connection(socket.id)
    socket.delivery = manager.emit_event("x", {}, detail=True)
    await socket.delivery
    manager.remove_connection(socket.id)
    return [weakref.ref(context), weakref.ref(socket)]


alive = asyncio.run(main())
wsmanager.reset_manager_registry()
for _ in range(3):
    gc.collect()
left = [type(ref()).__name__ for ref in alive if ref() is not None]
print("left:", left)
sys.exit(bool(left))
