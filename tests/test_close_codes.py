"""The table of close codes: legal, complete, and the same in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsmanager.close_codes import (
    CLOSE_CODES,
    MAX_REASON_BYTES,
    close_code,
    close_reason,
    may_send,
    retry_after,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "close-codes.rst"


def test_the_codes_of_the_rfc_and_its_registry_are_there() -> None:
    """RFC 6455, 7.4.1 and the IANA registry; 1004 is reserved without a meaning."""
    assert {code for code in CLOSE_CODES if code < 3000} == set(range(1000, 1016)) - {1004}
    assert {code for code in CLOSE_CODES if 3000 <= code < 4000} == {3000, 3003, 3008}
    private = [code for code in CLOSE_CODES if code >= 4000]
    assert all(4400 <= code <= 4599 for code in private)
    assert all(code == row.code and row.name for code, row in CLOSE_CODES.items())
    assert all(row.reconnect for row in CLOSE_CODES.values() if row.retry_after is not None)


def test_private_codes_are_read_as_the_http_status() -> None:
    from http import HTTPStatus

    for code in (code for code in CLOSE_CODES if code >= 4000):
        HTTPStatus(code - 4000)


@pytest.mark.parametrize(
    ("code", "comes_back"),
    [(1001, True), (1006, True), (1011, True), (1012, True), (1013, True), (1000, False),
     (1008, False), (4401, False), (4429, True), (4499, False), (4399, True), (4500, True),
     (2000, True), (4999, True)],
)  # fmt: skip
def test_who_comes_back(code: int, comes_back: bool) -> None:
    assert close_code(code).reconnect is comes_back


def test_what_may_be_sent() -> None:
    refused = {code for code in range(990, 5010) if not may_send(code)}
    assert {999, 1004, 1005, 1006, 1015, 1016, 2999, 5000} <= refused
    assert not {1000, 1001, 1012, 1014, 3000, 3999, 4000, 4999} & refused


@given(st.text(max_size=300), st.none() | st.floats(0, 999_999))
def test_a_reason_fits_and_says_when(text: str, seconds: float | None) -> None:
    reason = close_reason(text, seconds)
    assert len(reason.encode()) <= MAX_REASON_BYTES
    if seconds is not None:
        found = retry_after(reason)
        assert found is not None
        if retry_after(text) is None:
            assert abs(found - seconds) <= 0.0005 + seconds * 1e-9


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1_000_000])
def test_a_wrong_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="retry_after"):
        close_reason("x", seconds)


def test_the_page_has_the_same_rows() -> None:
    rows = re.findall(r"^(\d{4})  (.{20})  (yes|no) *(\S*)$", PAGE.read_text(), re.M)
    assert {
        int(code): (name.strip(), comes == "yes", float(seconds) if seconds else None)
        for code, name, comes, seconds in rows
    } == {row.code: (row.name, row.reconnect, row.retry_after) for row in CLOSE_CODES.values()}
