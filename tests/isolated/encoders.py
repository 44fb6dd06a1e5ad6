"""The same events and refusals with every JSON encoder; argv: modules to hide before the import."""

import asyncio
import datetime
import decimal
import enum
import json
import math
import sys
import uuid

for name in sys.argv[1:]:
    sys.modules[name] = None

import wsmanager  # noqa: E402


class Color(enum.Enum):
    RED = "red"


class Socket:
    def __init__(self):
        self.texts = []

    async def send_text(self, text):
        self.texts.append(text)


GOOD = {
    "plain": {"a": [1, 2.5, None, True, "é\u2028\x00"], "b": {}},
    "big": {"n": 2**80, "m": 2**63, "k": -(2**63)},
    "rich": {
        "enum": Color.RED,
        "uuid": uuid.UUID(int=1),
        "time": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        "decimal": str(decimal.Decimal("1.5")),
        "tuple": (1, 2),
        "set": {1},
    },
}
EXPECTED = {
    "plain": GOOD["plain"],
    "big": GOOD["big"],
    "rich": {
        "enum": "red",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "time": "2026-01-02T00:00:00+00:00",
        "decimal": "1.5",
        "tuple": [1, 2],
        "set": [1],
    },
}
BAD = [{"x": math.nan}, {"x": object()}, {"x": "\ud800"}, {"x": {1j: 1}}, {"x": [math.inf]}]


async def main():
    manager = wsmanager.get_websocket_manager("ann")
    socket = Socket()
    manager.add_connection(socket)
    for name, data in GOOD.items():
        await manager.emit_event(name, data)
    for text, (name, expected) in zip(socket.texts, EXPECTED.items(), strict=True):
        event = json.loads(text)
        got = event["payload"]
        if name == "rich" and got["time"].endswith("Z"):
            got["time"] = got["time"][:-1] + "+00:00"
        assert got == expected, (name, got)
        assert event["type"] == name
    for data in BAD:
        try:
            manager.emit_event("bad", data)
        except wsmanager.EncodeError as error:
            assert "payload.x" in str(error), error
        else:
            raise AssertionError(f"accepted: {data}")
    assert len(socket.texts) == len(GOOD)
    loaded = [n for n in ("msgspec", "orjson") if sys.modules.get(n)]
    print("encoders loaded:", loaded, "ok")


asyncio.run(main())
