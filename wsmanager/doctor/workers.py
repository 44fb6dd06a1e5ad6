"""Several processes, each of which knows its own connections only."""

from __future__ import annotations

import argparse
import ast
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .finding import Finding

__all__ = ["check"]


class Workers(NamedTuple):
    """A number of processes, and where it is said."""

    number: int
    where: str


def check(environment: Mapping[str, str], folder: str) -> Iterator[Finding]:
    """More than one worker, and metrics that are each worker's own."""
    found = next((workers for workers in said(environment, folder) if workers.number > 1), None)
    if found is None:
        return
    yield Finding(
        "workers-several",
        "warning",
        f"{found.where} asks for {found.number} processes, each of which knows the connections that "
        "it accepted: an event that one process emits does not reach the connections of another",
        "run one process; or let the load balancer send a user's sockets, and the requests that "
        "start the user's agents, to one of them, and give --ignore workers-several",
        {"workers": found.number, "where": found.where},
    )
    if "PROMETHEUS_MULTIPROC_DIR" not in environment:
        yield Finding(
            "workers-metrics",
            "info",
            f"with {found.number} processes, a scrape sees the metrics of whichever answers",
            "set PROMETHEUS_MULTIPROC_DIR to a folder that is emptied at each start",
        )


def said(environment: Mapping[str, str], folder: str) -> Iterator[Workers]:
    """The numbers of workers that servers would take from their surroundings."""
    for name in ("WEB_CONCURRENCY", "UVICORN_WORKERS", "GRANIAN_WORKERS"):
        number = _number(environment.get(name, ""))
        if number is not None:
            yield Workers(number, name)
    number = _of_arguments(environment.get("GUNICORN_CMD_ARGS", ""))
    if number is not None:
        yield Workers(number, "GUNICORN_CMD_ARGS")
    path = os.path.join(folder, "gunicorn.conf.py")
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(1 << 20))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # none, or one that gunicorn itself will speak of
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "workers" for target in node.targets
        ):
            if isinstance(node.value, ast.Constant) and type(node.value.value) is int:
                yield Workers(node.value.value, path)
            else:  # computed, as from the number of processors
                yield Workers(os.cpu_count() or 1, path)


def _of_arguments(text: str) -> int | None:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-w", "--workers", default="")
    try:
        known, _ = parser.parse_known_args(shlex.split(text))
    except (argparse.ArgumentError, ValueError, SystemExit):
        return None
    return _number(known.workers)


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None
