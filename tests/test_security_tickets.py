"""Tickets are good once, for their time, for their user, and say nothing to a guesser."""

from __future__ import annotations

import base64
import random
import secrets
import statistics
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsmanager import InvalidUserContext
from wsmanager.security import (
    CREDENTIAL_PREFIX,
    InvalidTicket,
    TicketOffice,
    TicketOfficeFull,
    _expiring,
    _seal,
    subprotocol_credential,
    tickets,
)

KEY = b"k" * 32
ANN = {"user_id": "ann", "thread_id": "t"}


@pytest.fixture(params=["random", "signed"])
def office(request: pytest.FixtureRequest) -> TicketOffice:
    return TicketOffice(signing_key=KEY if request.param == "signed" else None)


class Clock:
    """Both clocks of the modules that look at the time, moved by hand."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    def time(self) -> float:
        return 1_800_000_000.0 + self.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (tickets, _expiring, _seal):
        monkeypatch.setattr(module, "time", clock)
    return clock


def refused(office: TicketOffice, ticket: Any) -> bool:
    try:
        office.redeem(ticket)
    except InvalidTicket as error:
        assert str(error) == "the ticket is not good", "one text, whatever is wrong"
        return True
    return False


def test_once(office: TicketOffice) -> None:
    ticket = office.issue(ANN)
    assert office.redeem(ticket) == ANN
    assert refused(office, ticket)
    other = office.issue("bob")
    assert other != ticket and office.redeem(other) == "bob"


def test_any_context_comes_back_itself_where_nothing_is_signed() -> None:
    context = types.SimpleNamespace(user_id="ann", run_id="r")
    office = TicketOffice()
    assert office.redeem(office.issue(context)) is context


def test_once_among_threads(office: TicketOffice) -> None:
    """64 redeemers at once: one gets in, each time."""
    for _ in range(20):
        ticket = office.issue("ann")
        barrier = threading.Barrier(16)

        def redeem(ticket: str = ticket, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(10)
            return not refused(office, ticket)

        with ThreadPoolExecutor(16) as pool:
            got_in = sum(future.result() for future in [pool.submit(redeem) for _ in range(16)])
        assert got_in == 1


def test_control_two_offices_without_a_store_let_it_in_twice() -> None:
    """What the documentation warns of; and the store that ends it."""
    ticket = TicketOffice(signing_key=KEY).issue("ann")
    first, second = TicketOffice(signing_key=KEY), TicketOffice(signing_key=KEY)
    assert first.redeem(ticket) == second.redeem(ticket) == "ann"

    claimed: dict[str, float] = {}

    def claim(name: str, seconds: float) -> bool:
        assert 0 < seconds <= 30 and ticket2 not in name and "ann" not in name
        return claimed.setdefault(name, seconds) == seconds and len(claimed) == 1

    offices = [TicketOffice(signing_key=KEY, claim=claim) for _ in range(2)]
    ticket2 = offices[0].issue("ann")
    assert offices[1].redeem(ticket2) == "ann"
    assert refused(offices[0], ticket2)


def test_a_store_that_is_down_lets_nobody_in() -> None:
    def claim(name: str, seconds: float) -> bool:
        raise ConnectionError("store is down")

    office = TicketOffice(signing_key=KEY, claim=claim)
    ticket = office.issue("ann")
    with pytest.raises(ConnectionError, match="store is down"):
        office.redeem(ticket)
    assert refused(office, ticket)


def test_another_process_redeems_a_signed_one() -> None:
    ticket = TicketOffice(signing_key=KEY).issue(ANN)
    script = (
        "import sys; from wsmanager.security import TicketOffice;"
        "print(TicketOffice(signing_key=b'k' * 32).redeem(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, ticket],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == str(ANN)


def test_expiry(office: TicketOffice, clock: Clock) -> None:
    ticket, late = office.issue("ann", ttl=30), office.issue("ann", ttl=30)
    clock.passed = 29.9
    assert office.redeem(ticket) == "ann"
    clock.passed = 30.0
    assert refused(office, late)


def test_the_wall_clock_does_not_move_an_unsigned_ticket(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = TicketOffice()
    ticket = office.issue("ann", ttl=30)
    monkeypatch.setattr(Clock, "time", lambda self: 0.0)
    assert office.redeem(ticket) == "ann"


def test_bounds(clock: Clock) -> None:
    office = TicketOffice(max_tickets=10, max_tickets_per_user=3)
    own = [office.issue("ann") for _ in range(5)]
    assert len(office) == 3
    assert [refused(office, ticket) for ticket in own] == [True, True, False, False, False]
    for number in range(10):
        office.issue(f"user {number}", ttl=10)
    with pytest.raises(TicketOfficeFull, match="10 tickets are out"):
        office.issue("one more")
    clock.passed = 11
    office.issue("one more")
    assert len(office) == 1, "what has expired takes no room"


def test_memory_is_bounded_however_many_come_and_go() -> None:
    office = TicketOffice(max_tickets=1000)
    for number in range(20_000):
        office.redeem(office.issue(f"user {number}", ttl=3600))
    assert len(office) == 0
    assert len(office._out._heap) < 500 and not office._by_user


def test_used_tickets_are_never_forgotten_early(clock: Clock) -> None:
    office = TicketOffice(signing_key=KEY, max_tickets=3)
    issued = [office.issue("ann") for _ in range(4)]
    for ticket in issued[:3]:
        office.redeem(ticket)
    with pytest.raises(TicketOfficeFull, match="used tickets"):
        office.redeem(issued[3])
    assert all(refused(office, ticket) for ticket in issued[:3])
    clock.passed = 31
    assert office.redeem(office.issue("ann")) == "ann"


def test_revoke() -> None:
    office = TicketOffice()
    mine, theirs = office.issue("ann"), office.issue("bob")
    assert office.revoke("ann") == 1 and office.revoke("ann") == 0
    assert refused(office, mine) and not refused(office, theirs)


def test_keys_are_changed_without_refusing_anybody() -> None:
    old, new = b"o" * 32, b"n" * 32
    before, after = TicketOffice(signing_key=old), TicketOffice(signing_key=[new, old])
    assert after.redeem(before.issue("ann")) == "ann"
    assert refused(before, after.issue("ann"))
    assert refused(TicketOffice(signing_key=new), before.issue("ann"))


def test_a_ticket_fits_into_a_subprotocol(office: TicketOffice) -> None:
    ticket = office.issue({"user_id": "Ünïcode ☃"})
    headers = {"Sec-WebSocket-Protocol": f"chat, {CREDENTIAL_PREFIX}{ticket}"}
    assert office.redeem(subprotocol_credential(headers)) == {"user_id": "Ünïcode ☃"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ttl": 0}, ValueError), ({"ttl": -1}, ValueError), ({"ttl": 3601}, ValueError),
        ({"ttl": float("nan")}, ValueError), ({"ttl": float("inf")}, ValueError),
        ({"ttl": True}, TypeError), ({"ttl": "30"}, TypeError),
    ],
)  # fmt: skip
def test_wrong_ttl(office: TicketOffice, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        office.issue("ann", **arguments)
    assert len(office) == 0


@pytest.mark.parametrize(
    "context", [None, "", " ", 1.5, {}, {"user_id": None}, {"user_id": ""}, object()]
)
def test_nobody_has_no_ticket(office: TicketOffice, context: Any) -> None:
    with pytest.raises(InvalidUserContext):
        office.issue(context)


def test_what_cannot_be_signed_as_it_is_is_refused() -> None:
    office = TicketOffice(signing_key=KEY)
    for context in (
        {"user_id": "ann", "roles": ("a",)}, {"user_id": "ann", 1: 2}, {"user_id": "ann", "x": object()},
        {"user_id": "ann", "x": float("nan")}, types.SimpleNamespace(user_id="ann"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="JSON values"):
            office.issue(context)
    with pytest.raises(ValueError, match="put in it the ids only"):
        office.issue({"user_id": "ann", "x": "y" * 4000})


def test_wrong_settings() -> None:
    for wrong in ({"signing_key": b"short"}, {"claim": lambda name, seconds: True},
                  {"max_tickets": 0}, {"max_tickets_per_user": 0}, {"signing_key": [KEY, b"short"]}):  # fmt: skip
        with pytest.raises(ValueError):
            TicketOffice(**wrong)  # type: ignore[arg-type]
    for wrong in ({"signing_key": "k" * 32}, {"signing_key": []}, {"signing_key": [1]}):
        with pytest.raises(TypeError):
            TicketOffice(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ticket", [None, 5, b"bytes", "", "x", "=" * 50, "\x00", "é" * 43, "A" * 5000, "-" * 43, ["x"]]
)
def test_what_is_no_ticket(office: TicketOffice, ticket: Any) -> None:
    office.issue("ann")
    assert refused(office, ticket)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_change_of_a_signed_ticket_is_good(data: st.DataObject) -> None:
    """Any byte of it changed, cut or added; and each other way to write the same bytes."""
    office = TicketOffice(signing_key=KEY)
    ticket = office.issue(ANN)
    kind = data.draw(st.sampled_from(["char", "cut", "add", "byte", "pad", "free"]))
    at = data.draw(st.integers(0, 1 << 16)) % len(ticket)
    if kind == "char":
        changed = ticket[:at] + data.draw(st.characters(max_codepoint=255)) + ticket[at + 1 :]
    elif kind == "cut":
        changed = ticket[:at]
    elif kind == "add":
        changed = ticket[:at] + data.draw(st.text(min_size=1, max_size=3)) + ticket[at:]
    elif kind == "byte":
        raw = bytearray(base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4)))
        raw[at % len(raw)] ^= data.draw(st.integers(1, 255))
        changed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    elif kind == "pad":
        changed = ticket + data.draw(st.sampled_from(["=", "==", "\n", " ", "A"]))
    else:
        changed = data.draw(st.text(max_size=200))
    assert changed == ticket or refused(office, changed)
    assert office.redeem(ticket) == ANN, "a wrong guess does not spend the ticket"


# -- time tells nothing (a short form: medians of interleaved samples, against an A/A control)


def gap(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Differences of medians in seconds: second less first, and first less itself (A/A)."""
    samples: dict[str, list[float]] = {"a": [], "again": [], "b": []}
    calls = [("a", first), ("again", first), ("b", second)]
    timer = time.perf_counter
    for _ in range(rounds):
        random.shuffle(calls)
        for name, call in calls:
            begin = timer()
            call()
            samples[name].append(timer() - begin)
    a, again, b = (statistics.median(samples[name]) for name in ("a", "again", "b"))
    return b - a, again - a


