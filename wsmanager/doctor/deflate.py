"""What compression costs in memory, for each connection."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .finding import Finding
from .versions import installed

__all__ = ["check"]

#: More than this share of the memory there is for compression alone is a warning.
SHARE: Final = 0.25
_FALSE: Final = frozenset({"0", "false", "no", "off", "f", "n"})


class Settings(NamedTuple):
    """permessage-deflate as a server library sets it up: the logarithm of its window, zlib's memLevel."""

    library: str
    window: int
    memory: int

    @property
    def bytes(self) -> int:
        """Of zlib's two states of one connection.

        zconf.h: ``(1 << (windowBits+2)) + (1 << (memLevel+9))`` to compress,
        ``1 << windowBits`` and about 7 KiB to decompress, with some small objects.
        """
        compress = (1 << (self.window + 2)) + (1 << (self.memory + 9))
        return compress + (1 << self.window) + (10 << 10)


#: The defaults: RFC 7692's 15 bits where a library leaves them.
DEFAULTS: Final = (
    Settings("uvicorn", 12, 5),
    Settings("websockets", 12, 5),
    Settings("aiohttp", 15, 8),
)


def check(environment: Mapping[str, str], connections: int) -> Iterator[Finding]:
    """An estimate for each server library that is installed, with the settings it starts with."""
    for settings in DEFAULTS:
        if installed(settings.library) is None:
            continue
        if settings.library == "uvicorn" and (
            environment.get("UVICORN_WS_PER_MESSAGE_DEFLATE", "").strip().lower() in _FALSE
        ):
            yield Finding(
                "deflate-uvicorn", "info", "UVICORN_WS_PER_MESSAGE_DEFLATE turns compression off"
            )
            continue
        yield estimate(settings, connections, memory())


def estimate(settings: Settings, connections: int, limit: int | None) -> Finding:
    """What *connections* cost with *settings*, where *limit* bytes of memory are to be had."""
    total = settings.bytes * connections
    much = limit is not None and total > limit * SHARE
    share = f", of {_mib(limit)} that this process may use" if limit is not None else ""
    return Finding(
        f"deflate-{settings.library}",
        "warning" if much else "info",
        f"permessage-deflate as {settings.library} starts with it costs {settings.bytes >> 10} KiB a "
        f"connection whose client asks for it: {_mib(total)} for {connections:,}{share}",
        _OFF[settings.library] if much else "",
        {"bytes_per_connection": settings.bytes, "connections": connections, "limit": limit},
    )


_OFF: Final = {
    "uvicorn": "uvicorn --ws-per-message-deflate false, where the payloads are small",
    "websockets": "serve(..., compression=None), where the payloads are small",
    "aiohttp": "WebSocketResponse(compress=False), where the payloads are small",
}


def memory() -> int | None:
    """Bytes that this process may use: its control group's limit, else the machine's memory."""
    limits = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        pass  # not a POSIX system
    return min(limits, default=None)


def _mib(count: int | None) -> str:
    return f"{(count or 0) / (1 << 20):,.0f} MiB"
