"""Over TLS, and into a transport that holds bytes, the core itself writes nothing.

Run with support/faultio.c preloaded, which counts its system calls; argv: its path, how many
sends, "tls" or "buffered". Exits 1 if there was one call, or if the stream is not what a
library would have sent.
"""

import asyncio
import ctypes
import ssl
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])
from support.wire import Line, frames

import wsmanager
from wsmanager._wsmanager import Channel, frame

faultio = ctypes.CDLL(sys.argv[1])
faultio.faultio_sends.restype = ctypes.c_long
SENDS = int(sys.argv[2])
wsmanager.configure(outbox_max_events=SENDS + 10, outbox_max_bytes=1 << 34, outbox_max_age=600)


class Server(asyncio.Protocol):
    def __init__(self, accepted):
        self.accepted = accepted

    def connection_made(self, transport):
        self.transport = transport
        self.accepted.set_result(self)

    async def send_text(self, text):
        self.transport.write(frame(text))


async def tls():
    """argv[4]: a folder with certificate.pem and key.pem for 127.0.0.1."""
    folder = sys.argv[4]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/certificate.pem", f"{folder}/key.pem")
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()
    server = await loop.create_server(lambda: Server(accepted), "127.0.0.1", 0, ssl=context)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        server.sockets[0].getsockname()[1],
        ssl=ssl.create_default_context(cafile=f"{folder}/certificate.pem"),
    )
    line = await accepted
    try:
        channel = Channel(line.transport)
    except ValueError:
        channel = None
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(line, channel=channel)
    data = b""
    for n in range(SENDS):
        manager.emit_event("x", {"n": n})
        if n % 50 == 49 or n == SENDS - 1:
            while data.count(b'"type"') <= n:
                chunk = await asyncio.wait_for(reader.read(1 << 20), 20)
                assert chunk, "the client gave up"
                data += chunk
    assert len(list(frames(data))) == SENDS
    writer.close()
    line.transport.abort()
    server.close()
    return faultio.faultio_sends()


async def buffered():
    """The peer reads nothing before all is sent, so the transport always holds bytes."""
    line = await Line.open(4096)
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(line, channel=Channel(line.transport))
    library = frame(b"A" * 400_000)
    line.transport.write(library)
    before = faultio.faultio_sends()
    for n in range(SENDS):
        manager.emit_event("x", {"n": n})
        if n % 50 == 0:
            await asyncio.sleep(0)
    direct = faultio.faultio_sends() - before
    data = b""
    while data.count(b'"type"') < SENDS:
        data += line.read_now()
        await asyncio.sleep(0)
    payloads = [payload for _, payload in frames(data)]
    assert payloads[0] == b"A" * 400_000, "foreign bytes inside a frame"
    assert len(payloads) == SENDS + 1
    await line.shut()
    return direct


async def main():
    calls = await {"tls": tls, "buffered": buffered}[sys.argv[3]]()
    print(f"sends {SENDS} system calls of the core {calls}")
    return calls > 0


try:
    sys.exit(asyncio.run(main()))
except (AssertionError, IndexError, OSError) as error:
    print("wrong:", repr(error))
    sys.exit(1)