def tells_apart(first: Callable[[], object], second: Callable[[], object]) -> bool:
    """Whether the two differ, one way round in nearly all blocks, and by more than one from itself."""
    blocks = [gap(first, second, 200) for _ in range(25)]
    between = [block[0] for block in blocks]
    within = statistics.median(abs(block[1]) for block in blocks)
    longer = sum(difference > 0 for difference in between)
    apart = abs(statistics.median(between)) > 4 * within + 150e-9  # ns: looking at the clock
    return apart and not 3 <= longer <= 22


def test_time_does_not_tell_a_near_miss_from_nonsense(office: TicketOffice) -> None:
    ticket = office.issue(ANN)
    near = ticket[:-1] + ("A" if ticket[-1] != "A" else "B")
    if office._seal is not None:  # the same text with a signature that is wrong in its last byte
        raw = bytearray(base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4)))
        raw[31] ^= 1
        near = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        raw[:32] = secrets.token_bytes(32)
        far = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    else:
        far = secrets.token_urlsafe(32)
    assert not tells_apart(lambda: refused(office, near), lambda: refused(office, far))


def test_time_does_not_tell_a_known_user_from_an_unknown(office: TicketOffice) -> None:
    """A forged ticket of a user with tickets and connections, and of one that does not exist."""
    office.issue("known", ttl=60)
    forger = TicketOffice(signing_key=b"f" * 32)
    known = unknown = ""
    while (
        len(known) != len(unknown) or not known
    ):  # the time in them is written in more or fewer digits
        known, unknown = (forger.issue({"user_id": name}) for name in ("known", "nobdy"))
    assert not tells_apart(lambda: refused(office, known), lambda: refused(office, unknown))


def test_control_a_comparison_that_ends_early_is_told() -> None:
    """What the two tests above have to catch: character by character, up to the first that differs."""
    ticket = secrets.token_urlsafe(32)

    def leaky(guess: str) -> bool:
        return all(mine == theirs for mine, theirs in zip(ticket, guess, strict=True))

    near, far = ticket[:-1] + "!", "!" + ticket[1:]
    assert tells_apart(lambda: leaky(near), lambda: leaky(far))
