"""The interpreter and its event loops."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Iterator

from .finding import Finding
from .versions import installed

__all__ = ["check"]


def check() -> Iterator[Finding]:
    """The version, the state of the GIL, and uvloop."""
    version = platform.python_version()
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    enabled = gil_enabled()
    build = "free-threaded" if free else "default"
    yield Finding(
        "python",
        "info",
        f"{platform.python_implementation()} {version}, {build} build, GIL {'on' if enabled else 'off'}",
        details={"version": version, "free_threaded": free, "gil": enabled},
    )
    if free and enabled:
        yield Finding(
            "gil-back",
            "warning",
            "this is a free-threaded Python, and something has turned the GIL on again",
            "run with -W default to see which extension it was, or with PYTHON_GIL=0 if that is safe",
        )
    uvloop = installed("uvloop")
    if uvloop is None:
        yield Finding(
            "uvloop",
            "info",
            "uvloop is not installed: uvicorn's --loop auto takes asyncio's own loop",
        )
    else:
        yield Finding(
            "uvloop",
            "info",
            f"uvloop {uvloop} is installed: uvicorn's --loop auto takes it",
            details={"version": uvloop},
        )


def gil_enabled() -> bool:
    """Whether this interpreter runs with its GIL now."""
    asked = getattr(sys, "_is_gil_enabled", None)
    return True if asked is None else bool(asked())
