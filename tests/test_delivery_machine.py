"""I1 and D1: each client sees exactly its user's list, through every fault, or is told that it does not.

The model is a list of events for each user and, for each client, what of it is
still to come. A client may come and go, be slow, fail, and come back with its
own position or with any other. What it sees is compared event by event: a
foreign one, one lost, doubled or out of order is a failure, unless the client
was told of it before: by ``recovered: false`` or by a gap marker.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from support.children import Outcome
from support.machines import run_machines
from support.plants import Nursery
from support.sockets import StarletteSocket
from support.waiting import eventually

import wsmanager
from wsmanager import get_manager_registry_status, get_websocket_manager

USERS = ["ann", "Ann", "ann ", "bob", "a\u0301nn", "0"]
THREADS = [None, "chat", "ann"]
POSITION = re.compile(r"([0-9a-f]{16}):(0|[1-9][0-9]{0,18})", re.ASCII)

JOURNAL_EVENTS = 8
OUTBOX_EVENTS = 12


@dataclass(frozen=True)
class Entry:
    """One event as it was emitted."""

    seq: int
    tag: int
    thread: str | None  # only for connections that show it
    only: str | None  # only for that connection
    critical: bool


@dataclass
class Stream:
    """A user's events: all of them, and those a journal of that size still has."""

    epoch: str
    entries: list[Entry] = field(default_factory=list)
    kept: deque[Entry] = field(default_factory=deque)
    floor: int = 0
    keys: dict[str, str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.only is None:
            self.kept.append(entry)
            if len(self.kept) > JOURNAL_EVENTS:
                self.floor = self.kept.popleft().seq

    @property
    def seq(self) -> int:
        return self.entries[-1].seq if self.entries else 0


class Socket(StarletteSocket):
    """Takes what it gets at once, late, not before it is released, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.mode = "ok"
        self._gate = asyncio.Event()

    def turn(self, mode: str) -> None:
        self.mode = mode
        if mode != "slow":
            self._gate.set()
        else:
            self._gate.clear()

    async def send_text(self, data: str) -> None:
        if self.mode == "late":
            await asyncio.sleep(0)
        elif self.mode == "slow":
            await self._gate.wait()
        if self.mode == "gone":
            raise ConnectionResetError("the peer has gone")
        self.take(data)


class Client:
    """A tab: its connection at the moment, what it saw, and what is to come."""

    def __init__(self, user: str, thread: str | None) -> None:
        self.user = user
        self.thread = thread
        self.socket = Socket()
        self.connection_id = ""
        self.live = False
        self.ever_slow = False
        self.read = 0  # frames looked at
        self.position = ""
        self.greeting: dict[str, Any] | None = None  # that has to come first
        self.coming: deque[Entry] = deque()
        self.gaps: list[tuple[int, int]] = []
        self.excused = 0  # events that told gaps excuse
        self.missing = 0

    def wants(self, entry: Entry) -> bool:
        return (entry.thread is None or entry.thread == self.thread) and (
            entry.only is None or entry.only == self.connection_id
        )

    def look(self) -> None:
        """Take what arrived since the last look, and compare it."""
        texts = self.socket.texts
        while self.read < len(texts):
            frame = json.loads(texts[self.read])
            self.read += 1
            if self.greeting is not None:
                assert frame["type"] == "resumed", "something came before the answer to a resume"
                assert frame["payload"] == self.greeting
                self.position = frame["payload"]["position"]
                self.greeting = None
                if self.coming and frame["payload"]["recovered"]:
                    before = self.coming[0].seq - 1
                    self.position = f"{self.position.split(':')[0]}:{before}"
            elif frame["type"] == "gap":
                first, last = frame["payload"]["first"], frame["payload"]["last"]
                self.gaps.append((int(first.split(":")[1]), int(last.split(":")[1])))
                self.excused += frame["payload"]["dropped"]
            else:
                self.take(frame)

    def take(self, frame: dict[str, Any]) -> None:
        assert frame["user_id"] == self.user, "an event of another user"
        assert frame["payload"]["owner"] == self.user, "data of another user"
        tag = frame["payload"]["tag"]
        while self.coming and self.coming[0].tag != tag:
            lost = self.coming.popleft()
            assert any(first <= lost.seq <= last for first, last in self.gaps), (
                f"event {lost.tag} is lost, and the client was not told"
            )
            assert not lost.critical, "a critical event was dropped"
            self.missing += 1
        assert self.coming, f"event {tag} came twice, or too late, or should not have come"
        entry = self.coming.popleft()
        assert frame["id"].endswith(f":{entry.seq}")
        self.position = frame["id"]


class Backend:
    """The real thing. A stand-in with a bug overrides a method."""

    def connect(self, user: str, socket: Socket, thread: str | None, resume: str | None) -> str:
        return get_websocket_manager(user).add_connection(socket, thread_id=thread, resume=resume)

    def emit(self, user: str, data: dict[str, Any], **names: Any) -> Any:
        return get_websocket_manager(user).emit_event("x", data, **names)


class DeliveryMachine(RuleBasedStateMachine):
    backend = Backend()

    def __init__(self) -> None:
        super().__init__()
        wsmanager.reset_manager_registry()
        self.loop = asyncio.new_event_loop()
        self.clients: list[Client] = []
        self.streams: dict[str, Stream] = {}
        self.old_positions: list[str] = []
        self.tag = 0

    @initialize(policy=st.sampled_from(["close", "drop_oldest", "drop_newest"]))
    def configure(self, policy: Any) -> None:
        self.policy = policy
        wsmanager.configure(
            slow_policy=policy,
            outbox_max_events=OUTBOX_EVENTS,
            outbox_max_age=3600,
            journal_max_events=JOURNAL_EVENTS,
            journal_max_age=3600,
            journal_budget=1 << 30,
            idempotency_window=3600,
        )

    # -- doing things -----------------------------------------------------------

    def run(self, *actions: Callable[[], Any]) -> Any:
        """Do *actions* on the loop, in one turn of it; then let it come to rest."""

        async def call() -> Any:
            results = [action() for action in actions]
            for _ in range(40):
                await asyncio.sleep(0)
            # What another thread posted may wait for others of a burst.
            await eventually(lambda: not any(map(self.is_busy, self.clients)))
            return results[-1]

        result = self.loop.run_until_complete(call())
        for client in self.clients:
            client.look()
            self.still_there(client)
        return result

    def is_busy(self, client: Client) -> bool:
        """Whether something waits for *client*, which takes what it gets."""
        if not client.live or client.socket.mode not in ("ok", "late"):
            return False
        connection = get_websocket_manager(client.user).get_connection(client.connection_id)
        return connection is not None and connection.queued > 0

    def still_there(self, client: Client) -> None:
        if not client.live:
            return
        if get_websocket_manager(client.user).get_connection(client.connection_id) is None:
            assert client.ever_slow or client.socket.mode == "gone", "a healthy one was removed"
            client.live = False

    def stream(self, user: str) -> Stream:
        if user not in self.streams:
            self.streams[user] = Stream(get_websocket_manager(user).position.split(":")[0])
        return self.streams[user]

    def open(self, client: Client, resume: str | None) -> None:
        """Connect *client*, and note what that has to give."""
        stream = self.stream(client.user)
        client.socket, client.read, client.ever_slow = Socket(), 0, False
        client.coming.clear()
        client.gaps.clear()
        client.excused = client.missing = 0
        client.greeting = None
        if resume is not None:
            client.greeting, missed = self.answer(stream, client, resume)
            client.coming.extend(missed)
        client.connection_id = self.backend.connect(
            client.user, client.socket, client.thread, resume
        )
        client.live = True

    def answer(
        self, stream: Stream, client: Client, resume: str
    ) -> tuple[dict[str, Any], list[Entry]]:
        """What the first frame says, and what comes behind it."""
        reason, missed = None, []
        position = POSITION.fullmatch(resume)
        if position is None or int(position[2]) >= 1 << 64:
            reason = "malformed"
        elif position[1] != stream.epoch:
            reason = "unknown"
        elif int(position[2]) > stream.seq:
            reason = "ahead"
        elif int(position[2]) < stream.floor:
            reason = "expired"
        else:
            client.connection_id = ""
            missed = [e for e in stream.kept if e.seq > int(position[2]) and client.wants(e)]
            if len(missed) > OUTBOX_EVENTS:
                reason, missed = "limit", []
        said = {
            "recovered": reason is None,
            "replayed": len(missed),
            "position": f"{stream.epoch}:{stream.seq}",
            "reason": reason,
        }
        return said, missed

    def send(
        self,
        user: str,
        critical: bool = False,
        thread: str | None = None,
        only: Client | None = None,
        key: str | None = None,
    ) -> None:
        stream = self.stream(user)
        self.tag += 1
        names: dict[str, Any] = {"critical": critical}
        if only is not None:
            names["connection_id"] = only.connection_id
        if key is not None:
            names["idempotency_key"] = key
        data = {"tag": self.tag, "owner": user}
        if thread is not None:
            message = {"type": "x", "payload": data}
            delivery = get_websocket_manager(user).send_to_thread(thread, message)
        else:
            delivery = self.backend.emit(user, data, **names)
        if key is not None and key in stream.keys:
            assert delivery.id == stream.keys[key], "a retry was emitted again"
            return
        if key is not None:
            stream.keys[key] = delivery.id
        entry = Entry(
            stream.seq + 1, self.tag, thread, only and only.connection_id, critical and not thread
        )
        assert delivery.id == f"{stream.epoch}:{entry.seq}"
        stream.add(entry)
        for client in self.clients:
            if client.user == user and client.live and client.wants(entry):
                client.coming.append(entry)

    def pick(self, n: int, live: bool) -> Client | None:
        found = [client for client in self.clients if client.live is live]
        return found[n % len(found)] if found else None

    # -- rules --------------------------------------------------------------------

    users = st.sampled_from(USERS)
    numbers = st.integers(0, 99)

    @rule(user=users, thread=st.sampled_from(THREADS), resume=st.sampled_from([None, "", "x:1"]))
    def connect(self, user: str, thread: str | None, resume: str | None) -> None:
        if len(self.clients) < 10:
            client = Client(user, thread)
            self.clients.append(client)
            self.run(lambda: self.open(client, resume))

    @rule(n=numbers)
    def disconnect(self, n: int) -> None:
        client = self.pick(n, live=True)
        if client is not None:
            manager = get_websocket_manager(client.user)
            client.live = False
            assert self.run(lambda: bool(manager.remove_connection(client.connection_id)))

    @rule(n=numbers, late=st.booleans())
    def come_back(self, n: int, late: bool) -> None:
        client = self.pick(n, live=False)
        if client is not None:
            self.run(lambda: self.open(client, client.position))
            if late and client.live:
                client.ever_slow = True
                client.socket.turn("late")

    @rule(n=numbers, before=st.integers(0, 3), after=st.integers(0, 3))
    def come_back_while_events_pass(self, n: int, before: int, after: int) -> None:
        """All in one turn of the loop: what was missed, the return, what is new."""
        client = self.pick(n, live=False)
        if client is not None:
            emit = [lambda: self.send(client.user)]
            self.run(*emit * before, lambda: self.open(client, client.position), *emit * after)

    @rule(n=numbers, other=numbers)
    def come_back_with_anothers_position(self, n: int, other: int) -> None:
        client = self.pick(n, live=False)
        if client is not None:
            position = self.clients[other % len(self.clients)].position
            self.run(lambda: self.open(client, position))

    @rule(n=numbers, at=st.integers(0, 20), text=st.text("0123456789abcdef:\x00é ", max_size=3))
    def come_back_with_a_forged_position(self, n: int, at: int, text: str) -> None:
        client = self.pick(n, live=False)
        if client is not None:
            position = client.position
            self.run(lambda: self.open(client, position[:at] + text + position[at + len(text) :]))

    @rule(n=numbers, back=st.integers(1, 12))
    def come_back_from_further_back(self, n: int, back: int) -> None:
        """A client that lost its last events: it gets them again, as it asks."""
        client = self.pick(n, live=False)
        match = POSITION.fullmatch(client.position) if client is not None else None
        if client is not None and match is not None:
            position = f"{match[1]}:{max(int(match[2]) - back, 0)}"
            self.run(lambda: self.open(client, position))

    @rule(n=numbers, old=numbers)
    def come_back_with_an_old_position(self, n: int, old: int) -> None:
        client = self.pick(n, live=False)
        if client is not None and self.old_positions:
            position = self.old_positions[old % len(self.old_positions)]
            self.run(lambda: self.open(client, position))

    @rule(user=users, critical=st.booleans(), count=st.integers(1, 4))
    def emit(self, user: str, critical: bool, count: int) -> None:
        self.run(*[lambda: self.send(user, critical)] * count)

    @rule(n=numbers, critical=st.booleans(), count=st.integers(1, 16))
    def emit_to_a_client(self, n: int, critical: bool, count: int) -> None:
        if self.clients:
            user = self.clients[n % len(self.clients)].user
            self.run(*[lambda: self.send(user, critical)] * count)

    @rule(n=numbers, count=st.integers(1, 4))
    def emit_from_a_thread(self, n: int, count: int) -> None:
        if not self.clients:
            return
        user = self.clients[n % len(self.clients)].user
        errors: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(count):
                    self.send(user)
            except BaseException as error:  # noqa: BLE001 - it is this rule's
                errors.append(error)

        def wait() -> None:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        self.run(wait)
        if errors:
            raise errors[0]

    @rule(n=numbers, thread=st.sampled_from(THREADS[1:]))
    def emit_to_a_thread(self, n: int, thread: str) -> None:
        if self.clients:
            user = self.clients[n % len(self.clients)].user
            self.run(lambda: self.send(user, thread=thread))

    @rule(n=numbers)
    def emit_to_a_connection(self, n: int) -> None:
        client = self.pick(n, live=True)
        if client is not None:
            self.run(lambda: self.send(client.user, only=client))

    @rule(n=numbers, key=st.sampled_from("jk"), count=st.integers(1, 3))
    def emit_with_a_key(self, n: int, key: str, count: int) -> None:
        if self.clients:
            user = self.clients[n % len(self.clients)].user
            self.run(*[lambda: self.send(user, key=key)] * count)

    @rule(n=numbers, mode=st.sampled_from(["ok", "late", "slow", "slow", "gone"]))
    def change(self, n: int, mode: str) -> None:
        client = self.pick(n, live=True)
        if client is not None:
            client.ever_slow = client.ever_slow or mode in ("late", "slow")
            self.run(lambda: client.socket.turn(mode))

    @rule()
    def reset(self) -> None:
        """All is forgotten, as when the process starts anew."""
        for client in self.clients:
            client.live = False
            self.old_positions.append(client.position)
        self.streams.clear()
        self.run(wsmanager.reset_manager_registry)

    # -- invariants -------------------------------------------------------------------

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """Who takes what it gets has got all there was, but what it was told is missing."""
        for client in self.clients:
            if client.live and client.socket.mode in ("ok", "late"):
                assert client.greeting is None
                left = [entry for entry in client.coming if not self.dropped(client, entry)]
                assert left == [], "an event was not delivered"
                assert client.missing + len(client.coming) == client.excused

    def dropped(self, client: Client, entry: Entry) -> bool:
        told = any(first <= entry.seq <= last for first, last in client.gaps)
        return told and not entry.critical

    @invariant()
    def the_journals_keep_to_their_limits(self) -> None:
        for user, stream in self.streams.items():
            stats = get_websocket_manager(user).get_stats()
            assert stats["journal_events"] == len(stream.kept) <= JOURNAL_EVENTS
            assert stats["journal_bytes"] <= 256 * 1024
            assert (stats["journal_bytes"] > 0) == bool(stream.kept)
        live = sum(client.live for client in self.clients)
        assert get_manager_registry_status()["total_connections"] == live

    def teardown(self) -> None:
        wsmanager.reset_manager_registry()

        async def end() -> None:
            for client in self.clients:
                client.socket.turn("gone")
            for _ in range(4):
                await asyncio.sleep(0)
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.loop.run_until_complete(end())
        self.loop.close()


@pytest.mark.timeout(180)
def test_delivery_machines() -> None:
    """The short form."""
    run_machines(DeliveryMachine, 60, 50)


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_ten_thousand_delivery_machines() -> None:
    run_machines(DeliveryMachine, 10_000, 60)


# -- controls ------------------------------------------------------------------------


class RecoversAlways(Backend):
    """Takes what it cannot use for a first connection, and says nothing."""

    def connect(self, user: str, socket: Socket, thread: str | None, resume: str | None) -> str:
        known = resume and resume.split(":")[0] in get_websocket_manager(user).position
        return super().connect(user, socket, thread, resume if known else None)


class ForgetsThread(Backend):
    def connect(self, user: str, socket: Socket, thread: str | None, resume: str | None) -> str:
        return super().connect(user, socket, None if resume else thread, resume)


class IgnoresKeys(Backend):
    def emit(self, user: str, data: dict[str, Any], **names: Any) -> Any:
        names.pop("idempotency_key", None)
        return super().emit(user, data, **names)


class CleansIds(Backend):
    def emit(self, user: str, data: dict[str, Any], **names: Any) -> Any:
        return super().emit(user.strip().casefold(), data, **names)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", [RecoversAlways, ForgetsThread, IgnoresKeys, CleansIds])
def test_control_a_wrong_use_is_found(bug: type[Backend]) -> None:
    machine = type("Buggy", (DeliveryMachine,), {"backend": bug()})
    with pytest.raises(BaseException) as caught:
        run_machines(machine, 200, 40, control=True)
    assert not isinstance(caught.value, KeyboardInterrupt)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("plant", ["SEAM", "FOREIGN", "LIFO"])
def test_control_a_planted_bug_is_found(
    plant: str, nursery: Nursery, run_isolated: Callable[..., Outcome]
) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    outcome = run_isolated(
        "import test_delivery_machine as m; m.run_machines(m.DeliveryMachine, 300, 50, control=True)",
        package=nursery.package(plant),
        env={"PYTHONPATH": paths},
        timeout=200,
    )
    assert not outcome.ok, "the bug was not found"
    assert "AssertionError" in outcome.err, outcome.explain()
