"""Frames on the wire are byte for byte those of an independent encoder (RFC 6455)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from wsmanager._wsmanager import frame

EDGES = [0, 1, 124, 125, 126, 127, 128, 254, 255, 256, 65534, 65535, 65536, 65537, 1 << 20]
Encoder = Callable[..., bytes]


def theirs(payload: bytes, opcode: int = 1) -> bytes:
    """What the ``websockets`` library writes for an unmasked final frame."""
    return Frame(Opcode(opcode), payload).serialize(mask=False, extensions=[])


def check(encode: Encoder) -> None:
    for size in EDGES:
        payload = bytes(n % 251 for n in range(size))
        for opcode in (1, 2):
            assert encode(payload, opcode=opcode) == theirs(payload, opcode), (size, opcode)
    assert encode("é界𝒂") == theirs("é界𝒂".encode())
    assert encode(b"x") == theirs(b"x")


def test_edges_are_byte_equal() -> None:
    check(frame)


def wrong_at(limit: int) -> Encoder:
    """An encoder that takes the next longer form from *limit* on, one byte too early or late."""

    def encode(payload: bytes | str, *, opcode: int = 1) -> bytes:
        data = payload.encode() if isinstance(payload, str) else payload
        size = len(data)
        if size == limit:
            head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
            return head + data
        return theirs(data, opcode)

    return encode


@pytest.mark.parametrize("limit", [125, 126, 65535])
def test_control_an_encoder_with_a_wrong_limit_is_caught(limit: int) -> None:
    with pytest.raises(AssertionError):
        check(wrong_at(limit))


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=300), opcode=st.sampled_from([1, 2]))
def test_any_payload_is_byte_equal(payload: bytes, opcode: int) -> None:
    assert frame(payload, opcode=opcode) == theirs(payload, opcode)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_frames() -> None:
    import random

    dice = random.Random(1)
    for _ in range(1_000_000):
        payload = dice.randbytes(dice.choice([5, 125, 126, 300]))
        assert frame(payload) == theirs(payload)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((5,), {}), ((None,), {}), ((b"x", 1), {}), ((b"x",), {"opcode": "text"}),
     (("\ud800",), {}), ((b"x",), {"colour": 1})],
)  # fmt: skip
def test_wrong_calls(args: Any, kwargs: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        frame(*args, **kwargs)


@pytest.mark.parametrize("opcode", [-1, 16, 256])
def test_opcodes_that_do_not_exist(opcode: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        frame(b"x", opcode=opcode)
