"""A loop's timer: it looks at what is watched, once each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("case", ["strangers", "fellows"])
def test_a_look_that_emits(isolated: Callable[..., Any], case: str) -> None:
    """What is watched meanwhile waits for the next tick, and what was looked at is watched once."""
    isolated("watched.py", case, timeout=60)
