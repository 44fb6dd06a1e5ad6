"""A contender in the arena: a server process and a client process on loopback.

The server is pinned to one processor, the client to another. The client
writes an order into the go pipe, the server emits, the client counts every
frame of every connection and checks its number; then comes the next order.
What is measured is the CPU time, user and system, of the server process.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from . import ROOT, build

_START_SECONDS = 60.0
_RUN_SECONDS = 60.0


class Unfit(RuntimeError):
    """The contender could not be started or did not deliver what it should."""


@dataclass(frozen=True)
class Entrant:
    """How to start a server: *command* gets the number of connections and two pipes."""

    name: str
    command: tuple[str, ...]
    path: str = "/ws"
    hello: str = "-"
    nap: int = 0  # microseconds; 0 is a client that waits in epoll


@dataclass(frozen=True)
class Lap:
    """What one run cost and gave."""

    events: int
    frames: int
    bytes: int
    cpu: float  # seconds of the server process
    wall: float  # seconds

    @property
    def per_delivery(self) -> float:
        """Microseconds of CPU per delivered message."""
        return self.cpu / self.frames * 1e6


def process_cpu(pid: int) -> float:
    """Return the CPU seconds of a process, user and system, all its threads."""
    # The clock id that clock_getcpuclockid(3) gives: the inverted pid above
    # three bits that say "the whole process, as the scheduler counts it".
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


def processors() -> tuple[set[int], set[int]]:
    """Return the processor of the servers and that of the clients."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


class Contest:
    """A running server with its connected client; a context manager."""

    def __init__(self, entrant: Entrant, connections: int) -> None:
        self.entrant = entrant
        self.connections = connections
        self._server: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None
        self._unread: dict[int, bytes] = {}  # what came after a line, by the stream's fd

    def __enter__(self) -> Contest:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        server_cpu, client_cpu = processors()
        ready_read, ready_write = os.pipe()
        go_read, go_write = os.pipe()
        try:
            arguments = [str(self.connections), str(ready_write), str(go_read)]
            self._server = _spawn(
                [*self.entrant.command, *arguments], (ready_write, go_read), server_cpu
            )
            os.close(ready_write)
            ready_write = -1
            with open(ready_read, "rb", buffering=0, closefd=False) as ready:
                port = self._answer(ready, _START_SECONDS).strip()
            if not port:
                raise Unfit(self._why("did not start"))
            client = [str(build.program("client")), port, str(self.connections), self.entrant.path]
            client += [str(go_write), self.entrant.hello, str(self.entrant.nap)]
            self._client = _spawn(client, (go_write,), client_cpu)
            answer = self._ask(None, _START_SECONDS)
            if not answer.startswith("connected"):
                raise Unfit(self._why(f"client says {answer!r}"))
        finally:
            for fd in (ready_read, ready_write, go_read, go_write):
                if fd >= 0:
                    os.close(fd)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._server is not None
        return self._server.pid

    def run(self, events: int, burst: int, size: int) -> Lap:
        """Have *events* orders of *burst* events of *size* bytes carried out.

        Raises :class:`Unfit` if a frame is missing, doubled or out of order.
        """
        before = process_cpu(self.pid)
        answer = self._ask(f"run {events} {burst} {size}\n", _RUN_SECONDS)
        cpu = process_cpu(self.pid) - before
        word, *numbers = answer.split() or ["nothing"]
        if word != "done":
            raise Unfit(self._why(f"the client says {answer!r}"))
        _, frames, size_sum, errors, _, wall = map(int, numbers)
        wanted = events * burst * self.connections
        if errors or frames != wanted:
            raise Unfit(f"{self.entrant.name}: {frames} of {wanted} frames, {errors} out of order")
        return Lap(events, frames, size_sum, cpu, wall / 1e9)

    def server_line(self) -> str:
        """Return the next line of the server's standard output."""
        assert self._server is not None and self._server.stdout is not None
        return self._answer(self._server.stdout, _RUN_SECONDS).strip()

    @property
    def resident(self) -> int:
        """The server's resident memory in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def close(self) -> None:
        """End both processes."""
        for process in (self._client, self._server):
            if process is None:
                continue
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        self._client = self._server = None

    def _ask(self, line: str | None, seconds: float) -> str:
        assert (
            self._client is not None
            and self._client.stdin is not None
            and self._client.stdout is not None
        )
        if line is not None:
            self._client.stdin.write(line.encode())
            self._client.stdin.flush()
        return self._answer(self._client.stdout, seconds).strip()

    def _answer(self, stream: IO[bytes], seconds: float) -> str:
        fd = stream.fileno()
        text = self._unread.pop(fd, b"")
        end = time.monotonic() + seconds
        while b"\n" not in text:
            left = end - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise Unfit(self._why(f"no answer within {seconds:.0f} s"))
            piece = os.read(fd, 4096)
            if not piece:
                break
            text += piece
        line, _, rest = text.partition(b"\n")
        if rest:
            self._unread[fd] = rest
        return line.decode()

    def _why(self, what: str) -> str:
        """Return *what* with the last lines both processes left on standard error."""
        for process in (self._client, self._server):
            if process is not None:
                process.kill()
        lines = []
        for process in (self._server, self._client):
            if process is not None and process.stderr is not None:
                lines += process.stderr.read().decode(errors="replace").strip().splitlines()[-3:]
        return f"{self.entrant.name}: {what}" + (": " + " | ".join(lines) if lines else "")


def _spawn(command: list[str], fds: tuple[int, ...], cpus: set[int]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=fds,
        cwd=ROOT,
    )
    os.sched_setaffinity(process.pid, cpus)
    return process
