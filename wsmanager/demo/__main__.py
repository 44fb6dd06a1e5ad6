"""Run two users' agents over a real server, show what their tabs got, and check it.

With --serve a server stays up afterwards, for a browser.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from wsmanager import __version__

if TYPE_CHECKING:
    from .tabs import Tab

PROOF_PACE = 0.02
SERVE_PACE = 0.7
"""Seconds between two events of the agent: for a check, and for an eye."""


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 if every event came to all tabs of its user, in order, and to no one else."""
    options = _options(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        from . import app, proof, server
    except ImportError as error:
        print(
            "the demo needs FastAPI, uvicorn 0.44 or later and websockets 13 or later "
            f"({error}): pip install 'wsmanager[demo]'",
            file=sys.stderr,
        )
        return 2
    with server.Server(app.create_app(PROOF_PACE)) as running:
        print(f"{_versions()}, {running.loop} event loop, at {running.url}")
        tabs, runs = asyncio.run(proof.run(running.url))
    print("\n".join(("", *proof.table(tabs), "")))
    faults = list(proof.faults(tabs, runs))
    _print_verdict(tabs, proof.foreign(tabs), faults)
    if options.serve and not faults:
        demo = app.create_app(SERVE_PACE)
        with server.Server(demo, options.port) as running:
            try:
                print(f"\nOpen {running.url} in a browser. Ctrl-C ends it.", flush=True)
                running.wait()
            except KeyboardInterrupt:
                print()
            finally:
                demo.state.sessions.end()
    return 1 if faults else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m wsmanager.demo", description=__doc__)
    parser.add_argument(
        "--serve",
        action="store_true",
        default=os.environ.get("SERVE", "") not in ("", "0"),
        help="keep a server up afterwards and print its URL; also: SERVE=1 in the environment",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="where to keep it up (default: a free port)"
    )
    return parser.parse_args(arguments)


def _versions() -> str:
    libraries = [f"{name} {version(name)}" for name in ("uvicorn", "fastapi", "websockets")]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return ", ".join([f"wsmanager {__version__}", python, *libraries])


def _print_verdict(tabs: list[Tab], foreign: int, faults: list[str]) -> None:
    times = sorted(event.ms for tab in tabs for event in tab.events)
    users = len({tab.user_id for tab in tabs})
    channels = " and ".join(sorted({tab.channel for tab in tabs}))
    print(
        f"{users} users, {len(tabs)} tabs ({channels} channel), {len(times)} events received, "
        f"{foreign} of them another user's"
    )
    if times:
        print(
            f"from emit to client: median {times[len(times) // 2]:.3f} ms, slowest {times[-1]:.3f} ms"
        )
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    if not faults:
        print("OK: every tab got the five events of its own user's run, in order")


if __name__ == "__main__":
    sys.exit(main())
