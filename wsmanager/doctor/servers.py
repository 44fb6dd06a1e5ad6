"""uvicorn's WebSocket protocols: which is in use, and what is wrong with it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .finding import Finding
from .versions import installed, numbers

__all__ = ["check"]

#: uvicorn's default protocol had no flow control: from the release that made it the default
#: to the one before the fix (github.com/encode/uvicorn, pull requests 3048 and 3056).
NO_FLOW_CONTROL: Final = ((0, 50, 0), (0, 52, 1))
#: The first that ``wsmanager.uvicorn`` can build on.
OLDEST: Final = (0, 44, 0)
#: The first whose ``--ws auto`` is the sans-I/O protocol.
SANSIO_DEFAULT: Final = (0, 50, 0)
_PROTOCOL: Final = "uvicorn.protocols.websockets.websockets_sansio_impl"
_OURS: Final = "wsmanager.uvicorn:WebSocketProtocol"


def check(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Known traps of the uvicorn that is installed."""
    version = installed("uvicorn")
    if version is None:
        yield Finding("uvicorn", "info", "uvicorn is not installed")
        return
    chosen = environment.get("UVICORN_WS", "auto")
    said = f"UVICORN_WS is {chosen}" if "UVICORN_WS" in environment else "UVICORN_WS is not set"
    yield Finding(
        "uvicorn",
        "info",
        f"uvicorn {version}; {said}",
        details={"version": version, "ws": chosen},
    )
    yield from flow_control(version, chosen, has_flow_control())
    if numbers(version) < OLDEST:
        yield Finding(
            "uvicorn-old",
            "warning" if chosen == _OURS else "info",
            f"uvicorn {version} is too old for the direct channel: wsmanager.uvicorn needs "
            f"{'.'.join(map(str, OLDEST))}",
            "pip install 'uvicorn>=0.44'; until then all works by uvicorn's own send",
        )
    if installed("websockets") is None and installed("wsproto") is None:
        yield Finding(
            "uvicorn-without-websockets",
            "error",
            "uvicorn is installed without a WebSocket library: every WebSocket is refused",
            "pip install websockets",
        )


def flow_control(version: str, chosen: str, present: bool | None) -> Iterator[Finding]:
    """Whether the protocol in use waits for slow clients; *present* is what its class itself says, if it does."""
    first, fixed = NO_FLOW_CONTROL
    affected = first <= numbers(version) < fixed
    used = chosen in ("auto", "websockets-sansio", _OURS) and (
        numbers(version) >= SANSIO_DEFAULT or chosen != "auto"
    )
    if used and (present is False or (affected and present is None)):
        yield Finding(
            "uvicorn-flow-control",
            "warning",
            f"uvicorn {version}'s default WebSocket protocol has no flow control: what an app sends "
            "to a client that does not read stays in memory without a limit",
            "pip install 'uvicorn>=0.52.1'; until then choose --ws websockets, which has flow "
            "control. The limits of wsmanager's outboxes cannot see what waits in the transport",
            {"version": version, "ws": chosen},
        )


def has_flow_control() -> bool | None:
    """Whether uvicorn's sans-I/O protocol can pause; ``None`` if it cannot be asked."""
    try:
        module: Any = importlib.import_module(_PROTOCOL)
        bases: tuple[type, ...] = module.WebSocketsSansIOProtocol.__mro__
    except (ImportError, AttributeError):
        return None
    # asyncio's own base class has the method too; it does nothing there.
    return any(
        "pause_writing" in vars(base) for base in bases if not base.__module__.startswith("asyncio")
    )
