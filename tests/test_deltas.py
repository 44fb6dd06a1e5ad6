"""Text in pieces: merged, and nothing of it lost, doubled or overtaken, from any thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.children import Outcome
from support.loops import LoopThread
from support.sockets import ReentrantSocket, StarletteSocket, SyncSocket
from support.waiting import eventually, eventually_sync, turns

import wsmanager
from wsmanager import AgentWebSocketBridge, EncodeError, EventTooLarge, get_websocket_manager
from wsmanager._stage import Stage, flush_text
from wsmanager.bridge import EventOrderError
from wsmanager.deltas import MERGED_BYTES, Merged

LONG = 3600.0  # an interval that no test waits for


class Tab:
    """A connection of *user*, and a bridge to it."""

    def __init__(self, user: str = "ann", **options: Any) -> None:
        self.socket = StarletteSocket()
        self.manager = get_websocket_manager(user)
        self.manager.add_connection(self.socket)
        self.bridge = AgentWebSocketBridge(self.manager, **options)

    @property
    def told(self) -> list[tuple[str, str | None]]:
        """Type and text of each event."""
        return [(event["type"], event["payload"].get("text")) for event in self.socket.events]


async def test_pieces_become_one_event() -> None:
    tab = Tab()
    answers = [tab.bridge.notify_text_delta("r", piece) for piece in ("Hel", "lo", " wörld")]
    assert tab.socket.texts == []
    assert all(answers)
    await eventually(lambda: tab.socket.texts)
    (event,) = tab.socket.events
    assert event["type"] == "text_delta"
    assert event["run_id"] == "r"
    assert event["payload"] == {"text": "Hello wörld", "kind": "text", "offset": 0}
    assert answers[0] is answers[2]
    assert answers[0].delivery is not None
    assert answers[0].delivery.id == event["id"]


async def test_the_offset_goes_on() -> None:
    tab = Tab(delta_interval=LONG)
    for piece in ("né", "🎈", "c"):
        tab.bridge.notify_text_delta("r", piece)
        tab.bridge.flush()
    assert [event["payload"]["offset"] for event in tab.socket.events] == [0, 2, 3]


OTHERS: dict[str, Callable[[AgentWebSocketBridge], Any]] = {
    "tool": lambda b: b.notify_tool_executing("r", "search"),
    "end": lambda b: b.notify_agent_completed("r", "a"),
    "error": lambda b: b.notify_agent_error("r", "a", "broke"),
    "custom": lambda b: b.notify_custom("r", "a", "mine"),
    "other run": lambda b: b.notify_agent_started("r2", "a"),
    "no run": lambda b: b.emit_agent_event("mine"),
    "snapshot": lambda b: b.snapshot("r"),
    "other kind": lambda b: (b.notify_text_delta("r", "?", "reasoning"), b.flush()),
    "other agent": lambda b: (b.notify_text_delta("r", "?", agent_name="b"), b.flush()),
    "another bridge": lambda b: AgentWebSocketBridge("ann").notify_agent_thinking("r", "a", "hm"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_any_other_event_comes_after_the_text(name: str) -> None:
    tab = Tab(delta_interval=LONG)
    tab.bridge.notify_text_delta("r", "one ")
    tab.bridge.notify_text_delta("r", "two")
    OTHERS[name](tab.bridge)
    assert len(tab.told) == 2
    assert tab.told[0] == ("text_delta", "one two")


async def test_the_texts_of_two_runs_are_merged_side_by_side() -> None:
    tab = Tab(delta_interval=LONG)
    for piece in "abc":
        tab.bridge.notify_text_delta("1", piece)
        tab.bridge.notify_text_delta("2", piece.upper())
    tab.bridge.flush()
    assert tab.told == [("text_delta", "abc"), ("text_delta", "ABC")]


async def test_an_interval_of_zero_merges_nothing() -> None:
    tab = Tab(delta_interval=0)
    for piece in "abc":
        assert tab.bridge.notify_text_delta("r", piece).delivery is not None
    assert [text for _, text in tab.told] == ["a", "b", "c"]


def test_without_a_loop_each_piece_is_sent_at_once() -> None:
    """Nothing could end the wait."""
    bridge = AgentWebSocketBridge("ann", delta_interval=LONG)
    assert bridge.notify_text_delta("r", "a").delivery is not None
    assert bridge.get_stats()["text_waiting"] == 0


def test_a_loop_that_has_stopped_is_not_waited_for() -> None:
    loop = asyncio.new_event_loop()
    socket = StarletteSocket()
    manager = get_websocket_manager("ann")
    bridge = AgentWebSocketBridge(manager, delta_interval=0.01)

    async def begin() -> None:
        manager.add_connection(socket)
        bridge.notify_text_delta("r", "a")  # its timer is lost: the loop stops first

    loop.run_until_complete(begin())
    deadline = time.monotonic() + 0.02
    eventually_sync(lambda: time.monotonic() > deadline)
    assert bridge.get_stats()["text_waiting"] == 1
    bridge.notify_text_delta("r", "b")  # overdue
    assert bridge.get_stats()["text_waiting"] == 0
    bridge.notify_text_delta("r", "c")  # no loop is running
    assert bridge.get_stats()["text_waiting"] == 0
    loop.run_until_complete(turns())
    assert "".join(event["payload"]["text"] for event in socket.events) == "abc"
    loop.close()
    assert bridge.notify_text_delta("r", "d") is not None  # nor one that is closed


async def test_from_a_worker_thread_it_is_the_connections_loop_that_ends_the_wait() -> None:
    tab = Tab()
    await asyncio.to_thread(lambda: [tab.bridge.notify_text_delta("r", c) for c in "abcd"])
    await eventually(lambda: tab.told)
    await eventually(lambda: "".join(text or "" for _, text in tab.told) == "abcd")
    assert len(tab.told) < 4


async def test_merged_text_is_sent_before_it_is_large() -> None:
    tab = Tab(delta_interval=LONG)
    piece = "x" * 1000
    for _ in range(100):
        tab.bridge.notify_text_delta("r", piece)
    tab.bridge.flush()
    texts = [event["payload"]["text"] for event in tab.socket.events]
    assert sum(map(len, texts)) == 100_000
    assert max(map(len, texts)) <= MERGED_BYTES


async def test_a_piece_that_cannot_be_sent_is_its_own_callers_error() -> None:
    tab = Tab(delta_interval=LONG)
    tab.bridge.notify_text_delta("r", "before")
    with pytest.raises(EncodeError):
        tab.bridge.notify_text_delta("r", "half \ud83c")
    wsmanager.configure(max_event_bytes=100_000)
    with pytest.raises(EventTooLarge):
        tab.bridge.notify_text_delta("r", "x" * 200_000)
    for wrong in (None, 1, b"bytes"):
        with pytest.raises(TypeError):
            tab.bridge.notify_text_delta("r", wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        tab.bridge.notify_text_delta("r", "text", "")
    tab.bridge.notify_text_delta("r", "after")
    tab.bridge.flush()
    assert [text for _, text in tab.told] == ["before", "after"]
    assert tab.socket.events[-1]["payload"]["offset"] == 6
    assert tab.bridge.run("r").texts[0].text == "beforeafter"  # type: ignore[union-attr]


@pytest.mark.parametrize("limit", [10_000, 20_000, 60_000])
@pytest.mark.parametrize("envelope", ["payload", "mixed"])
async def test_merging_never_makes_an_event_too_large(limit: int, envelope: Any) -> None:
    """What each could be sent, and is the worst to write in JSON, is sent when merged."""
    wsmanager.configure(max_event_bytes=limit, envelope=envelope)
    tab = Tab(delta_interval=LONG)
    for _ in range(3000):
        tab.bridge.notify_text_delta("r" * 50, "\x01\x02\x03\x04")
    tab.bridge.flush()
    assert sum(len(event["payload"]["text"]) for event in tab.socket.events) == 12_000
    assert tab.bridge.get_stats()["text_failed_total"] == 0


async def test_empty_pieces_are_no_events() -> None:
    tab = Tab(delta_interval=0)
    assert tab.bridge.notify_text_delta("r", "")
    assert tab.told == []


async def test_await_does_not_wait() -> None:
    tab = Tab(delta_interval=LONG)
    assert await tab.bridge.notify_text_delta("r", "a") is True
    assert tab.told == []
    tab.bridge.flush()
    bob = AgentWebSocketBridge("bob", delta_interval=LONG)
    assert await bob.notify_text_delta("r", "a") is False, "nobody is there to take it"
    bob.flush()


async def test_text_that_waits_outlives_its_bridge() -> None:
    tab = Tab(delta_interval=0.01)
    tab.bridge.notify_text_delta("r", "kept")
    del tab.bridge
    await eventually(lambda: tab.told == [("text_delta", "kept")])


async def test_all_that_waits_may_be_sent_before_a_restart() -> None:
    tabs = [Tab(user, delta_interval=LONG) for user in ("ann", "bob")]
    for tab in tabs:
        tab.bridge.notify_text_delta("r", "bye")
    flush_text()
    assert [tab.told for tab in tabs] == [[("text_delta", "bye")]] * 2


def test_a_drain_sends_what_waits(isolated: Callable[..., Outcome]) -> None:
    """In a process of its own: there is no way back from a drain."""
    isolated(
        "import asyncio, wsmanager\n"
        "class Socket:\n"
        "    texts = []\n"
        "    async def send_text(self, text): self.texts.append(text)\n"
        "    async def close(self, code=1000, reason=None): self.texts.append('closed')\n"
        "async def main():\n"
        "    manager = wsmanager.get_websocket_manager('ann')\n"
        "    manager.add_connection(Socket())\n"
        "    bridge = wsmanager.AgentWebSocketBridge(manager, delta_interval=3600)\n"
        "    bridge.notify_text_delta('r', 'last words')\n"
        "    await wsmanager.drain(deadline=5, jitter=0)\n"
        "    assert 'last words' in Socket.texts[0] and Socket.texts[-1] == 'closed', Socket.texts\n"
        "asyncio.run(main())\n"
    )


async def test_an_error_of_merged_text_is_not_that_of_the_next_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def envelope(whole: Any) -> Any:
        if whole["type"] == "text_delta":
            raise KeyError("secret text")
        return whole

    tab = Tab(delta_interval=LONG)
    wsmanager.configure(envelope=envelope)
    with caplog.at_level(logging.INFO, "wsmanager.bridge"):
        answer = tab.bridge.notify_text_delta("r", "lost")
        assert tab.bridge.notify_agent_completed("r", "a")
    assert tab.socket.types == ["agent_completed"]
    assert not answer
    assert answer.error is not None
    assert tab.bridge.get_stats()["text_failed_total"] == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "secret" not in record.getMessage()


async def test_from_within_a_send() -> None:
    """A socket that calls the bridge as it is written to: no deadlock, and the order holds."""
    manager = get_websocket_manager("ann")
    bridge = AgentWebSocketBridge(manager, delta_interval=LONG)
    socket = ReentrantSocket(lambda: bridge.notify_text_delta("r", "nested"))
    manager.add_connection(socket)
    bridge.notify_text_delta("r", "outer ")
    bridge.notify_agent_completed("r", "a")
    await turns()
    bridge.flush()
    texts = [event["payload"].get("text") for event in socket.events]
    assert [text for text in texts if text] == ["outer ", "nested"]


STRICT: list[list[Callable[[AgentWebSocketBridge], Any]]] = [
    [],
    [lambda b: b.notify_agent_started("r", "a"), lambda b: b.notify_agent_completed("r", "a")],
    [lambda b: b.notify_agent_started("r", "a"), lambda b: b.notify_agent_error("r", "a", "x")],
]


@pytest.mark.parametrize("before", STRICT, ids=["before the start", "after the end", "failed"])
async def test_strict_refuses_text_of_an_agent_that_is_not_at_work(before: list[Any]) -> None:
    tab = Tab(strict=True, delta_interval=LONG)
    for step in before:
        step(tab.bridge)
    sent = list(tab.socket.texts)
    with pytest.raises(EventOrderError):
        tab.bridge.notify_text_delta("r", "no")
    tab.bridge.flush()
    assert tab.socket.texts == sent
    assert tab.bridge.get_stats()["text_pieces_total"] == 0


async def test_control_not_strict_sends_it() -> None:
    for before in STRICT:
        tab = Tab("user" + str(len(before)), delta_interval=0)
        for step in before:
            step(tab.bridge)
        assert tab.bridge.notify_text_delta("r", "yes")


# -- order, against a model -----------------------------------------------------

PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.sampled_from("12"), st.sampled_from(["text", "reasoning"])),
        st.tuples(st.just("event"), st.sampled_from("12"), st.just("")),
        st.tuples(st.just("flush"), st.just(""), st.just("")),
    ),
    max_size=40,
)


def order_of_a_run(events: list[dict[str, Any]], run: str) -> list[tuple[str, int]]:
    """What a run said, a character or an event at a time."""
    said: list[tuple[str, int]] = []
    for event in events:
        if event["run_id"] != run:
            continue
        if event["type"] == "text_delta":
            said += [(event["payload"]["kind"], ord(c)) for c in event["payload"]["text"]]
        else:
            said.append(("event", event["payload"]["n"]))
    return said


@given(PIECES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_order_within_a_run_is_the_senders(pieces: list[tuple[str, str, str]]) -> None:
    wsmanager.reset_manager_registry()

    async def main() -> None:
        tab = Tab(delta_interval=LONG)
        model: dict[str, list[tuple[str, int]]] = {"1": [], "2": []}
        for n, (what, run, kind) in enumerate(pieces):
            if what == "text":
                tab.bridge.notify_text_delta(run, chr(0x4E00 + n), kind)
                model[run].append((kind, 0x4E00 + n))
            elif what == "event":
                tab.bridge.notify_custom(run, "a", "mine", {"n": n})
                model[run].append(("event", n))
            else:
                tab.bridge.flush()
        tab.bridge.flush()
        for run, said in model.items():
            assert order_of_a_run(tab.socket.events, run) == said

    asyncio.run(main())


# -- many threads -----------------------------------------------------------------


def storm(threads: int, each: int, interval: float) -> list[str]:
    """Threads that each write a run of one user, with tools in between; what is wrong with it."""
    wsmanager.configure(outbox_max_events=1_000_000, outbox_max_bytes=1 << 30)
    socket = SyncSocket()
    with LoopThread() as thread:
        manager = get_websocket_manager("ann")
        thread.call(manager.add_connection, socket)

        def write(run: str) -> None:
            bridge = AgentWebSocketBridge(manager, delta_interval=interval)
            for n in range(each):
                if n % 25 == 24:
                    bridge.notify_custom(run, "a", "mine", {"n": n})
                else:
                    bridge.notify_text_delta(run, chr(0x4E00 + n % 5000))
            bridge.notify_agent_completed(run, "a")

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(write, str(n)) for n in range(threads)]:
                done.result(60)
        eventually_sync(lambda: socket.types.count("agent_completed") == threads, 20)
    wrong = []
    model = [("event", n) if n % 25 == 24 else ("text", 0x4E00 + n % 5000) for n in range(each)]
    rest = [event for event in socket.events if event["type"] != "agent_completed"]
    for run in map(str, range(threads)):
        if order_of_a_run(rest, run) != model:
            wrong.append(run)
    return wrong


@pytest.mark.parametrize("interval", [0.0005, 0.025])
def test_threads_lose_double_and_overtake_nothing(fast_switches: None, interval: float) -> None:
    assert storm(8, 500, interval) == []


class _NoLock:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def _is_owned(self) -> bool:
        return False


@pytest.fixture
def slow_emit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged text takes its time between being taken and being sent."""
    emit = Merged.emit

    def late(self: Merged) -> Any:
        time.sleep(0.0005)
        return emit(self)

    monkeypatch.setattr(Merged, "emit", late)


