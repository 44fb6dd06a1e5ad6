"""Never another user's event: a model of lists per user beside the real thing."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.loops import LoopThread
from support.machines import run_machines
from support.sockets import StarletteSocket, SyncSocket
from support.waiting import eventually_sync

import wsmanager
from wsmanager import InvalidUserContext, UserIsolationError, get_websocket_manager

NASTY = [
    None, "a", "a ", " a", "A", "á", "a\u0301", "\u0430", "\u202ea", "a\u200b", "None", "null",
    "0", "00", "ｱ", "ア", "𝒂", "a" * 256, "chat", "user:1", "user_1", "ß", "ss", "\x01", "a\x7f",
]  # fmt: skip
LOOK_ALIKES = [None, "None", "null", "0", "a", "a ", "A", "chat"]  # often enough to meet
THREADS = [None, "chat", "a", "A", "None", "0", "thread-1"]


class Backend:
    """The real thing, called as an application calls it. A stand-in with a bug overrides a method."""

    def manager(self, user: str | None) -> Any:
        return get_websocket_manager(None if user is None else {"user_id": user})

    def add(self, user: str | None, socket: Any, thread: str | None) -> str:
        return self.manager(user).add_connection(socket, thread_id=thread)

    def remove(self, user: str | None, connection_id: str) -> bool:
        return bool(self.manager(user).remove_connection(connection_id))

    def emit(self, user: str | None, tag: int) -> None:
        self.manager(user).emit_event("x", {"tag": tag})

    def to_thread(self, user: str | None, thread: str, tag: int) -> None:
        self.manager(user).send_to_thread(thread, {"type": "x", "payload": {"tag": tag}})

    def to_connection(self, user: str | None, connection_id: str, tag: int) -> bool:
        try:
            sent = self.manager(user).send_message(
                connection_id, {"type": "x", "payload": {"tag": tag}}
            )
        except wsmanager.WebSocketManagerError:
            return False
        return bool(sent)


class IsolationMachine(RuleBasedStateMachine):
    """Users with hostile names connect, leave and send; each socket has exactly its own tags."""

    backend = Backend()

    def __init__(self) -> None:
        super().__init__()
        wsmanager.reset_manager_registry()
        self.loop = asyncio.new_event_loop()
        self.live: list[tuple[str | None, str | None, str, StarletteSocket]] = []
        self.model: dict[int, list[int]] = {}
        self.sockets: list[StarletteSocket] = []
        self.tag = 0

    def run(self, function: Any, *args: Any) -> Any:
        async def call() -> Any:
            result = function(*args)
            await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(call())

    def expect(self, user: str | None, thread: str | None = None, only: str | None = None) -> int:
        self.tag += 1
        for owner, shown, connection_id, socket in self.live:
            if owner != user or (thread is not None and shown != thread):
                continue
            if only is not None and connection_id != only:
                continue
            self.model[id(socket)].append(self.tag)
        return self.tag

    users = st.one_of(
        st.sampled_from(LOOK_ALIKES), st.sampled_from(NASTY), st.text(min_size=1, max_size=4)
    )

    @rule(user=users, thread=st.sampled_from(THREADS))
    def connect(self, user: str | None, thread: str | None) -> None:
        if len(self.live) >= 12:
            return
        socket = StarletteSocket()
        try:
            connection_id = self.run(self.backend.add, user, socket, thread)
        except InvalidUserContext:
            return
        self.sockets.append(socket)
        self.model[id(socket)] = []
        self.live.append((user, thread, connection_id, socket))

    @rule(pick=st.integers(0, 99))
    def disconnect(self, pick: int) -> None:
        if self.live:
            user, _, connection_id, _ = self.live.pop(pick % len(self.live))
            assert self.run(self.backend.remove, user, connection_id)

    @rule(pick=st.integers(0, 99), user=users)
    def disconnect_a_strangers(self, pick: int, user: str | None) -> None:
        """Another user's connection id removes nothing."""
        if not self.live:
            return
        owner, _, connection_id, _ = self.live[pick % len(self.live)]
        if user in (owner, None) or owner is None:
            return
        try:
            removed = self.run(self.backend.remove, user, connection_id)
        except (InvalidUserContext, UserIsolationError):
            return
        assert not removed

    @rule(pick=st.integers(0, 99), user=users)
    def share_a_socket(self, pick: int, user: str | None) -> None:
        if not self.live:
            return
        owner, _, _, socket = self.live[pick % len(self.live)]
        if owner == user:
            return
        with pytest.raises((UserIsolationError, InvalidUserContext)):
            self.run(self.backend.add, user, socket, None)

    @rule(user=users)
    def emit(self, user: str | None) -> None:
        tag = self.expect(user)
        try:
            self.run(self.backend.emit, user, tag)
        except InvalidUserContext:
            return

    @rule()
    def emit_as_nobody(self) -> None:
        self.run(self.backend.emit, None, self.expect(None))

    @rule(pick=st.integers(0, 99))
    def emit_to_the_connected(self, pick: int) -> None:
        if self.live:
            user = self.live[pick % len(self.live)][0]
            self.run(self.backend.emit, user, self.expect(user))

    @rule(pick=st.integers(0, 99), thread=st.sampled_from(THREADS[1:]))
    def emit_to_a_thread(self, pick: int, thread: str) -> None:
        if self.live:
            user = self.live[pick % len(self.live)][0]
            self.run(self.backend.to_thread, user, thread, self.expect(user, thread))

    @rule(pick=st.integers(0, 99), sender=st.integers(0, 99))
    def emit_to_a_connection(self, pick: int, sender: int) -> None:
        """The owner reaches it, anybody else does not."""
        if not self.live:
            return
        owner, _, connection_id, _ = self.live[pick % len(self.live)]
        user = self.live[sender % len(self.live)][0]
        self.tag += 1
        if user == owner:
            self.tag -= 1
            self.expect(user, only=connection_id)
        elif user is None:
            return  # the router may reach a connection by its id
        assert self.run(self.backend.to_connection, user, connection_id, self.tag) is (
            user == owner
        )

    @invariant()
    def every_socket_has_exactly_its_own(self) -> None:
        for socket in self.sockets:
            tags = [event["payload"]["tag"] for event in socket.events]
            assert tags == self.model[id(socket)]
        for user, _, _, socket in self.live:
            assert {event["user_id"] for event in socket.events} <= {user}

    def teardown(self) -> None:
        wsmanager.reset_manager_registry()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


