"""What is known of a run: exact to the event, bounded, of one user, and never silent about a lost end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.loops import LoopThread
from support.sockets import StarletteSocket, SyncSocket
from support.waiting import eventually, eventually_sync

import wsmanager
from wsmanager import AgentWebSocketBridge, ConnectionNotFound, _ledger, get_websocket_manager
from wsmanager import _stage as stages
from wsmanager import runs as run_limits
from wsmanager._ledger import Ledger
from wsmanager._stage import Stage, run_totals, stage_of
from wsmanager._watch import Watch
from wsmanager.runs import RunState

LONG = 3600.0


@pytest.fixture(autouse=True)
def own_watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Runs that other tests left open are not this one's."""
    watch = Watch()
    monkeypatch.setattr(stages, "watch", watch)
    monkeypatch.setattr(stages, "ledger", Ledger())
    return watch


def tab(user: str = "ann") -> StarletteSocket:
    socket = StarletteSocket()
    get_websocket_manager(user).add_connection(socket)
    return socket


def snapshot_of(socket: Any) -> dict[str, Any]:
    (event,) = [event for event in socket.events if event["type"] == "run_snapshot"]
    payload: dict[str, Any] = event["payload"]
    return payload


# -- a snapshot -----------------------------------------------------------------


async def test_a_late_tab_learns_all_from_one_event() -> None:
    bridge = AgentWebSocketBridge({"user_id": "ann", "thread_id": "chat"}, delta_interval=LONG)
    bridge.notify_agent_started("r", "researcher")
    bridge.notify_agent_thinking("r", "researcher", "hm", 2, total_steps=5)
    bridge.notify_tool_executing("r", "search", "researcher", {"q": "secret"})
    bridge.notify_tool_completed("r", "search", ["secret"], "researcher", 12.5)
    bridge.notify_tool_executing("r", "read", "researcher")
    bridge.notify_progress_update("r", "researcher", {"done": 3, "of": 9})
    bridge.notify_text_delta("r", "So ", agent_name="researcher")
    bridge.notify_text_delta("r", "far")
    socket = tab()
    assert bridge.snapshot("r")
    assert socket.types == ["text_delta", "run_snapshot"]
    event = socket.events[-1]
    assert (event["run_id"], event["thread_id"]) == ("r", "chat")
    assert event["agent_name"] == "researcher"
    told = event["payload"]
    assert told["found"] is True
    assert told["status"] == "running"
    assert told["agents"] == {"researcher": "started"}
    assert (told["steps"], told["step_number"], told["total_steps"]) == (1, 2, 5)
    assert [tool["tool_name"] for tool in told["open_tools"]] == ["read"]
    assert told["completed_tools"] == [
        {"tool_name": "search", "agent_name": "researcher", "execution_time_ms": 12.5}
    ]
    assert told["tools_completed"] == 1
    assert told["texts"] == [{"kind": "text", "text": "So far", "offset": 0, "length": 6}]
    assert told["progress"] == {"done": 3, "of": 9}
    assert told["error"] is told["ended_at"] is None
    assert told["started_at"] <= told["updated_at"]
    assert "secret" not in socket.texts[-1]


async def test_the_ends_of_runs() -> None:
    bridge = AgentWebSocketBridge("ann")
    bridge.notify_agent_started("good", "a")
    bridge.notify_agent_started("good", "helper")
    bridge.notify_agent_completed("good", "helper")
    assert bridge.run("good").status == "running"  # type: ignore[union-attr]
    bridge.notify_tool_executing("good", "t", "a")
    bridge.notify_agent_completed("good", "a")
    good = bridge.run("good")
    assert good is not None
    assert (good.status, good.open_tools) == ("completed", ())
    assert good.ended_at is not None
    bridge.notify_agent_started("bad", "a")
    bridge.notify_agent_error("bad", "a", ValueError("it broke"))
    bad = bridge.run("bad")
    assert bad is not None
    assert (bad.status, bad.error) == ("failed", "it broke")
    bridge.notify_agent_started("bad", "a")  # another try
    assert bridge.run("bad").status == "running"  # type: ignore[union-attr]
    assert [run.run_id for run in bridge.runs] == ["good", "bad"]
    assert bridge.get_stats()["runs_open"] == 1