def test_text_that_is_being_sent_is_not_overtaken(slow_emit: None, fast_switches: None) -> None:
    assert storm(4, 200, 0.0005) == []


def _flush_nothing(self: Stage) -> None:
    """A bridge that leaves text for its timer, whatever comes after it."""


@pytest.mark.parametrize("bug", ["no lock", "text waits on", "latest wins"])
def test_control_the_storm_finds_each_bug(
    bug: str, slow_emit: None, fast_switches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bug == "no lock":
        before = Stage.__init__

        def unlocked(self: Stage) -> None:
            before(self)
            self._lock = _NoLock()  # type: ignore[assignment]

        monkeypatch.setattr(Stage, "__init__", unlocked)
    elif bug == "text waits on":
        monkeypatch.setattr(Stage, "flush", _flush_nothing)
    else:

        def replace(self: Merged, text: str, size: int) -> None:
            self.pieces, self.bytes = [text], size

        monkeypatch.setattr(Merged, "add", replace)
    for _ in range(20):
        wsmanager.reset_manager_registry()
        try:
            wrong = storm(4, 200, 0.0005)
        except Exception:  # noqa: BLE001 - a broken build may fail in any way
            wrong = ["raised"]
        if wrong:
            return
    raise AssertionError("twenty storms found nothing")


# -- processes ----------------------------------------------------------------------

AT_EXIT = """
import asyncio, sys
from wsmanager import AgentWebSocketBridge, get_websocket_manager

class Socket:
    def send(self, text):
        print(text, flush=True)

loop = asyncio.new_event_loop()  # never closed: the process just ends
manager = get_websocket_manager("ann")

async def main():
    manager.add_connection(Socket())
    AgentWebSocketBridge(manager, delta_interval=60).notify_text_delta("r", "last words")
    if "exit" in sys.argv:
        sys.exit(0)

loop.run_until_complete(main())
"""


def test_text_that_waits_at_exit_reaches_the_manager(isolated: Callable[..., Outcome]) -> None:
    """The atexit function hands it over; whether a socket can still be written is another matter."""
    script = AT_EXIT + (
        "import atexit\n"
        "bridge = AgentWebSocketBridge(manager)\n"
        "atexit._run_exitfuncs()\n"
        "assert bridge.get_stats()['text_events_total'] == 1\n"
        "assert bridge.get_stats()['text_waiting'] == 0\n"
        "loop.run_until_complete(asyncio.sleep(0.01))\n"
        "loop.close()\n"
    )
    assert "last words" in isolated(script).out


FORK = """
import asyncio, os, signal, threading, time
from wsmanager import AgentWebSocketBridge, get_websocket_manager
from wsmanager._stage import stage_of

class Socket:
    def send(self, text):
        os.write(1, text.encode() + b"\\n")

async def main():
    manager = get_websocket_manager("ann")
    manager.add_connection(Socket())
    bridge = AgentWebSocketBridge(manager, delta_interval=60)
    bridge.notify_text_delta("r", "the parent's")
    held, done = threading.Event(), threading.Event()

    def hold():
        with stage_of(manager)._lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        child = AgentWebSocketBridge("ann")
        for each in (bridge, child):
            each.notify_agent_started("child", "a")
            each.notify_text_delta("child", "text")
            each.flush()
            assert each.run("r") is None
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    done.set()
    thread.join()
    bridge.flush()
    assert status == 0, status

asyncio.run(main())
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_anew(isolated: Callable[..., Outcome]) -> None:
    """A lock held by another thread at the fork does not hang it; the parent's text is not doubled."""
    outcome = isolated(FORK, python=("-W", "ignore"))
    assert outcome.out.count("the parent's") == 1
    assert '"child"' not in outcome.out
