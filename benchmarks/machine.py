"""What the figures were taken on: machine, interpreter, versions."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path

from .peers.catalogue import version_of

_DISTRIBUTIONS = (
    "uvicorn",
    "starlette",
    "fastapi",
    "websockets",
    "aiohttp",
    "picows",
    "python-socketio",
    "channels",
    "msgspec",
    "orjson",
)


def processor() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _our_version() -> str:
    """Return the version of the package that was measured, installed or built in place."""
    try:
        import wsmanager
    except ImportError:
        return "-"
    return wsmanager.__version__


def describe() -> list[str]:
    """Return the lines that belong above a table and under a plot."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else " free-threaded"
    versions = [f"wsmanager {_our_version()}"]
    versions += [f"{name} {version_of(name)}" for name in _DISTRIBUTIONS]
    return [
        f"{today}, {processor()}, {os.cpu_count()} processors, load {load}",
        f"{platform.system()} {platform.release()}, {platform.python_implementation()} {platform.python_version()}{gil}",
        ", ".join(versions),
    ]