async def test_a_tools_time_is_measured_where_it_is_not_given() -> None:
    bridge = AgentWebSocketBridge("ann")
    bridge.notify_tool_executing("r", "t", "a")
    before = time.monotonic()
    await eventually(lambda: time.monotonic() - before > 0.01)
    bridge.notify_tool_completed("r", "t", agent_name="a")
    (used,) = bridge.run("r").completed_tools  # type: ignore[union-attr]
    assert used.execution_time_ms is not None
    assert 10 <= used.execution_time_ms < 5000


async def test_events_of_your_own_make_no_run() -> None:
    """A run id may be used as a mere tag; nothing then waits for an end."""
    bridge = AgentWebSocketBridge("ann")
    bridge.notify_custom("tag", "a", "mine")
    assert bridge.runs == ()
    bridge.notify_agent_started("r", "a")
    bridge.notify_custom("r", "a", "mine")
    assert len(bridge.runs) == 1


async def test_a_snapshot_goes_to_the_tab_that_asked() -> None:
    bridge = AgentWebSocketBridge("ann")
    bridge.notify_agent_started("r", "a")
    first, second = tab(), StarletteSocket()
    connection_id = bridge.manager.add_connection(second)
    assert bridge.answer(json.dumps({"type": "snapshot", "run_id": "r"}), connection_id)
    assert first.texts == []
    assert snapshot_of(second)["agents"] == {"a": "started"}


async def test_another_users_run_is_not_known() -> None:
    """Nothing tells a run of another user from none at all, and no connection is another's."""
    AgentWebSocketBridge("bob").notify_agent_started("bobs", "a")
    ann, bob = tab("ann"), StarletteSocket()
    bobs_id = get_websocket_manager("bob").add_connection(bob)
    bridge = AgentWebSocketBridge("ann")
    told = []
    for run in ("bobs", "none"):
        bridge.snapshot(run)
        payload = ann.events[-1]["payload"]
        assert payload.pop("run_id") == run
        told.append(payload)
    assert told[0] == told[1] == {"found": False, "status": "unknown"}
    assert bridge.run("bobs") is None
    with pytest.raises(ConnectionNotFound):
        bridge.snapshot("bobs", bobs_id)
    assert bob.texts == []


REQUESTS: list[tuple[Any, int]] = [
    ('{"type": "snapshot", "run_id": "1"}', 1),
    (b'{"type": "snapshot", "run_id": "1"}', 1),
    ({"type": "snapshot", "run_id": "1"}, 1),
    ({"type": "snapshot", "run_id": "unknown"}, 1),
    ({"type": "snapshot"}, 2),  # all that are open
    ('{"type": "chat", "text": "snapshot"}', 0),
    ('{"type": "snapshot", "run_id": 7}', 0),
    ('{"type": "snapshot", "run_id": ["1"]}', 0),
    ('{"type": "snapsh', 0),
    ("[" * 5000, 0),
    ("[" * 3000, 0),
    (b"\xff\xfe\x00", 0),
    ("snapshot", 0),
    ('["snapshot"]', 0),
    (None, 0),
    (7, 0),
]


@pytest.mark.parametrize(("request_", "count"), REQUESTS, ids=[str(r)[:40] for r, _ in REQUESTS])
async def test_what_a_client_may_ask(request_: Any, count: int) -> None:
    bridge = AgentWebSocketBridge("ann")
    for run in "123":
        bridge.notify_agent_started(run, "a")
    bridge.notify_agent_completed("3", "a")
    socket = tab()
    assert len(bridge.answer(request_)) == count
    assert socket.types == ["run_snapshot"] * count


async def test_asked_for_all_where_none_is_open() -> None:
    socket = tab()
    assert AgentWebSocketBridge("ann").answer({"type": "snapshot"})
    assert snapshot_of(socket) == {"found": False, "run_id": None, "status": "unknown"}


async def test_a_snapshot_fits_into_an_event() -> None:
    socket = tab()
    bridge = AgentWebSocketBridge("ann", delta_interval=0)
    for _ in range(40):
        bridge.notify_text_delta("r", "\x01" * 1000)
    wsmanager.configure(max_event_bytes=20_000)
    bridge.snapshot("r")
    (text,) = snapshot_of(socket)["texts"]
    assert text["length"] == 40_000
    assert text["offset"] + len(text["text"]) == 40_000
    assert 500 < len(text["text"]) < 4000


