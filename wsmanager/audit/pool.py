"""The index pass over many files, on all processors where that pays."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from .facts import Facts, extract
from .names import Names, Patterns

#: Below so many bytes, starting processes takes longer than the work.
_WORTH_IT: Final = 3_000_000
_BATCH_BYTES: Final = 1_500_000

#: The patterns of this worker process, once it has started.
_patterns: list[Patterns] = []
_ballast: list[bytes] = []

Progress = Callable[[int, int], None]


def index(
    paths: list[str],
    names: Names,
    jobs: int | None,
    progress: Progress | None,
    method: str | None = None,
) -> Iterator[Facts]:
    """The facts of every file, in any order.

    *jobs* is a number of processes, None for one a processor. *method* is a start method of
    :mod:`multiprocessing`; None takes fork where it is safe and spawn elsewhere.
    """
    sizes = [_size(path) for path in paths]
    jobs = (
        jobs or len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else jobs or os.cpu_count() or 1
    )
    if jobs == 1 or sum(sizes) < _WORTH_IT:
        yield from _alone(paths, names, progress)
        return
    done = 0
    for batch in _pooled(_batches(paths, sizes), names, jobs, method):
        done += len(batch)
        if progress:
            progress(done, len(paths))
        yield from batch


def _alone(paths: list[str], names: Names, progress: Progress | None) -> Iterator[Facts]:
    patterns = Patterns(names)
    for number, path in enumerate(paths, 1):
        yield extract(path, patterns)
        if progress:
            progress(number, len(paths))


def _pooled(
    batches: list[list[str]], names: Names, jobs: int, method: str | None
) -> Iterator[list[Facts]]:
    context = multiprocessing.get_context(method or _start_method())
    left = list(reversed(batches))
    # What was under way when a worker died. One of them did it: they go one at
    # a time, and are halved until the file is alone.
    suspects: list[list[str]] = []
    while left or suspects:
        careful = bool(suspects)
        queue, most = (suspects, 1) if careful else (left, jobs * 3)
        running: dict[Future[list[Facts]], list[str]] = {}
        with ProcessPoolExecutor(1 if careful else jobs, context, _start, (names,)) as pool:
            try:
                while queue or running:
                    while queue and len(running) < most:
                        # Submitting may fail as well: only then is the batch out of the queue.
                        future = pool.submit(_work, queue[-1])
                        running[future] = queue.pop()
                    ready, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ready:
                        result = future.result()
                        del running[future]
                        yield result
            except BrokenProcessPool:
                for batch in running.values():
                    if len(batch) > 1:
                        middle = len(batch) // 2
                        suspects += [batch[:middle], batch[middle:]]
                    elif careful:
                        yield [Facts(batch[0], "crashes the Python parser", None, (), b"", (), ())]
                    else:
                        suspects.append(batch)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _start(names: Names) -> None:
    _patterns[:] = [Patterns(names)]
    # One small object in each of some 40 MiB of the allocator's arenas keeps
    # them mapped: otherwise every tree would be given back to the system and
    # faulted in again for the next file.
    objects = [bytes(400) for _ in range(100_000)]
    _ballast[:] = objects[::2_000]
    # The C library, too, gives freed memory back to the system, until a large
    # block was freed once: then it keeps up to twice as much.
    bytearray(24 << 20)
    # Syntax trees have no cycles: collecting them is time spent for nothing.
    gc.disable()


def _work(batch: list[str]) -> list[Facts]:
    return [extract(path, _patterns[0]) for path in batch]


def _start_method() -> str:
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    # A fork of a process with threads may copy a lock that nobody will release.
    return "fork" if forks and threading.active_count() == 1 else "spawn"


def _batches(paths: list[str], sizes: list[int]) -> list[list[str]]:
    batches: list[list[str]] = [[]]
    weight = 0
    for path, size in zip(paths, sizes, strict=True):
        if weight > _BATCH_BYTES or len(batches[-1]) >= 200:
            batches.append([])
            weight = 0
        batches[-1].append(path)
        weight += size
    return batches


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0  # reading it will say why
