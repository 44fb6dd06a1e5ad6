"""A real application on a real server, for the tests of the outage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.servers import UvicornServer


@pytest.fixture
def chat_server() -> Iterator[UvicornServer]:
    """uvicorn with the chat application on a free port of 127.0.0.1."""
    with UvicornServer() as server:
        yield server