@pytest.mark.parametrize("piece", ["x", "é", "水", "🎈", "a水🎈é"])
async def test_the_end_of_a_long_text_is_kept_whole(piece: str) -> None:
    bridge = AgentWebSocketBridge("ann", delta_interval=0)
    count = 200_000 // len(piece.encode()) + 1
    whole = piece * count
    for start in range(0, len(whole), 997):
        bridge.notify_text_delta("r", whole[start : start + 997])
    (text,) = bridge.run("r").texts  # type: ignore[union-attr]
    assert text.length == len(whole)
    assert whole[text.offset :] == text.text
    size = len(text.text.encode())
    assert run_limits.MAX_TEXT_BYTES - 4 < size <= run_limits.MAX_TEXT_BYTES


async def test_a_refused_event_leaves_the_run_as_it_was() -> None:
    bridge = AgentWebSocketBridge("ann")
    with pytest.raises(wsmanager.EncodeError):
        bridge.notify_agent_started("r", "a", {"bad": object()})
    assert bridge.runs == ()
    bridge.notify_agent_started("r", "a")
    before, size = bridge.run("r"), bridge.get_stats()["run_bytes"]
    wsmanager.configure(max_event_bytes=2000)
    with pytest.raises(wsmanager.EventTooLarge):
        bridge.notify_agent_error("r", "a", "x" * 5000)
    assert bridge.run("r") == before
    assert bridge.get_stats()["run_bytes"] == size


# -- exactness, against a model --------------------------------------------------


class Page:
    """What a front end shows of a run, made from its events or from a snapshot and what follows."""

    def __init__(self) -> None:
        self.agents: dict[str, str] = {}
        self.steps = 0
        self.open: list[str] = []
        self.completed: list[str] = []
        self.text: dict[str, str] = {}
        self.error: str | None = None

    def take(self, event: dict[str, Any]) -> None:
        kind, data = event["type"], event["payload"]
        if kind == "run_snapshot":
            self.__init__()  # type: ignore[misc]
            self.agents = dict(data["agents"])
            self.steps = data["steps"]
            self.open = [tool["tool_name"] for tool in data["open_tools"]]
            self.completed = [tool["tool_name"] for tool in data["completed_tools"]]
            self.text = {text["kind"]: text["text"] for text in data["texts"]}
            self.error = data["error"]
        elif kind == "agent_started":
            self.agents[event["agent_name"]] = "started"
        elif kind == "agent_thinking":
            self.steps += 1
        elif kind == "tool_executing":
            self.open.append(data["tool_name"])
        elif kind == "tool_completed":
            if data["tool_name"] in self.open:
                self.open.remove(data["tool_name"])
            self.completed.append(data["tool_name"])
        elif kind == "text_delta":
            before = self.text.get(data["kind"], "")
            assert len(before) == data["offset"], "text is missing, or came twice"
            self.text[data["kind"]] = before + data["text"]
        elif kind in ("agent_completed", "agent_error"):
            self.agents[event["agent_name"]] = kind.removeprefix("agent_")
            self.error = data.get("error", self.error)
            if "started" not in self.agents.values():
                self.open = []

    @property
    def shown(self) -> dict[str, Any]:
        agents = {
            name: "failed" if how == "error" else how for name, how in sorted(self.agents.items())
        }
        return {**vars(self), "agents": agents}


DO: list[Any] = [
    lambda b, n: b.notify_agent_started("r", "ab"[n % 2]),
    lambda b, n: b.notify_agent_thinking("r", "ab"[n % 2], "hm"),
    lambda b, n: b.notify_tool_executing("r", "tu"[n % 2], "a"),
    lambda b, n: b.notify_tool_completed("r", "tu"[n % 2], 1, "a"),
    lambda b, n: b.notify_text_delta("r", chr(0x4E00 + n)),
    lambda b, n: b.notify_text_delta("r", chr(0x4E00 + n) * 2, "reasoning"),
    lambda b, n: b.notify_agent_completed("r", "ab"[n % 2]),
    lambda b, n: b.notify_agent_error("r", "ab"[n % 2], f"error {n}"),
    lambda b, n: b.notify_custom("r", "a", "mine"),
    lambda b, n: b.flush(),
]


