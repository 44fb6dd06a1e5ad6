"""The direct way to a transport: whole frames, in order, to the right socket, or the library's way."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.servers import client_context, server_context
from support.waiting import eventually, turns
from support.wire import Line, events, frames
from websockets.frames import Frame, Opcode

import wsmanager
from wsmanager import get_websocket_manager, reset_manager_registry
from wsmanager._wsmanager import Channel, frame

Main = Callable[[Callable[[], Any]], Any]


async def connected(
    user: str = "ann", buffer: int = 0, **options: Any
) -> tuple[Any, Line, Channel]:
    line = await Line.open(buffer)
    channel = Channel(line.transport, **options)
    manager = get_websocket_manager(user)
    manager.add_connection(line, channel=channel)
    return manager, line, channel


# -- what it writes -------------------------------------------------------------


def test_frames_of_every_length_go_directly(run: Main) -> None:
    """Byte for byte those of an encoder that is not ours, at the edges of each length form."""

    async def main() -> None:
        manager, line, _ = await connected()
        manager.emit_event("x", {"pad": ""})
        empty = len((await line.read_frame())[1])
        for size in (0, 1, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 300_000):
            pad = "x" * max(0, size - empty)
            manager.emit_event("x", {"pad": pad})
            raw, payload = await line.read_frame()
            assert raw == Frame(Opcode.TEXT, payload).serialize(mask=False, extensions=[])
            assert json.loads(payload)["payload"]["pad"] == pad
        assert line.by_library == 0
        await line.shut()

    run(main)


def test_an_idle_connection_is_written_before_emit_returns(run: Main) -> None:
    async def main() -> None:
        manager, line, _ = await connected()
        manager.emit_event("x", {"n": 1})
        assert events(line.read_now())[0]["payload"] == {"n": 1}
        await line.shut()

    run(main)


def test_a_burst_arrives_whole_and_in_order(run: Main) -> None:
    async def main() -> None:
        manager, line, _ = await connected()
        for n in range(500):
            manager.emit_event("x", {"n": n})
        data = b""
        for _ in range(2000):
            data += line.read_now()
            if data.count(b'"type"') == 500:
                break
            await asyncio.sleep(0.001)
        assert [event["payload"]["n"] for event in events(data)] == list(range(500))
        assert line.by_library == 0
        await line.shut()

    run(main)


@pytest.mark.parametrize("before", [0, 1, 5, 50])
def test_the_rest_of_a_burst_leaves_together(run: Main, before: int) -> None:
    """The first at once, the rest at the turn's end, after a pause as well as in a stream.

    Where events came fast but one to a turn, up to seven more may leave at once.
    """

    async def main() -> None:
        manager, line, _ = await connected()
        for _ in range(before):
            manager.emit_event("lone", {})
            await asyncio.sleep(0)
        line.read_now()
        for pause, most in ((0, 1 if before < 8 else 8), (0.01, 1)):
            await asyncio.sleep(pause)
            for n in range(32):
                manager.emit_event("x", {"n": n})
            at_once = events(line.read_now())
            assert 1 <= len(at_once) <= most
            await turns(3)
            rest = events(line.read_now())
            assert [event["payload"]["n"] for event in at_once + rest] == list(range(32))
        assert line.by_library == 0
        await line.shut()

    run(main)


def test_from_other_threads_it_is_written_on_the_owners_thread(run: Main) -> None:
    async def main() -> None:
        manager, line, _ = await connected()
        threads = [
            threading.Thread(target=lambda k=k: [
                manager.emit_event("x", {"k": k, "n": n}) for n in range(100)
            ])
            for k in range(4)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        data = b""
        for _ in range(5000):
            data += line.read_now()
            if data.count(b'"type"') == 400:
                break
            await asyncio.sleep(0.001)
        for thread in threads:
            thread.join()
        found = [event["payload"] for event in events(data)]
        for k in range(4):
            assert [p["n"] for p in found if p["k"] == k] == list(range(100))
        assert line.by_library == 0
        await line.shut()

    run(main)


# -- what it must not write into ------------------------------------------------


def test_nothing_is_written_into_buffered_bytes(run: Main) -> None:
    """H5: the transport holds the middle of the library's own frame; ours comes after it, whole."""

    async def main() -> None:
        manager, line, _ = await connected(buffer=4096)
        library = frame(b"A" * 400_000)
        line.transport.write(library)
        assert line.transport.get_write_buffer_size() > 0
        for n in range(20):
            manager.emit_event("x", {"n": n})
            await asyncio.sleep(0)
        got = await line.read(len(library), 20)
        assert got == library, "foreign bytes inside a frame"
        await eventually(lambda: line.transport.get_write_buffer_size() == 0)
        data = b""
        for _ in range(2000):
            data += line.read_now()
            if data.count(b'"type"') == 20:
                break
            await asyncio.sleep(0.001)
        assert [event["payload"]["n"] for event in events(data)] == list(range(20))
        await line.shut()

    run(main)