@pytest.mark.timeout(180)
def test_isolation_machines() -> None:
    """I1 in its short form."""
    run_machines(IsolationMachine, 40, 40)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_isolation_machines() -> None:
    run_machines(IsolationMachine, 10_000, 60)


class ThreadIsUser(Backend):
    """The original's bug: a thread id taken for a user id."""

    def to_thread(self, user: str | None, thread: str, tag: int) -> None:
        self.emit(thread, tag)


class CleansIds(Backend):
    def manager(self, user: str | None) -> Any:
        return super().manager(None if user is None else user.strip().casefold() or user)


class FalsyIsNobody(Backend):
    def manager(self, user: str | None) -> Any:
        return super().manager(None if user in (None, "None", "null", "0") else user)


class BroadcastsUnaddressed(Backend):
    """ "Emit without a room" means everyone, as in other libraries."""

    def emit(self, user: str | None, tag: int) -> None:
        if user is None:
            wsmanager.broadcast({"type": "x", "payload": {"tag": tag}})
        else:
            super().emit(user, tag)


class RemovesByIdAlone(Backend):
    def remove(self, user: str | None, connection_id: str) -> bool:
        for name in NASTY:
            manager = self.manager(name)
            if manager.get_connection(connection_id) is not None:
                return bool(manager.remove_connection(connection_id))
        return super().remove(user, connection_id)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "bug", [ThreadIsUser, CleansIds, FalsyIsNobody, BroadcastsUnaddressed, RemovesByIdAlone]
)
def test_control_each_kind_of_leak_is_found(bug: type[Backend]) -> None:
    machine = type("Buggy", (IsolationMachine,), {"backend": bug()})
    with pytest.raises(BaseException) as caught:
        run_machines(machine, 300, 40, control=True)
    assert not isinstance(caught.value, KeyboardInterrupt)


# -- I2: the same under threads -------------------------------------------------


def test_no_foreign_payload_under_threads(fast_switches: None) -> None:
    """Forty users in two loops, eight threads that emit, connect and leave at random."""
    users = [f"user-{n}" for n in range(40)]
    wsmanager.configure(
        outbox_max_events=100_000, outbox_max_bytes=1_000_000_000, outbox_max_age=600
    )
    sockets: list[tuple[str, SyncSocket]] = []
    lock = threading.Lock()
    emitted = dict.fromkeys(users, 0)
    with LoopThread() as first, LoopThread() as second:
        steady = {user: SyncSocket() for user in users}
        for n, user in enumerate(users):
            loop = (first, second)[n % 2].loop
            get_websocket_manager(user).add_connection(steady[user], loop=loop)

        def work(seed: int) -> None:
            dice = random.Random(seed)
            own: list[tuple[Any, str]] = []
            for n in range(400):
                user = dice.choice(users)
                manager = get_websocket_manager(user)
                what = dice.random()
                if what < 0.15:
                    socket = SyncSocket()
                    loop = dice.choice((first, second)).loop
                    own.append((manager, manager.add_connection(socket, loop=loop)))
                    with lock:
                        sockets.append((user, socket))
                elif what < 0.25 and own:
                    owner, connection_id = own.pop(dice.randrange(len(own)))
                    assert owner.remove_connection(connection_id)
                else:
                    manager.emit_event("x", {"owner": user, "n": n})
                    with lock:
                        emitted[user] += 1

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for user, socket in steady.items():
            eventually_sync(lambda user=user, socket=socket: len(socket.texts) == emitted[user], 20)
        for user, socket in (*steady.items(), *sockets):
            assert {event["payload"]["owner"] for event in socket.events} <= {user}
            assert {event["user_id"] for event in socket.events} <= {user}


async def test_simultaneous_log_in_of_two_users_on_one_loop() -> None:
    """A task switch inside the hand-over of one user's socket does not give it to the other."""

    async def log_in(user: str) -> tuple[str, StarletteSocket]:
        socket = StarletteSocket()
        manager = await wsmanager.get_websocket_manager_async({"user_id": user})
        await asyncio.sleep(0)
        await manager.add_connection(socket)
        await asyncio.sleep(0)
        await manager.emit_event("welcome", {"for": user})
        return user, socket

    for user, socket in await asyncio.gather(*(log_in(f"user-{n % 10}") for n in range(50))):
        assert {event["payload"]["for"] for event in socket.events} == {user}