@given(st.lists(st.integers(0, len(DO) - 1), max_size=40), st.lists(st.integers(0, 40), max_size=3))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_snapshot_and_what_follows_show_what_all_events_show(
    steps: list[int], late: list[int]
) -> None:
    wsmanager.reset_manager_registry()

    async def main() -> None:
        whole = tab()
        bridge = AgentWebSocketBridge("ann", delta_interval=LONG)
        bridge.notify_agent_started("r", "a")
        tabs = []
        for n, step in enumerate(steps):
            for _ in range(late.count(n)):
                socket = StarletteSocket()
                bridge.answer({"type": "snapshot"}, bridge.manager.add_connection(socket))
                bridge.snapshot("r", bridge.manager.get_connection_id_by_websocket(socket))
                tabs.append(socket)
            DO[step](bridge, n)
        bridge.flush()
        shown = page(whole)
        for socket in tabs:
            assert page(socket) == shown

    asyncio.run(main())


def page(socket: Any) -> dict[str, Any]:
    """The page of a tab; events before its first snapshot were of the time before it asked."""
    page = Page()
    asked = "run_snapshot" in socket.types
    known = not asked
    for event in socket.events:
        if event["type"] == "run_snapshot" and not event["payload"]["found"]:
            continue
        known = known or event["type"] == "run_snapshot"
        if known:
            page.take(event)
    return page.shown