def test_a_short_write_is_continued_before_anything_else(run: Main) -> None:
    """H6: the kernel takes 8 KiB of 500; the library writes right after; the frame stays whole."""

    async def main() -> None:
        manager, line, _ = await connected(buffer=4096)
        manager.emit_event("x", {"pad": "x" * 500_000})
        line.transport.write(frame(b"library"))
        manager.emit_event("y", {"pad": "y" * 100})
        data = b""
        for _ in range(20_000):
            data += line.read_now()
            if b'"type":"y"' in data and data.rstrip(b"}") != data and b"library" in data:
                break
            await asyncio.sleep(0.0005)
        kinds = [payload[:7] if payload == b"library" else b"event" for _, payload in frames(data)]
        assert kinds[0] == b"event"
        assert sorted(kinds) == [b"event", b"event", b"library"]
        assert [event["type"] for event in events(data.replace(frame(b"library"), b""))] == [
            "x",
            "y",
        ]
        await line.shut()

    run(main)


def test_nothing_of_anybody_runs_inside_a_short_write(run: Main) -> None:
    """A send of the same fan-out writes to another socket of which the kernel took a part of our frame."""

    async def main() -> None:
        own = frame(b'{"type":"own"}')
        line = await Line.open(4096)

        class Mirror:
            async def send_text(self, text: str) -> None:
                line.transport.write(own)

        manager = get_websocket_manager("ann")
        manager.add_connection(Mirror())
        manager.add_connection(line, channel=Channel(line.transport))
        receipt = await manager.emit_event("x", {"pad": "x" * 500_000})
        assert receipt.sent == 2
        data = b""
        deadline = time.monotonic() + 10
        while not data.endswith(own) and time.monotonic() < deadline:
            data += line.read_now()
            await asyncio.sleep(0.0005)
        assert [event["type"] for event in events(data)] == ["x", "own"]
        await line.shut()

    run(main)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_rest_that_the_transport_refuses_ends_that_connection_only(run: Main) -> None:
    """The refusal is kept until the others' frames are whole, and judged then."""

    async def main() -> None:
        manager = get_websocket_manager("ann")
        lines = [await Line.open(4096) for _ in range(3)]

        class Refusing:
            def __init__(self, transport: Any) -> None:
                self.transport = transport

            def __getattr__(self, name: str) -> Any:
                return getattr(self.transport, name)

            def write(self, data: bytes) -> None:
                raise RuntimeError("no")

        for line in lines:
            transport = Refusing(line.transport) if line is lines[0] else line.transport
            manager.add_connection(line, channel=Channel(transport))
        delivery = manager.emit_event("x", {"pad": "x" * 500_000}, detail=True)
        assert (delivery.receipt.sent, delivery.receipt.failed) == (2, 1)
        assert len(manager) == 2
        assert lines[0].transport.is_closing(), "what was begun cannot go on"
        for line in lines[1:]:
            _, payload = await line.read_frame()
            assert json.loads(payload)["type"] == "x"
        for line in lines:
            await line.shut()

    run(main)


@pytest.mark.parametrize("plant", ["BUFFERED_DIRECT", "SHORT_WRITE"])
def test_control_a_torn_frame_is_caught(
    nursery: Any, run_isolated: Callable[..., Any], plant: str
) -> None:
    """The same two scenarios in a child: whole frames with our core, torn ones with the plant."""
    assert run_isolated("torn_frames.py", timeout=30).ok
    outcome = run_isolated("torn_frames.py", package=nursery.package(plant), timeout=30)
    assert outcome.status == 1, outcome.explain()


def test_tls_is_never_written_to_directly(tmp_path: Path, run: Main) -> None:
    """Plain bytes in a TLS stream would be a leak and the end of the connection."""

    async def main() -> None:
        made: list[asyncio.Transport] = []

        class Server(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.append(transport)  # type: ignore[arg-type]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0, ssl=server_context(tmp_path))
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(tmp_path))
        await eventually(lambda: made)
        with pytest.raises(ValueError, match="TLS"):
            Channel(made[0])
        writer.close()
        try:
            await writer.wait_closed()
        except (ssl.SSLError, ConnectionError):
            pass
        server.close()
        await server.wait_closed()

    run(main)


