"""A tab that hangs: it logs in, and then reads nothing more. For a demonstration of slow clients."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

TIMEOUT = 10.0
WINDOW = 4096
"""Bytes the kernel may take for it (SO_RCVBUF): the less, the sooner the server notices."""


class FrozenTab:
    """An open connection whose owner does nothing; until :meth:`close`.

    :param url: the server's, such as ``http://127.0.0.1:8000``.
    :param token: what the log-in gave.
    """

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        self._socket = socket.socket()
        self._socket.settimeout(TIMEOUT)
        # Before the connection is made: it decides what the other side may send.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        try:
            self._socket.connect((address.hostname, address.port))
            self._open(url)
            self._say(token)
            self._say(json.dumps({"type": "resume", "position": ""}))
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()

    def _open(self, url: str) -> None:
        self._protocol = ClientProtocol(parse_uri(url.replace("http", "ws", 1) + "/ws"))
        self._protocol.send_request(self._protocol.connect())
        self._write()
        while self._protocol.state is State.CONNECTING:
            data = self._socket.recv(WINDOW)
            if not data:
                raise ConnectionError("the server ended the connection in the handshake")
            self._protocol.receive_data(data)
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc

    def _say(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        self._write()

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            self._socket.sendall(data)
