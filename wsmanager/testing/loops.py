"""An event loop in a thread of its own, for tests that are plain functions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["LoopThread"]

_T = TypeVar("_T")


class LoopThread:
    """A running loop; use it as a context manager, from any thread.

    :param factory: makes the loop: ``asyncio.new_event_loop``, or uvloop's.
    :param timeout: seconds that :meth:`run` and :meth:`call` wait unless told otherwise.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        timeout: float = 10.0,
    ) -> None:
        self.loop = factory()
        self.timeout = timeout
        self._thread = threading.Thread(target=self._main, name="wsmanager-test-loop", daemon=True)

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout: float | None = None) -> _T:
        """Run a coroutine there and wait here for its result; TimeoutError after *timeout* seconds."""
        self._refuse_own_thread()
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        seconds = self.timeout if timeout is None else timeout
        try:
            return future.result(seconds)
        except BaseException as error:
            if isinstance(error, concurrent.futures.TimeoutError) and not future.done():
                future.cancel()
                # Before 3.11 it is not the builtin one.
                raise TimeoutError(f"the coroutine took longer than {seconds:g} s") from None
            future.cancel()
            raise

    def call(self, function: Callable[..., _T], *args: Any, **options: Any) -> _T:
        """Call a plain function on that loop's thread, inside its running loop."""

        async def call() -> _T:
            return function(*args, **options)

        return self.run(call())

    def close(self) -> None:
        """Cancel what is left on the loop, stop and close it; may be called twice."""
        if self.loop.is_closed():
            return
        self.run(_cancel_rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(self.timeout)
        if self._thread.is_alive():
            raise RuntimeError("the test's loop did not stop: something blocks it")
        self.loop.close()

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("this is the loop's own thread: to wait here would never end")


async def _cancel_rest() -> None:
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