@pytest.mark.parametrize("wrong", [None, 5, object(), "transport"])
async def test_what_is_no_transport(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        Channel(wrong)


# -- when it stands back --------------------------------------------------------


def test_not_ready_means_the_librarys_own_send(run: Main) -> None:
    async def main() -> None:
        ready = False
        manager, line, _ = await connected(ready=lambda: ready)
        manager.emit_event("x", {"n": 1})
        await eventually(lambda: line.by_library == 1)
        ready = True
        await turns(3)
        manager.emit_event("x", {"n": 2})
        await turns(3)
        assert line.by_library == 1
        assert [e["payload"]["n"] for e in events(line.read_now())] == [1, 2]
        await line.shut()

    run(main)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ready_that_raises_is_not_ready(run: Main) -> None:
    async def main() -> None:
        def ready() -> bool:
            raise RuntimeError("bug in the probe")

        manager, line, _ = await connected(ready=ready)
        other_manager, other, _ = await connected("bob")
        manager.emit_event("x", {"n": 1})
        other_manager.emit_event("x", {"n": 2})
        await turns(3)
        assert [e["payload"]["n"] for e in events(other.read_now())] == [2]
        assert [e["payload"]["n"] for e in events(line.read_now())] in ([1], [])
        await line.shut()
        await other.shut()

    run(main)


def test_not_open_yet_and_closed(run: Main) -> None:
    async def main() -> None:
        manager, line, channel = await connected(open=False)
        assert channel.is_open is False
        channel.opened()
        assert channel.is_open is True
        assert channel.transport is line.transport
        manager.emit_event("x", {"n": 1})
        assert [e["payload"]["n"] for e in events(line.read_now())] == [1]
        channel.closed()
        assert channel.is_open is False
        manager.emit_event("x", {"n": 2})
        await turns(5)
        assert line.read_now() == b"", "written after the close frame"
        await line.shut()

    run(main)


def test_paused_waits_and_resumed_goes_on(run: Main) -> None:
    async def main() -> None:
        manager, line, channel = await connected()
        channel.pause()
        for n in range(5):
            manager.emit_event("x", {"n": n})
        await turns(5)
        channel.resume()
        await turns(5)
        data = line.read_now()
        assert [e["payload"]["n"] for e in events(data)] == list(range(5))
        await line.shut()

    run(main)


def test_a_closing_transport_is_not_written_to(run: Main) -> None:
    async def main() -> None:
        manager, line, _ = await connected()
        manager.emit_event("x", {"n": 1})
        line.transport.close()
        manager.emit_event("x", {"n": 2})
        data = await line.read_to_end(2)
        assert [e["payload"]["n"] for e in events(data)] == [1]
        await eventually(lambda: len(manager) == 0)
        await line.shut()

    run(main)


def test_the_peer_sees_the_end_at_once(run: Main) -> None:
    """H4: no descriptor of ours keeps the connection open after the transport has closed."""

    async def main() -> None:
        manager, line, _ = await connected()
        manager.emit_event("x", {})
        line.read_now()
        begin = time.perf_counter()
        line.transport.close()
        await line.read_to_end(2)
        assert time.perf_counter() - begin < 0.5
        await line.shut()

    run(main)


@pytest.mark.parametrize("how", ["close", "reset", "shutdown"])
def test_a_peer_that_is_gone(run: Main, how: str) -> None:
    """EPIPE and ECONNRESET: no signal, no exception, the connection leaves, the other stays."""

    async def main() -> None:
        manager, line, _ = await connected()
        _, other, _ = await connected()
        if how == "shutdown":
            line.peer.shutdown(socket.SHUT_RD)
        line.peer.close()
        for n in range(50):
            manager.emit_event("x", {"n": n, "pad": "x" * 1000})
            await asyncio.sleep(0)
        await eventually(lambda: len(manager) == 1)
        await eventually(lambda: b'"n":49' in peek(other))
        await line.shut()
        await other.shut()

    run(main)


def peek(line: Line) -> bytes:
    try:
        return line.peer.recv(1 << 20, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


# -- S1: a recycled descriptor --------------------------------------------------


def test_no_byte_of_one_user_in_a_recycled_descriptor(run: Main, fast_switches: None) -> None:
    """Threads emit to A without pause; A's socket closes, B's gets its number at once."""

    async def main() -> None:
        stop = threading.Event()

        def emitter() -> None:
            while not stop.is_set():
                get_websocket_manager("A").emit_event("x", {"secret": "SECRET-OF-A"})
                time.sleep(0)

        threads = [threading.Thread(target=emitter) for _ in range(3)]
        for thread in threads:
            thread.start()
        reused = foreign = 0
        try:
            for n in range(150):
                _, first, _ = await connected("A")
                number = first.transport.get_extra_info("socket").fileno()
                await asyncio.sleep(0)
                if n % 2:
                    first.transport.abort()
                else:
                    first.transport.close()
                await asyncio.wait_for(first.lost.wait(), 5)
                await asyncio.sleep(0)
                _, second, _ = await connected("B")
                reused += second.transport.get_extra_info("socket").fileno() == number
                for _ in range(3):
                    await asyncio.sleep(0)
                foreign += b"SECRET-OF-A" in second.read_now()
                get_websocket_manager("B").remove_connection_by_user()
                await second.shut()
                await first.shut()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert foreign == 0
        assert reused > 30, "no number was reused: this proves nothing"
        reset_manager_registry()

    run(main)


# -- slow peers on real sockets -------------------------------------------------


def test_a_peer_that_never_reads_is_bounded_and_cut(run: Main) -> None:
    """H11: among healthy tabs of the same user, which have every event meanwhile."""

    async def main() -> None:
        wsmanager.configure(outbox_max_bytes=200_000, outbox_max_events=10_000)
        manager, frozen, _ = await connected(buffer=4096)
        _, healthy, _ = await connected()
        received = b""
        for n in range(2000):
            manager.emit_event("x", {"n": n, "pad": "x" * 1000})
            received += healthy.read_now()
            assert frozen.transport.get_write_buffer_size() < 500_000
            if n % 20 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: len(manager) == 1)
        for _ in range(2000):
            received += healthy.read_now()
            if b'"n":1999' in received:
                break
            await asyncio.sleep(0.001)
        assert [e["payload"]["n"] for e in events(received)] == list(range(2000))
        await frozen.shut()
        await healthy.shut()

    run(main)


def test_a_peer_that_never_reads_is_found_by_age(run: Main) -> None:
    """Little is sent and much time passes: the age limit finds it without another emit."""

    async def main() -> None:
        wsmanager.configure(outbox_max_age=0.2, outbox_max_bytes=10 << 20)
        manager, frozen, _ = await connected(buffer=4096)
        _, healthy, _ = await connected()
        manager.emit_event("x", {"pad": "x" * 500_000})
        assert len(manager) == 2
        for _ in range(400):
            healthy.read_now()
            if len(manager) == 1:
                break
            await asyncio.sleep(0.01)
        assert len(manager) == 1
        await frozen.shut()
        await healthy.shut()

    run(main)


def test_a_slow_reader_gets_everything(run: Main) -> None:
    """It reads without pause, in small pieces: nothing is lost, and it does not wait for timers."""

    async def main() -> None:
        wsmanager.configure(outbox_max_bytes=50 << 20, outbox_max_events=10_000)
        manager, line, _ = await connected(buffer=4096)
        for n in range(1000):
            manager.emit_event("x", {"n": n, "pad": "x" * 2000})
        data = b""
        begin = time.monotonic()
        while b'"n":999,' not in data[-6000:] and time.monotonic() - begin < 10:
            data += line.read_now()
            await asyncio.sleep(0)
        took = time.monotonic() - begin
        await turns(5)
        data += line.read_now()
        await line.shut()
        assert [e["payload"]["n"] for e in events(data)] == list(range(1000))
        assert took < 8, f"{took:.1f} s for 2 MB to a peer that reads all the time"

    run(main)


async def test_health_says_direct() -> None:
    manager, line, _ = await connected()
    (connection_id,) = manager.get_user_connections()
    assert manager.get_connection(connection_id).channel == "direct"
    assert "direct" in repr(manager.get_connection_health())
    await line.shut()


async def test_one_channel_serves_one_connection() -> None:
    """A channel handed to two users' connections would be two writers of one socket."""
    _, line, channel = await connected()
    other = await Line.open()
    with pytest.raises((ValueError, wsmanager.WebSocketManagerError)):
        get_websocket_manager("bob").add_connection(other, channel=channel)
    await line.shut()
    await other.shut()