def late_tabs(threads: int, each: int, tabs: int) -> int:
    """Tabs that come while threads write one run each: how many do not show the whole of it."""
    wsmanager.configure(outbox_max_events=1_000_000, outbox_max_bytes=1 << 30)
    manager = get_websocket_manager("ann")
    sockets: list[tuple[str, SyncSocket]] = []
    texts = {str(n): "".join(chr(0x4E00 + k % 5000) for k in range(each)) for n in range(threads)}
    running = threading.Event()
    with LoopThread() as thread:
        steady = SyncSocket()
        thread.call(manager.add_connection, steady)

        def write(run: str) -> None:
            bridge = AgentWebSocketBridge(manager, delta_interval=0.0005)
            bridge.notify_agent_started(run, "a")
            for n, piece in enumerate(texts[run]):
                bridge.notify_text_delta(run, piece)
                if n % 10 == 0:
                    bridge.notify_tool_executing(run, "t")
                    running.set()
                    bridge.notify_tool_completed(run, "t")
            bridge.notify_agent_completed(run, "a")

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            writers = [pool.submit(write, run) for run in texts]
            running.wait(10)
            bridge = AgentWebSocketBridge(manager)
            for n in range(tabs):
                socket, run = SyncSocket(), str(n % threads)
                connection_id = thread.call(manager.add_connection, socket)
                bridge.snapshot(run, connection_id)
                sockets.append((run, socket))
            for writer in writers:
                writer.result(60)
        for run in texts:
            eventually_sync(lambda run=run: ended(run, steady), 20)
        for run, socket in sockets:
            eventually_sync(lambda run=run, socket=socket: ended(run, socket), 20)
    wrong = 0
    for run, socket in sockets:
        page = Page()
        known = False
        for event in (event for event in socket.events if event["run_id"] == run):
            known = known or event["type"] == "run_snapshot"
            if known and event["payload"].get("found", True):
                try:
                    page.take(event)
                except AssertionError:
                    wrong += 1
                    break
        else:
            whole = (page.text, page.open, len(page.completed))
            wrong += whole != ({"text": texts[run]}, [], (each + 9) // 10)
    return wrong


def ended(run: str, socket: SyncSocket) -> bool:
    """Whether *socket* knows of the end of *run*, by its event or a snapshot."""
    return any(
        event["type"] == "agent_completed" or event["payload"].get("status") == "completed"
        for event in socket.events
        if event["run_id"] == run
    )


def test_tabs_that_come_while_threads_write(fast_switches: None) -> None:
    assert late_tabs(threads=2, each=600, tabs=20) == 0


@pytest.mark.parametrize("bug", ["text is not flushed", "another lock for snapshots"])
def test_control_a_snapshot_that_is_not_exact_is_found(
    bug: str, fast_switches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot(self: Stage, manager: Any, run_id: str, connection_id: str | None) -> Any:
        if bug == "text is not flushed":
            with self._lock:
                found = self.table.find(run_id)
                state = found.state() if found else None
        else:
            self.flush_now()
            state = self.state(run_id)
        time.sleep(0.001)
        data = {"found": False} if state is None else state.payload()
        return manager.emit_event("run_snapshot", data, run_id=run_id, connection_id=connection_id)

    monkeypatch.setattr(Stage, "snapshot", snapshot)
    for _ in range(20):
        wsmanager.reset_manager_registry()
        if late_tabs(threads=2, each=600, tabs=40):
            return
    raise AssertionError("twenty rounds found nothing")


# -- bounds ------------------------------------------------------------------------


def bytes_of(user: str) -> int:
    return AgentWebSocketBridge(user).get_stats()["run_bytes"]


async def test_the_number_of_runs_is_bounded() -> None:
    bridge = AgentWebSocketBridge("ann")
    bridge.notify_agent_started("open", "a")
    for n in range(10 * run_limits.MAX_RUNS):
        bridge.notify_agent_started(f"r{n}", "a")
        bridge.notify_agent_completed(f"r{n}", "a")
    assert len(bridge.runs) == run_limits.MAX_RUNS
    assert bridge.run("open") is not None, "ended runs go before open ones"
    for n in range(10 * run_limits.MAX_RUNS):
        bridge.notify_agent_started(f"o{n}", "a")
    assert len(bridge.runs) == run_limits.MAX_RUNS
    assert bridge.run("open") is None
    assert bridge.get_stats()["runs_forgotten_total"] > 0


async def test_the_bytes_of_a_user_are_bounded() -> None:
    """M1: every part at ten times its limit."""
    bridge = AgentWebSocketBridge("ann", delta_interval=0)
    for run in range(10):
        for kind in range(10 * run_limits.MAX_KINDS):
            for _ in range(10):
                bridge.notify_text_delta(f"r{run}", "x" * 16_000, f"kind {kind}")
        for n in range(10 * run_limits.MAX_TOOLS):
            bridge.notify_tool_executing(f"r{run}", f"tool {n} " + "x" * 500)
            if n % 2:
                bridge.notify_tool_completed(f"r{run}", f"tool {n} " + "x" * 500)
        bridge.notify_progress_update(f"r{run}", "a" * 1000, {"x": "y" * 100_000})
        bridge.notify_agent_error(f"r{run}", "a", "x" * 100_000)
        assert 0 < bytes_of("ann") <= run_limits.MAX_USER_BYTES
    state = bridge.run("r9")
    assert state is not None
    assert len(state.texts) == run_limits.MAX_KINDS
    assert len(state.error or "") == run_limits.MAX_ERROR_CHARACTERS
    assert len(state.completed_tools) == run_limits.MAX_TOOLS
    assert state.tools_completed == 5 * run_limits.MAX_TOOLS
    assert state.progress is None
    stage = stage_of(bridge.manager)
    assert stage.table.bytes == sum(run.bytes for run in stage.table)


async def test_ended_runs_are_kept_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = AgentWebSocketBridge("ann")
    bridge.notify_agent_started("old", "a")
    bridge.notify_agent_started("open", "a")
    bridge.notify_agent_completed("old", "a")
    monkeypatch.setattr(run_limits, "KEPT_SECONDS", 0.0)
    bridge.notify_agent_started("new", "a")
    assert {run.run_id for run in bridge.runs} == {"open", "new"}


async def test_all_users_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ledger, "MAX_BYTES", 1_000_000)
    bridges = [AgentWebSocketBridge(f"user {n}", delta_interval=0) for n in range(50)]
    for bridge in bridges:
        for _ in range(6):
            bridge.notify_text_delta("r", "x" * 10_000)
    assert sum(bytes_of(f"user {n}") for n in range(50)) < 1_000_000 + 50 * stages._NOTED_BYTES
    assert bridges[-1].run("r") is not None, "the latest is not the first to go"
    assert bridges[0].run("r") is None


async def test_users_that_are_gone_leave_nothing() -> None:
    """The table goes with the manager, and what the totals counted of it."""
    wsmanager.reset_manager_registry()
    AgentWebSocketBridge("one more").notify_agent_started("r", "a")
    start = run_totals()["run_users"]
    for n in range(300):
        bridge = AgentWebSocketBridge(f"user {n}", delta_interval=0, unfinished_after=None)
        bridge.notify_text_delta("r", "x" * 10_000)
        bridge.notify_agent_completed("r", "a")
    del bridge
    assert run_totals()["run_bytes"] > 1_000_000
    wsmanager.reset_manager_registry()
    AgentWebSocketBridge("another").notify_agent_started(
        "r", "a"
    )  # the ledger is brought up to date
    totals = run_totals()
    assert totals["run_users"] <= start + 1
    assert totals["run_bytes"] < 100_000


# -- runs without an end ---------------------------------------------------------------


def watched(seen: list[RunState], limit: float = 0.05, user: str = "ann") -> AgentWebSocketBridge:
    return AgentWebSocketBridge(user, unfinished_after=limit, on_unfinished=seen.append)


async def test_a_run_that_goes_silent_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[RunState] = []
    bridge = watched(seen)
    with caplog.at_level(logging.INFO, "wsmanager.bridge"):
        bridge.notify_agent_started("my-run", "a")
        bridge.notify_agent_started("good", "a")
        bridge.notify_agent_completed("good", "a")
        await eventually(lambda: seen)
        await asyncio.sleep(0.1)  # longer than the limit: not told again
    (state,) = seen
    assert (state.run_id, state.user_id, state.status) == ("my-run", "ann", "unfinished")
    assert bridge.get_stats()["runs_unfinished_total"] == 1
    assert run_totals()["runs_unfinished_total"] == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "unfinished" in record.getMessage()
    assert "my-run" not in record.getMessage()
    assert "ann" not in record.getMessage().split()
    assert "\n" not in record.getMessage()


async def test_it_may_go_on_and_be_told_again() -> None:
    seen: list[RunState] = []
    bridge = watched(seen)
    bridge.notify_agent_started("r", "a")
    await eventually(lambda: seen)
    bridge.notify_agent_thinking("r", "a", "still here")
    assert bridge.run("r").status == "running"  # type: ignore[union-attr]
    await eventually(lambda: len(seen) == 2)
    bridge.notify_agent_completed("r", "a")
    assert bridge.run("r").status == "completed"  # type: ignore[union-attr]


async def test_a_run_that_says_something_is_not_late(own_watch: Watch) -> None:
    seen: list[RunState] = []
    bridge = watched(seen, limit=100.0)
    start = time.monotonic()
    bridge.notify_agent_started("r", "a")
    own_watch._check(start + 99)
    before = time.monotonic()
    await eventually(lambda: time.monotonic() - before > 0.01)
    bridge.notify_custom("r", "a", "alive")
    own_watch._check(before + 100)  # when it would have been late
    assert seen == []
    own_watch._check(time.monotonic() + 100)
    assert [state.run_id for state in seen] == ["r"]


async def test_the_callback_may_end_the_run() -> None:
    """What most will do: tell the user."""
    socket = tab()

    def end(state: RunState) -> None:
        bridge.notify_agent_error(state.run_id, state.agent_name or "agent", "timed out")

    bridge = AgentWebSocketBridge("ann", unfinished_after=0.02, on_unfinished=end)
    bridge.notify_agent_started("r", "a")
    await eventually(lambda: socket.types == ["agent_started", "agent_error"])
    assert bridge.run("r").status == "failed"  # type: ignore[union-attr]


async def test_what_the_callback_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(state: RunState) -> None:
        raise LookupError("secret")

    bridge = AgentWebSocketBridge("ann", unfinished_after=0.02, on_unfinished=fail)
    with caplog.at_level(logging.ERROR, "wsmanager.bridge"):
        bridge.notify_agent_started("r", "a")
        await eventually(lambda: caplog.records)
    assert "LookupError" in caplog.text
    assert "secret" not in caplog.text


def test_without_a_loop_the_next_call_looks() -> None:
    seen: list[RunState] = []
    bridge = watched(seen, limit=0.01)
    bridge.notify_agent_started("r", "a")
    deadline = time.monotonic() + 0.03
    eventually_sync(lambda: time.monotonic() > deadline)
    assert seen == []
    AgentWebSocketBridge("bob").notify_custom("x", "a", "anything")
    assert [state.run_id for state in seen] == ["r"]


def test_a_thread_s_run_is_watched_by_its_users_loop(loop_thread: LoopThread) -> None:
    seen: list[tuple[str, int | None]] = []
    manager = get_websocket_manager("ann")
    loop_thread.call(manager.add_connection, StarletteSocket())
    bridge = AgentWebSocketBridge(
        manager,
        unfinished_after=0.02,
        on_unfinished=lambda state: seen.append((state.run_id, threading.get_ident())),
    )
    bridge.notify_agent_started("r", "a")
    eventually_sync(lambda: seen)
    assert seen == [("r", loop_thread.thread.ident)]


def test_a_timer_whose_loop_has_gone_is_replaced(loop_thread: LoopThread) -> None:
    seen: list[RunState] = []

    async def begin() -> None:
        watched(seen).notify_agent_started("r", "a")

    asyncio.run(begin())
    manager = get_websocket_manager("bob")
    loop_thread.call(manager.add_connection, StarletteSocket())
    bob = AgentWebSocketBridge(manager)
    bob.notify_agent_started("x", "a")  # any call sees that the loop is gone
    eventually_sync(lambda: [state.run_id for state in seen] == ["r"])


async def test_a_run_is_told_though_its_user_is_gone() -> None:
    seen: list[RunState] = []
    watched(seen).notify_agent_started("r", "a")
    wsmanager.reset_manager_registry()
    await eventually(lambda: [state.user_id for state in seen] == ["ann"])


async def test_the_watch_is_bounded_and_lets_go(own_watch: Watch) -> None:
    for n in range(3000):
        bridge = watched([], limit=LONG, user=f"user {n % 100}")
        bridge.notify_agent_started(f"r{n}", "a")
        bridge.notify_agent_completed(f"r{n}", "a")
    assert len(own_watch) <= 256


async def test_never_is_possible(own_watch: Watch) -> None:
    AgentWebSocketBridge("ann", unfinished_after=None).notify_agent_started("r", "a")
    assert len(own_watch) == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"unfinished_after": 0}, ValueError),
        ({"unfinished_after": float("nan")}, ValueError),
        ({"unfinished_after": "60"}, TypeError),
        ({"unfinished_after": True}, TypeError),
        ({"delta_interval": -1}, ValueError),
        ({"delta_interval": None}, TypeError),
        ({"on_unfinished": "print"}, TypeError),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        AgentWebSocketBridge("ann", **options)


