"""Direct frames beside buffered bytes and beyond short writes; exits 1 if a frame is torn."""

import asyncio
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from support.wire import Line, frames

import wsmanager
from wsmanager._wsmanager import Channel, frame


async def scenario(first):
    line = await Line.open(4096)
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(line, channel=Channel(line.transport))
    first(line, manager)
    data = b""
    sent = 0
    for n in range(3000):
        data += line.read_now()
        if n % 20 == 0 and sent < 20:
            manager.emit_event("small", {"n": sent})
            sent += 1
        await asyncio.sleep(0.0005)
        if data.count(b'"small"') == 20 and sent == 20:
            break
    data += line.read_now()
    small = 0
    for _, payload in frames(data):
        small += b'"small"' in payload
        assert set(payload) == {65} or payload.startswith(b'{"id"'), payload[:60]
    assert small == 20, small
    await line.shut()
    wsmanager.reset_manager_registry()


def buffered(line, manager):
    line.transport.write(frame(b"A" * 400_000))


def short(line, manager):
    manager.emit_event("big", {"pad": "x" * 400_000})


async def main():
    await scenario(buffered)
    await scenario(short)


try:
    asyncio.run(main())
except (AssertionError, IndexError) as error:
    print("torn:", error)
    sys.exit(1)
