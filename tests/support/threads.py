"""Functions that run at once, in threads of their own."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable


def at_once(functions: list[Callable[[], None]], stop: threading.Event | None = None) -> None:
    """Run all at once in threads of their own; an exception in one is the caller's.

    *stop* is set when the last of them has ended, well or not.
    """
    barrier = threading.Barrier(len(functions))
    stop = threading.Event() if stop is None else stop

    def run(function: Callable[[], None]) -> None:
        barrier.wait()
        try:
            function()
        finally:
            if function is functions[-1]:
                stop.set()

    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        try:
            for future in [pool.submit(run, function) for function in reversed(functions)]:
                future.result(300)
        finally:
            stop.set()
