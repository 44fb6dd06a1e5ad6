"""D2, D3, I6: coming back in the middle of a storm, retrying, and positions that are not one's own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.children import Outcome
from support.loops import LoopThread
from support.plants import Nursery
from support.sanitizers import SANITIZED
from support.sockets import StarletteSocket, SyncSocket
from support.waiting import eventually, eventually_sync

import wsmanager
from wsmanager import get_websocket_manager


def wide_open() -> None:
    """No limit is in the way: what is lost is lost by mistake."""
    wsmanager.configure(
        journal_max_events=1_000_000,
        journal_max_bytes=1 << 28,
        journal_budget=1 << 30,
        journal_max_age=3600,
        outbox_max_events=1_000_000,
        outbox_max_bytes=1 << 30,
        outbox_max_age=3600,
    )


def seq_of(text: str) -> int:
    """The number in the id of an event, which is its first member; -1: it has none."""
    if not text.startswith('{"id":"'):
        return -1
    return int(text[24 : text.index('"', 24)])


# -- D2: the seam ----------------------------------------------------------------------


class Returning:
    """A client that comes, leaves in the middle and comes back, all on one loop's thread."""

    def __init__(self, user: str, dice: random.Random) -> None:
        self.user = user
        self.dice = dice
        self.manager = get_websocket_manager(user)
        self.position = self.manager.position
        self.next = int(self.position.split(":")[1]) + 1
        self.resumes = 0
        self.wrong: list[str] = []

    async def run(self, times: int) -> None:
        for _ in range(times):
            socket = StarletteSocket() if self.dice.random() < 0.5 else SyncSocket()
            resume = self.position
            connection_id = self.manager.add_connection(socket, resume=resume)
            for _ in range(self.dice.randrange(4)):
                await asyncio.sleep(0)
            if self.dice.random() < 0.2:
                await asyncio.sleep(0.001)
            self.manager.remove_connection(connection_id)
            self.resumes += 1
            self.check(socket.texts)
            for _ in range(self.dice.randrange(3)):
                await asyncio.sleep(0)

    def check(self, texts: list[str]) -> None:
        if not texts:
            return
        said = json.loads(texts[0])
        if said["type"] != "resumed" or said["payload"]["recovered"] is not True:
            self.wrong.append(f"not recovered: {texts[0]}")
            return
        for text in texts[1:]:
            if seq_of(text) != self.next:
                self.wrong.append(f"got {seq_of(text)} where {self.next} is next")
            self.next = seq_of(text) + 1
            self.position = f"{self.position.split(':')[0]}:{self.next - 1}"

    async def finish(self) -> None:
        """Come back once more, for all that is left."""
        if self.wrong:
            return
        socket = SyncSocket()
        emitted = int(self.manager.position.split(":")[1])
        count = emitted - self.next + 2  # with the answer
        self.manager.add_connection(socket, resume=self.position)
        await eventually(lambda: len(socket.texts) >= count, 20)
        self.check(socket.texts)


EVENTS_A_RESUME = 200  # of all users, at most


