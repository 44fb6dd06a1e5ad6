"""A registry of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .._wsmanager import reset_manager_registry
from ..config import configure, get_config

__all__ = ["isolated_registry"]


@contextlib.contextmanager
def isolated_registry(**settings: Any) -> Iterator[None]:
    """No user and no connection inside, and what was configured before again outside.

    The registry is one per process: it is emptied at both ends, so do not
    nest it, or use it where another thread goes on with its own managers.
    Processes (pytest-xdist) do not share it.

    :param settings: given to ``wsmanager.configure`` inside.
    """
    before = get_config()
    reset_manager_registry()
    try:
        configure(**settings)
        yield
    finally:
        configure(**before)
        reset_manager_registry()
