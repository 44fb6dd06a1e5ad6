"""Somebody on the far side of a socket who may send what no well-behaved client would."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """An HTTP answer; header names in lower case, of several alike the last."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    path: str,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    host: str = "127.0.0.1",
    timeout: float = 10.0,
) -> Answer:
    """One request; *headers* go out as they are, twice if given twice; Host only if not given."""
    given = list(headers)
    client = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        named = any(name.lower() == "host" for name, _ in given)
        client.putrequest(method, path, skip_host=named, skip_accept_encoding=True)
        for name, value in given:
            client.putheader(name, value)
        client.endheaders()
        answer = client.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, fields, answer.read())
    finally:
        client.close()


def own_address() -> str | None:
    """An address of this host that is no loopback, or ``None`` where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses a route
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith(("127.", "0.")) else address