def resume_storm(resumes: int, emitters: int = 8, loops: int = 2, users: int = 4) -> list[str]:
    """*resumes* returns of clients of a few users, as threads emit to all; what went wrong."""
    wide_open()
    names = [f"user-{n}" for n in range(users)]
    stop = threading.Event()
    clients: list[Returning] = []
    coming: list[Returning] = []  # all of them, from their start
    threads = [LoopThread() for _ in range(loops)]

    def emit(number: int) -> int:
        count = 0
        dice = random.Random(number)
        while not stop.is_set():
            # What is emitted meanwhile is what the next resume replays: faster
            # than clients come back, and each would take longer than the last.
            if count * emitters > EVENTS_A_RESUME * sum(client.resumes + 1 for client in coming):
                time.sleep(0.0005)
                continue
            get_websocket_manager(dice.choice(names)).emit_event("x", {"n": count})
            count += 1
            if count % 8 == 0:
                time.sleep(0.0005)
        return count

    async def one_loop(number: int) -> list[Returning]:
        found = [Returning(user, random.Random(f"{user} {number}")) for user in names]
        coming.extend(found)
        each = -(-resumes // (loops * users))
        await asyncio.gather(*(client.run(each) for client in found))
        return found

    with concurrent.futures.ThreadPoolExecutor(emitters) as pool:
        try:
            for thread in threads:
                thread.__enter__()
            emitting = [pool.submit(emit, number) for number in range(emitters)]
            running = [
                asyncio.run_coroutine_threadsafe(one_loop(number), thread.loop)
                for number, thread in enumerate(threads)
            ]
            for future in running:
                clients += future.result()
            stop.set()
            assert sum(future.result() for future in emitting) > 0
            for thread, future in zip(threads, running, strict=True):
                thread.run(finish(future.result()), 60)
        finally:
            stop.set()
            for thread in threads:
                thread.close()
    wrong = [f"{client.user}: {what}" for client in clients for what in client.wrong]
    assert sum(client.resumes for client in clients) >= resumes
    for client in clients:
        if not client.wrong and client.next - 1 != int(client.manager.position.split(":")[1]):
            wrong.append(f"{client.user}: the end is missing")
    return wrong


async def finish(clients: list[Returning]) -> None:
    for client in clients:
        await client.finish()


@pytest.mark.skipif(
    SANITIZED,
    reason="under a sanitizer clients cannot keep up with the storm; test_resume.py has a smaller one",
)
@pytest.mark.timeout(180)
def test_a_thousand_resumes_in_a_storm(fast_switches: None) -> None:
    assert resume_storm(1000) == []


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_resumes_in_a_storm() -> None:
    for _ in range(20):  # the journals are kept whole, so a round at a time
        wsmanager.reset_manager_registry()
        assert resume_storm(5000) == []


PATHS = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("plant", ["SEAM", "LIFO"])
def test_control_a_planted_seam_is_found(
    plant: str, nursery: Nursery, run_isolated: Callable[..., Outcome]
) -> None:
    outcome = run_isolated(
        "import test_seams as t; assert t.resume_storm(1000) == [], 'found'",
        package=nursery.package(plant),
        env={"PYTHONPATH": PATHS},
        timeout=150,
    )
    assert not outcome.ok
    assert "AssertionError" in outcome.err, outcome.explain()


# -- D3: retried emits -------------------------------------------------------------------


def retry_storm(keys: int, threads: int = 16) -> None:
    """Every key by all threads at once: one event, and one receipt for all."""
    wide_open()
    manager = get_websocket_manager("ann")
    socket = SyncSocket()
    gate = threading.Barrier(threads)

    def work(number: int) -> list[Any]:
        got = []
        for n in range(keys):
            gate.wait(60)
            got.append(manager.emit_event("x", {"n": n, "by": number}, idempotency_key=f"key-{n}"))
        return got

    with LoopThread() as thread:
        thread.call(manager.add_connection, socket)
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            results = [future.result() for future in [pool.submit(work, n) for n in range(threads)]]
        eventually_sync(lambda: len(socket.texts) >= keys, 30)
        manager.emit_event("last", {"n": keys})
        eventually_sync(lambda: '"type":"last"' in socket.texts[-1], 30)
    assert [event["payload"]["n"] for event in socket.events] == list(range(keys + 1))
    ids = [event["id"] for event in socket.events]
    for n, deliveries in enumerate(zip(*results, strict=True)):
        assert {delivery.id for delivery in deliveries} == {ids[n]}
        receipts = {(d.receipt.sent, d.receipt.queued, d.receipt.failed) for d in deliveries}
        assert receipts == {(1, 0, 0)}


def test_a_retried_emit_is_one_event(fast_switches: None) -> None:
    retry_storm(300)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_retried_emits() -> None:
    for _ in range(100):
        wsmanager.reset_manager_registry()
        retry_storm(1000)


def test_control_without_a_key_it_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check counts: with a key of each thread's own it fails."""
    real = get_websocket_manager("ann")

    class NoKeys:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def emit_event(self, event: str, data: Any, **names: Any) -> Any:
            names.pop("idempotency_key", None)
            return real.emit_event(event, data, **names)

    monkeypatch.setitem(globals(), "get_websocket_manager", lambda user: NoKeys())
    with pytest.raises(AssertionError):
        retry_storm(20)


# -- I6: positions that are not one's own ----------------------------------------------------


class Forger:
    """Positions of one user, made from those of another, of the past, and of nothing."""

    def __init__(self, dice: random.Random, own: str, others: list[str]) -> None:
        self.dice = dice
        self.own = own
        self.others = others
        self.kinds = [self.other, self.cut, self.flipped, self.spliced, self.counted, self.odd]

    def make(self) -> str:
        return self.dice.choice(self.kinds)(self.dice.choice([self.own, *self.others]))

    def other(self, token: str) -> str:
        return self.dice.choice(self.others)

    def cut(self, token: str) -> str:
        start = self.dice.randrange(len(token))
        return token[start : self.dice.randrange(start, len(token) + 1)]

    def flipped(self, token: str) -> str:
        for _ in range(self.dice.randrange(1, 4)):
            at = self.dice.randrange(len(token))
            letter = self.dice.choice("0123456789abcdefABCDEF:-+ \x00\n٣é")
            token = token[:at] + letter + token[at + 1 :]
        return token

    def spliced(self, token: str) -> str:
        other = self.dice.choice([self.own, *self.others])
        return token[: self.dice.randrange(18)] + other[self.dice.randrange(18) :]

    def counted(self, token: str) -> str:
        number = self.dice.choice(
            [0, 1, -1, 1 << 63, (1 << 64) - 1, 1 << 64, 10**30, self.dice.getrandbits(64)]
        )
        return f"{token.split(':')[0]}:{number}"

    def odd(self, token: str) -> str:
        return self.dice.choice(
            [" " + token, token + "\n", token * 2, token.upper(), token.replace(":", "："), "",
             token.replace(":", "::"), f"0x{token}", token + "\ud800", "\x00" + token, ":"]
        )  # fmt: skip


def forge(count: int, seed: int = 0, batch: int = 200) -> dict[str, int]:
    """Bob comes back with *count* such positions; how he was answered. Ann's must not reach him."""
    wsmanager.configure(max_connections_per_user=batch + 1, journal_max_age=86_400)
    old = [get_websocket_manager(user).emit_event("x", {}).id for user in ("ann", "bob")]
    wsmanager.reset_manager_registry()
    ann, bob = get_websocket_manager("ann"), get_websocket_manager("bob")
    for n in range(20):
        ann.emit_event("x", {"owner": "ann", "n": n})
        if n < 10:
            bob.emit_event("x", {"owner": "bob", "n": n})
    own, epoch = bob.position, bob.position.split(":")[0]
    forger = Forger(random.Random(seed), own, [ann.position, *old])
    answers: dict[str, int] = {}

    async def main() -> None:
        for start in range(0, count, batch):
            tokens = [forger.make() for _ in range(min(batch, count - start))]
            sockets = [SyncSocket() for _ in tokens]
            ids = [
                bob.add_connection(socket, resume=token)
                for socket, token in zip(sockets, tokens, strict=True)
            ]
            await eventually(lambda: all(socket.texts for socket in sockets))  # noqa: B023
            await asyncio.sleep(0)
            for token, socket in zip(tokens, sockets, strict=True):
                judge(token, socket.texts, epoch, answers)
            for connection_id in ids:
                bob.remove_connection(connection_id)

    asyncio.run(main())
    return answers


def judge(token: str, texts: list[str], epoch: str, answers: dict[str, int]) -> None:
    """Replayed is what follows a position of Bob's own stream, whoever made it up; else nothing."""
    said = json.loads(texts[0])["payload"]
    match = re.fullmatch(f"{epoch}:(0|[1-9][0-9]{{0,19}})", token, re.ASCII)
    genuine = match is not None and int(match[1]) <= 10
    assert said["recovered"] is genuine, f"{token!r} was answered {said}"
    expected = list(range(int(match[1]) + 1, 11)) if match is not None and genuine else []
    assert [seq_of(text) for text in texts[1:]] == expected
    for text in texts[1:]:
        assert '"user_id":"bob"' in text
        assert '"owner":"bob"' in text
    answers[str(said["reason"])] = answers.get(str(said["reason"]), 0) + 1


def test_forged_positions_give_nothing_of_another_user() -> None:
    answers = forge(5000)
    assert set(answers) == {"None", "malformed", "unknown", "ahead"}, "each kind was tried"
    assert min(answers.values()) > 20


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_million_forged_positions() -> None:
    assert sum(forge(1_000_000, seed=1).values()) == 1_000_000


@pytest.mark.timeout(180)
def test_control_a_core_that_takes_any_epoch_is_found(
    nursery: Nursery, run_isolated: Callable[..., Outcome]
) -> None:
    outcome = run_isolated(
        "import test_seams as t; t.forge(2000)",
        package=nursery.package("FOREIGN"),
        env={"PYTHONPATH": PATHS},
        timeout=150,
    )
    assert not outcome.ok
    assert "was answered" in outcome.err, outcome.explain()
