"""All checks, in their order."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, NamedTuple

from . import channels, deflate, encoder, installs, interpreter, libraries, servers, stale, workers
from .finding import Finding

__all__ = ["CHECKS", "Case", "examine"]


class Case(NamedTuple):
    """What the checks look at.

    *environment* are environment variables, *folder* where configuration files
    are looked for, *connections* how many a process is to hold, *paths* the code
    whose shims are looked at.
    """

    environment: Mapping[str, str]
    folder: str
    connections: int
    paths: tuple[str, ...]


CHECKS: Final[dict[str, Callable[[Case], Iterator[Finding]]]] = {
    "installs": lambda case: installs.check(),
    "interpreter": lambda case: interpreter.check(),
    "servers": lambda case: servers.check(case.environment),
    "workers": lambda case: workers.check(case.environment, case.folder),
    "deflate": lambda case: deflate.check(case.environment, case.connections),
    "encoder": lambda case: encoder.check(),
    "libraries": lambda case: libraries.check(),
    "channels": lambda case: channels.check(),
    "shims": lambda case: stale.check(case.paths),
}
"""The checks by name."""


def examine(
    *,
    skip: Collection[str] = (),
    environment: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] = ".",
    connections: int = 1_000,
    paths: Collection[str | os.PathLike[str]] = (),
) -> list[Finding]:
    """Run the checks but those named in *skip*; what they found.

    Blocks for up to some ten seconds: ``channels`` starts servers on
    127.0.0.1. Not on a thread with a running event loop that matters, then;
    ``asyncio.to_thread(examine)`` is fine.

    :param environment: variables in place of this process's.
    :param folder: where ``gunicorn.conf.py`` is looked for.
    :param connections: of one process, for the estimate of memory.
    :param paths: folders and files to look for stale shims in; none, none is looked for.
    :raises ValueError: *skip* names no check.
    """
    unknown = set(skip) - CHECKS.keys()
    if unknown:
        raise ValueError(
            f"there is no check {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}"
        )
    case = Case(
        os.environ if environment is None else environment,
        os.fspath(folder),
        connections,
        tuple(os.fspath(path) for path in paths),
    )
    return [
        finding for name, check in CHECKS.items() if name not in skip for finding in check(case)
    ]