def test_a_coroutine_function_is_no_callback() -> None:
    async def callback(state: RunState) -> None: ...

    with pytest.raises(TypeError):
        AgentWebSocketBridge("ann", on_unfinished=callback)


# -- strict, and the bridges of one user ------------------------------------------------


async def test_the_strict_bridges_of_a_user_follow_the_runs_together() -> None:
    """A bridge made for each request, as an application's code has it."""
    AgentWebSocketBridge("ann", strict=True).notify_agent_started("r", "a")
    assert not AgentWebSocketBridge("ann", strict=True).notify_agent_thinking("r", "a", "hm")
    AgentWebSocketBridge("ann", strict=True).notify_agent_completed("r", "a")
    with pytest.raises(wsmanager.EventOrderError):
        AgentWebSocketBridge("ann", strict=True).notify_agent_thinking("r", "a", "hm")
    with pytest.raises(wsmanager.EventOrderError):
        AgentWebSocketBridge("bob", strict=True).notify_agent_thinking("r", "a", "hm")


async def test_payloads_own_code_runs_without_the_users_lock() -> None:
    """Two threads, each with what the other needs: a lock of the application, the bridge."""
    lock = threading.Lock()
    bridge = AgentWebSocketBridge("ann")
    reading, locked = threading.Event(), threading.Event()

    class Payload:
        __dataclass_fields__: dict[str, Any] = {}

        def model_dump(self, mode: str) -> dict[str, Any]:
            reading.set()
            assert locked.wait(10)
            with lock:
                return {"x": 1}

    def other() -> None:
        assert reading.wait(10)
        with lock:
            locked.set()
            bridge.notify_custom("r", "a", "mine", {"y": 2})

    thread = threading.Thread(target=other)
    thread.start()
    await asyncio.to_thread(bridge.notify_custom, "r", "a", "mine", {"o": Payload()})
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
