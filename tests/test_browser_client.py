"""The browser client by itself, in Node, against a server that plays each case frame by frame."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.node import MODULE, NodeTab, node_command, node_tab, npm_command, planted
from support.scripted import Visit, relay, scripted_server
from support.waiting import eventually

import wsmanager
from wsmanager.client import FOLDER
from wsmanager.close_codes import CLOSE_CODES, close_code, close_reason, retry_after

FAST = {"minDelay": 5, "maxDelay": 40}


async def welcome(server: Any) -> Visit:
    """The next connection, told that it starts at e:0 if it has no position yet."""
    visit: Visit = await server.visit()
    if not visit.resume:
        await visit.resumed("e:0")
    return visit


# -- positions ------------------------------------------------------------------


async def positions(module: Path) -> list[str | None]:
    """What each of a row of connections says it has; every rule of the position is in it."""
    said: list[str | None] = []
    async with scripted_server() as server, node_tab(server.url, module, **FAST) as tab:
        visit = await server.visit()
        said.append(visit.resume)
        await visit.resumed("e:0")
        await visit.events("e", 1, 2, 3)
        await tab.until_told("event", 3)
        await visit.close()

        visit = await server.visit()  # a recovery that is cut off after two of four
        said.append(visit.resume)
        await visit.resumed("e:7", recovered=True, replayed=4)
        await visit.events("e", 4, 5)
        await tab.until_told("event", 5)
        await visit.close()

        visit = await server.visit()  # no traffic at all, twice
        said.append(visit.resume)
        await visit.resumed("e:7", recovered=True, replayed=2)
        await tab.until_told("resumed", 3)
        await visit.close()

        visit = await server.visit()
        said.append(visit.resume)
        await visit.resumed("f:2")  # another epoch, with a lower number
        await tab.until_told("resumed", 4)
        await visit.close()

        visit = await server.visit()
        said.append(visit.resume)
        await visit.resumed("f:2", recovered=True)
        await visit.events("f", 3)
        await tab.until_told("event", 6)
        await visit.events("g", 1)  # an epoch may change under a connection
        await tab.until_told("event", 7)
        await visit.close()

        visit = await server.visit()
        said.append(visit.resume)
        assert await tab.run("client.position") == visit.resume
    return said


async def test_the_position_is_that_of_the_last_delivered_event() -> None:
    assert await positions(MODULE) == ["", "e:3", "e:5", "e:5", "f:2", "g:1"]


@pytest.mark.parametrize(
    "plant",
    [
        "position stands still",
        "replayed events do not move it",
        "the number without its epoch",
        "jumps to where the server stands",
        "keeps its old position",
    ],
)
async def test_control_a_wrong_position_is_seen(plant: str, tmp_path: Path) -> None:
    assert await positions(planted(plant, tmp_path)) != ["", "e:3", "e:5", "e:5", "f:2", "g:1"]


async def test_control_events_and_dropped_ones_do_not_move_it() -> None:
    async with scripted_server() as server, node_tab(server.url, **FAST) as tab:
        visit = await welcome(server)
        await visit.events("e", 1)
        await visit.send(
            {"type": "gap", "payload": {"dropped": 2, "first": "e:2", "last": "e:3"}},
            {"type": "notice", "payload": {"n": 0}},
        )
        await tab.until_told("event", 2)
        assert [event["type"] for event in tab.events] == ["x", "notice"]
        assert tab.all("gap") == [
            {"reason": "dropped", "dropped": 2, "first": "e:2", "last": "e:3"}
        ]
        assert await tab.run("client.position") == "e:1"
        await visit.send({"type": "pong", "id": "e:4"})  # which has a number of its own
        await visit.events("e", 5)
        await tab.until_told("event", 3)
        assert await tab.run("client.position") == "e:5"


async def test_the_position_outlives_the_page_in_a_storage() -> None:
    async with scripted_server() as server, node_tab() as tab:
        await tab.run("globalThis.kept = new Map()")
        storage = "{getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => void kept.set(k, v)}"
        options = f"{{storage: {storage}, storageKey: 'k'}}"
        await tab.run(f"void (globalThis.client = open({server.url!r}, {options}))")
        visit = await welcome(server)
        await visit.events("e", 1, 2)
        await tab.until_told("event", 2)
        await tab.run("client.close()")
        await tab.run(f"void (globalThis.client = open({server.url!r}, {options}))")
        assert (await server.visit()).resume == "e:2"
        await tab.run("client.close()")
        await tab.run(
            f"void (globalThis.client = open({server.url!r}, {{...{options}, position: 'e:1'}}))"
        )
        assert (await server.visit()).resume == "e:1"


async def test_a_storage_that_fails_is_no_storage() -> None:
    """As a page's may, by its settings of privacy or for want of space."""
    async with scripted_server() as server, node_tab() as tab:
        fails = "() => { throw new Error('denied') }"
        options = f"{{storage: {{getItem: {fails}, setItem: {fails}}}}}"
        await tab.run(f"void (globalThis.client = open({server.url!r}, {options}))")
        visit = await welcome(server)
        assert visit.resume == ""
        await visit.events("e", 1)
        await tab.until_told("error", 3)
        assert set(tab.all("error")) == {"Error: denied"}
        assert tab.numbers == [1]
        assert await tab.run("client.position") == "e:1"


async def test_first_message_and_no_resume_at_all() -> None:
    async with scripted_server() as server, node_tab() as tab:
        hello = '{resume: "message", hello: () => ({type: "auth", token: "t"})}'
        await tab.run(f"void (globalThis.client = open({server.url!r}, {hello}))")
        visit = await server.visit()
        assert visit.resume is None
        await eventually(lambda: len(visit.received) == 2)
        assert visit.received == [
            {"type": "auth", "token": "t"},
            {"type": "resume", "position": ""},
        ]
        await tab.run("client.close()")
        await tab.run(
            f"void (globalThis.client = open({server.url!r} + '?a=b', {{resume: 'none'}}))"
        )
        visit = await server.visit()
        assert visit.path.endswith("/ws?a=b")
        await tab.run("client.send('text')", 5)
        await tab.run("client.close()")


async def test_nothing_precedes_the_first_messages() -> None:
    """What the page sends as soon as it hears that the connection is open comes after them."""
    async with scripted_server() as server, node_tab() as tab:
        options = (
            '{minDelay: 5, resume: "message", hello: () => ({type: "auth"}), '
            'onState: (state) => state === "open" && client.send({type: "early"})}'
        )
        await tab.run(f"void (globalThis.client = open({server.url!r}, {options}))")
        for _ in range(2):
            visit = await server.visit()
            await eventually(lambda: len(visit.received) == 3)  # noqa: B023
            assert [each["type"] for each in visit.received] == ["auth", "resume", "early"]
            await visit.close()


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        ("throw new Error('no token')", "Error: no token"),
        ("return Promise.resolve('token')", "TypeError: wsmanager: hello is a promise"),
        ("return {token: 1n}", "TypeError: Do not know how to serialize a BigInt"),
    ],
)
async def test_without_its_hello_a_connection_is_given_up(hello: str, error: str) -> None:
    async with scripted_server() as server, node_tab() as tab:
        options = (
            '{minDelay: 5, maxDelay: 40, resume: "message", '
            f"hello: () => {{ if (!globalThis.logged) {{ {hello} }} return 'null'; }}, "
            'onState: (state) => { tell("state", state); client.send("1"); }}'
        )
        await tab.run(f"void (globalThis.client = open({server.url!r}, {options}))")
        visit = await server.visit()
        await visit.connection.wait_closed()
        assert visit.connection.close_reason == "no hello"
        assert visit.received == []
        assert (await tab.until_told("error"))[0] == error
        assert "open" not in tab.all("state")
        await tab.run("void (globalThis.logged = true)")
        await tab.until(lambda: "open" in tab.all("state"))
        visits = [await server.visit()]
        while server.visits.qsize():
            visits.append(await server.visit())
        await eventually(lambda: len(visits[-1].received) == 3)
        assert visits[-1].received == [None, {"type": "resume", "position": ""}, 1]
        assert all(each.received == [] for each in visits[:-1])


async def test_a_hello_that_closes_the_client() -> None:
    async with scripted_server() as server, node_tab() as tab:
        options = "{hello: () => { client.close(4000, 'changed my mind'); return 'late'; }}"
        await tab.run(f"void (globalThis.client = open({server.url!r}, {options}))")
        visit = await server.visit()
        await visit.connection.wait_closed()
        assert visit.connection.close_code == 4000
        assert visit.received == []
        assert tab.all("state") == ["closed"]
        assert tab.all("error") == []


async def test_the_url_may_be_asked_for_each_time() -> None:
    async with scripted_server() as server, node_tab() as tab:
        await tab.run("globalThis.asked = 0")
        url = f"async () => {{ if (++asked === 2) throw new Error('no ticket'); return '{server.url}?t=' + asked; }}"
        await tab.run(f"void (globalThis.client = open({url}, {json.dumps(FAST)}))")
        visit = await server.visit()
        assert "t=1" in visit.path
        await visit.close()
        visit = await server.visit()
        assert "t=3" in visit.path
        assert tab.all("error") == ["Error: no ticket"]


# -- once each ------------------------------------------------------------------


async def doubles(module: Path) -> list[int]:
    async with scripted_server() as server, node_tab(server.url, module, **FAST) as tab:
        visit = await welcome(server)
        await visit.events("e", 1, 2, 3)
        await visit.events("e", 2, 3)
        await visit.close()
        visit = await server.visit()
        await visit.resumed("e:4", recovered=True, replayed=3)
        await visit.events("e", 2, 3, 4, 5)
        await tab.until(lambda: 5 in tab.numbers)
        return tab.numbers


async def test_an_event_is_delivered_once() -> None:
    assert await doubles(MODULE) == [1, 2, 3, 4, 5]


async def test_control_doubles_are_seen(tmp_path: Path) -> None:
    assert await doubles(planted("no dedupe", tmp_path)) != [1, 2, 3, 4, 5]


async def test_the_window_of_known_ids_is_bounded() -> None:
    async with scripted_server() as server, node_tab(server.url, dedupeWindow=3) as tab:
        visit = await welcome(server)
        await visit.events("e", 1, 2, 3, 4)
        await visit.events("e", 2, 4, 1)  # 1 has left the window
        await tab.until_told("event", 5)
        assert tab.numbers == [1, 2, 3, 4, 1]


async def test_replayed_events_are_marked() -> None:
    async with scripted_server() as server, node_tab(server.url, **FAST) as tab:
        visit = await welcome(server)
        await visit.events("e", 1)
        await tab.until_told("event")
        await visit.close()
        visit = await server.visit()
        await visit.resumed("e:3", recovered=True, replayed=2)
        await visit.events("e", 2, 3, 4)
        await tab.until_told("event", 4)
        assert [event["replayed"] for event in tab.events] == [False, True, True, False]


async def failed_resume(module: Path) -> list[Any]:
    async with scripted_server() as server, node_tab(server.url, module, **FAST) as tab:
        visit = await welcome(server)
        await tab.until_told("resumed")
        await visit.events("e", 1)
        await tab.until_told("event")
        await visit.close()
        visit = await server.visit()
        await visit.resumed("f:0")
        await visit.events("f", 1)
        await tab.until_told("event", 2)
        return tab.all("gap")


async def test_a_failed_resume_is_a_gap_and_a_first_connect_is_not() -> None:
    assert await failed_resume(MODULE) == [
        {"reason": "unknown epoch", "dropped": None, "first": "e:1", "last": "f:0"}
    ]


async def test_control_a_failed_resume_that_is_hidden_is_seen(tmp_path: Path) -> None:
    assert await failed_resume(planted("says nothing of a failed resume", tmp_path)) == []


# -- coming back ----------------------------------------------------------------


async def outcome(tab: NodeTab, server: Any, code: int, reason: str) -> dict[str, Any]:
    """What the client makes of a close; it is ended before it comes back."""
    await tab.run(f"void (globalThis.client = open({server.url!r}, {{minDelay: 60000}}))")
    visit = await server.visit()
    before = len(tab.all("close"))
    if code == 1006:
        visit.connection.transport.abort()
    else:
        await visit.close(code, reason)
    info: dict[str, Any] = (await tab.until_told("close", before + 1))[-1]
    await tab.run("client.close()")
    return info


async def test_the_codes_decide() -> None:
    async with scripted_server() as server, node_tab() as tab:
        for code, reason in [
            (1000, ""), (1001, ""), (1012, "x; retry-after=0.02"), (1013, ""), (1008, "no"),
            (3000, ""), (4401, ""), (4409, ""), (4429, ""), (4444, ""), (4999, ""), (1006, ""),
        ]:  # fmt: skip
            info = await outcome(tab, server, code, reason)
            row = close_code(code)
            assert info["code"] == code
            assert info["reconnect"] is row.reconnect, code
            assert (info["delay"] is not None) is row.reconnect
            expected = retry_after(reason) if reason else row.retry_after
            assert info["retryAfter"] == expected, code
            if expected is not None:
                assert info["delay"] >= expected * 1000


@pytest.mark.parametrize("plant", ["comes back after any code", "ignores retry-after"])
async def test_control_of_the_codes(plant: str, tmp_path: Path) -> None:
    async with scripted_server() as server, node_tab(module=planted(plant, tmp_path)) as tab:
        if plant == "ignores retry-after":
            await tab.run("void (Math.random = () => 0)")
            assert (await outcome(tab, server, 4429, ""))["delay"] == 0
        else:
            assert (await outcome(tab, server, 4401, ""))["delay"] is not None


async def test_it_comes_back_when_the_reason_says() -> None:
    async with scripted_server() as server, node_tab(server.url, **FAST) as tab:
        loop = asyncio.get_running_loop()
        visit = await welcome(server)
        begun = loop.time()
        await visit.close(1012, close_reason("service restart", 0.4))
        await server.visit()
        assert 0.35 < loop.time() - begun < 5
        assert tab.all("close")[0]["retryAfter"] == 0.4


async def test_backoff_doubles_to_a_limit_with_full_jitter() -> None:
    """Random between nothing and the bound: checked at both ends and with a real random number."""
    async with node_tab() as tab:
        await tab.run("globalThis.real = Math.random")
        for draw in ("() => 0.999999", "() => 0", "real"):
            before = len(tab.all("close"))
            await tab.run(f"void (Math.random = {draw})")
            options = (
                '{minDelay: 4, maxDelay: 32, maxAttempts: 6, onClose: (i) => tell("close", i)}'
            )
            # Port 1 of loopback: refused at once.
            await tab.run(f"void (globalThis.client = open('ws://127.0.0.1:1/', {options}))")
            await tab.until(lambda: len(tab.all("close")) == before + 7)  # noqa: B023
            delays = [info["delay"] for info in tab.all("close")[before:]]
            assert delays[-1] is None, "the attempts are used up"
            bounds = [4, 8, 16, 32, 32, 32]
            if draw == "() => 0":
                assert delays[:-1] == [0] * 6
            elif draw == "real":
                assert all(0 <= d <= b for d, b in zip(delays[:-1], bounds, strict=True))
                assert len(set(delays)) == 7
            else:
                assert [round(d, 3) for d in delays[:-1]] == bounds
            assert await tab.run("client.state") == "closed"


async def test_the_application_has_the_last_word() -> None:
    async with scripted_server() as server, node_tab() as tab:
        options = "{minDelay: 5, shouldReconnect: ({code}) => code === 4401 ? true : code === 1012 ? false : undefined}"
        await tab.run(f"void (globalThis.client = open({server.url!r}, {options}))")
        await (await server.visit()).close(4401)
        await (await server.visit()).close(1012)
        await tab.until_told("close", 2)
        assert await tab.run("client.state") == "closed"
        assert tab.all("state") == ["open", "waiting", "connecting", "open", "closed"]


async def test_close_ends_it_and_tells_the_server() -> None:
    async with scripted_server() as server, node_tab(server.url, **FAST) as tab:
        visit = await welcome(server)
        await tab.until_told("resumed")
        await tab.run("client.close(4001, 'done here')")
        await visit.connection.wait_closed()
        assert visit.connection.close_code == 4001
        assert await tab.run("client.send('late')") is False
        assert await tab.run("client.state") == "closed"
        with pytest.raises(asyncio.TimeoutError):
            await server.visit(0.2)


async def test_a_wrong_close_changes_nothing() -> None:
    """A code or a reason that the WebSocket class refuses: an error, and the client stays as it is."""
    async with scripted_server() as server, node_tab(server.url, minDelay=60000) as tab:
        visit = await welcome(server)
        await tab.until_told("resumed")
        for arguments, error in {
            **dict.fromkeys(("1001", "1006", "2999", "5000", "NaN", "null", "'x'"), "RangeError"),
            "4000, 'é'.repeat(62)": "SyntaxError",
        }.items():
            script = (
                f"(() => {{ try {{ client.close({arguments}) }} catch (e) {{ return e.name }} }})()"
            )
            assert await tab.run(script) == error, arguments
            assert await tab.run("client.state") == "open"
        assert await tab.run("client.send({type: 'still here'})") is True
        await eventually(lambda: visit.received == [{"type": "still here"}])
        await visit.close()
        await tab.until_told("close")
        script = "(() => { try { client.close(1001) } catch (e) { return e.message } })()"
        assert await tab.run(script) == "wsmanager: a page may not send 1001"
        assert await tab.run("client.state") == "waiting"
        for code in (1000, 3000, 4999):
            await tab.run(f"void (globalThis.client = open({server.url!r}))")
            visit = await welcome(server)
            await tab.until(lambda: tab.all("state")[-1] == "open")
            await tab.run(f"client.close({code})")
            await visit.connection.wait_closed()
            assert visit.connection.close_code == code


async def test_a_wrong_url_is_an_error_at_once() -> None:
    async with node_tab() as tab:
        script = "(() => { try { open('http://[', {}) } catch (e) { return e.name } })()"
        assert await tab.run(script) == "TypeError"
        await tab.run("void (globalThis.client = open(() => 'nothing', {}))")
        await tab.until_told("close")
        assert await tab.run("client.state") == "closed"


# -- a link that says nothing ---------------------------------------------------


async def half_open(module: Path, timeout: float) -> list[int]:
    """Events on both sides of a link that goes silent without closing."""
    heartbeat = {"interval": 60, "timeout": 60}
    async with (
        scripted_server(ping_interval=None, close_timeout=0.1) as server,
        relay(server.port) as link,
    ):
        url = f"ws://127.0.0.1:{link.port}/ws"
        async with node_tab(url, module, heartbeat=heartbeat, **FAST) as tab:
            visit = await welcome(server)
            await visit.events("e", 1)
            await tab.until_told("event")
            link.go_silent()
            await visit.events("e", 2)  # into the void
            try:
                visit = await server.visit(timeout)
            except asyncio.TimeoutError:
                return tab.numbers
            assert visit.resume == "e:1"
            await visit.resumed("e:2", recovered=True, replayed=1)
            await visit.events("e", 2, 3)
            await tab.until_told("event", 3)
            assert tab.all("close")[0]["reason"] == "heartbeat timeout"
            return tab.numbers


async def test_a_half_open_link_is_given_up() -> None:
    assert await half_open(MODULE, 15) == [1, 2, 3]


async def test_control_a_client_that_never_doubts_stays(tmp_path: Path) -> None:
    assert await half_open(planted("never doubts the link", tmp_path), 1) == [1]


async def test_an_idle_link_is_kept_by_pings_and_their_answers() -> None:
    async with scripted_server() as server:
        options = {"heartbeat": {"interval": 40, "timeout": 2000}, **FAST}
        async with node_tab(server.url, **options) as tab:
            visit = await welcome(server)
            for count in range(1, 6):
                await eventually(lambda: visit.received.count({"type": "ping"}) >= count)  # noqa: B023
                await visit.send({"type": "pong"})
            assert tab.all("close") == []


async def test_the_server_may_be_the_one_that_pings() -> None:
    async with scripted_server() as server:
        options = {"heartbeat": {"interval": 150, "timeout": 150, "send": False}, **FAST}
        async with node_tab(server.url, **options) as tab:
            visit = await welcome(server)
            for count in range(1, 5):
                await visit.send({"type": "ping"})
                await eventually(lambda: visit.received.count({"type": "pong"}) == count)  # noqa: B023
                await asyncio.sleep(0.1)
            assert tab.all("close") == []
            await server.visit()  # silence now: it comes back
            assert {"type": "ping"} not in visit.received


async def test_no_connection_in_time_is_tried_again() -> None:
    """A server that accepts TCP and never answers the handshake."""
    seen = 0

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        await reader.read(1 << 16)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with node_tab(f"ws://127.0.0.1:{port}/", connectTimeout=100, **FAST) as tab:
        await eventually(lambda: seen >= 3, 15)
        assert tab.all("close")[0]["reason"] == "no connection in time"
    server.close()


# -- acknowledgements -----------------------------------------------------------


async def test_an_event_is_acknowledged_once_its_handler_has_succeeded() -> None:
    async with scripted_server() as server, node_tab(server.url, **FAST) as tab:
        visit = await welcome(server)
        await tab.run(
            "void client.on('x', async (e) => { if (e.payload.n === 2) throw new Error('bug'); "
            "await new Promise((r) => globalThis['go' + e.payload.n] = r); })"
        )
        await visit.events("e", 1, 2, 3, ack=True)
        await visit.events("e", 4)
        await tab.until_told("event", 4)
        assert visit.received == []
        assert tab.all("error") == ["Error: bug"]
        await tab.run("go1()")
        await eventually(lambda: visit.received == [{"type": "ack", "id": "e:1"}])
        await tab.run("void (go3(), go4())")
        await eventually(lambda: len(visit.received) == 2)
        assert visit.received[1] == {"type": "ack", "id": "e:3"}
        await visit.close()
        visit = await server.visit()  # what may have been lost is said again
        await eventually(lambda: len(visit.received) == 2)
        assert {each["id"] for each in visit.received} == {"e:1", "e:3"}
        await visit.events("e", 3, ack=True)
        await eventually(lambda: len(visit.received) == 3)
        assert len(tab.events) == 4


async def test_control_a_failed_handler_is_no_acknowledgement(tmp_path: Path) -> None:
    module = planted("acknowledges what failed", tmp_path)
    async with scripted_server() as server, node_tab(server.url, module, **FAST) as tab:
        visit = await welcome(server)
        await tab.run("void client.on('x', () => { throw new Error('bug') })")
        await visit.events("e", 1, ack=True)
        await eventually(lambda: visit.received == [{"type": "ack", "id": "e:1"}])


async def test_a_pong_confirms_the_acknowledgements_before_its_ping() -> None:
    async with scripted_server() as server:
        options = {"heartbeat": {"interval": 500, "timeout": 5000}, **FAST}
        async with node_tab(server.url, **options) as tab:
            visit = await welcome(server)
            await visit.events("e", 1, ack=True)
            await eventually(lambda: {"type": "ping"} in visit.received)
            assert visit.received[0] == {"type": "ack", "id": "e:1"}
            await visit.send({"type": "pong"})
            await visit.events("e", 2)
            await tab.until_told("event", 2)
            await visit.close()
            visit = await server.visit()
            await visit.events("e", 3, ack=True)
            await eventually(lambda: {"type": "ack", "id": "e:3"} in visit.received)
            assert {"type": "ack", "id": "e:1"} not in visit.received


async def test_acknowledging_by_hand() -> None:
    async with scripted_server() as server, node_tab(server.url, autoAck=False) as tab:
        visit = await welcome(server)
        await visit.events("e", 1, 2, ack=True)
        await tab.until_told("event", 2)
        await tab.run("client.ack({id: 'e:2'})")
        await eventually(lambda: visit.received == [{"type": "ack", "id": "e:2"}])


# -- handlers and iterators -----------------------------------------------------


async def test_handlers_by_type_and_a_failing_one_harms_no_other() -> None:
    async with scripted_server() as server, node_tab(server.url) as tab:
        await tab.run("globalThis.got = []")
        await tab.run("void client.on('x', () => { throw new Error('bug') })")
        off = "globalThis.off = client.on('x', (e) => void got.push('x' + e.payload.n))"
        await tab.run(f"void ({off})")
        await tab.run("void client.on('y', (e) => void got.push('y' + e.payload.n))")
        visit = await welcome(server)
        await visit.events("e", 1)
        await visit.events("e", 2, type="y")
        await tab.until_told("event", 2)
        await tab.run("off()")
        await visit.events("e", 3)
        await visit.connection.send("plain text")
        await visit.connection.send('{"type": 5}')
        await tab.until_told("other", 2)
        assert await tab.run("got") == ["x1", "y2"]
        assert tab.all("error") == ["Error: bug", "Error: bug"]
        assert tab.all("other") == ["plain text", '{"type": 5}']


async def test_the_events_as_an_iterator() -> None:
    async with scripted_server() as server, node_tab(server.url) as tab:
        await tab.run(
            "void (globalThis.took = (async () => { const out = []; for await (const e of client) "
            "{ out.push(e.payload.n); await 0; if (e.payload.n === 3) break; } return out; })())"
        )
        await tab.run(
            "void (globalThis.all = (async () => { const out = []; for await (const e of client.events()) "
            "out.push(e.payload.n); return out; })())"
        )
        await tab.run("void (globalThis.behind = client.events(2)[Symbol.asyncIterator]())")
        visit = await welcome(server)
        await visit.events("e", 1, 2, 3, 4)
        await tab.until_told("event", 4)
        assert await tab.run("took") == [1, 2, 3]
        await tab.run("client.close()")
        assert await tab.run("all") == [1, 2, 3, 4]
        assert (await tab.run("behind.next()"))["value"]["payload"]["n"] == 1
        assert (await tab.run("behind.next()"))["value"]["payload"]["n"] == 2
        assert await tab.run("behind.next().catch((e) => e.message.includes('2 events'))") is True
        assert (await tab.run("client.events().next()"))["done"] is True


# -- the package ----------------------------------------------------------------


async def test_the_table_of_close_codes_is_the_same_in_javascript() -> None:
    async with node_tab() as tab:
        table = await tab.run("module.CLOSE_CODES")
        assert {
            int(code): (row[0], row[1], row[2] if len(row) > 2 else None)
            for code, row in table.items()
        } == {row.code: (row.name, row.reconnect, row.retry_after) for row in CLOSE_CODES.values()}
        codes = [*range(1000, 1016), 2999, 3000, 3499, 4000, 4399, *range(4400, 4600), 4999]
        infos = await tab.run(f"{codes}.map((code) => module.closeInfo(code))")
        for code, info in zip(codes, infos, strict=True):
            row = close_code(code)
            assert (info["name"], info["reconnect"]) == (row.name, row.reconnect), code
        for reason in (
            "retry-after=3", "x; retry-after=0.25", "retry-after=", "retry-after=-1", "", "x",
            "noretry-after=5", "retry-after=1.5.5", close_reason("é" * 200, 12.5),
        ):  # fmt: skip
            seconds = await tab.run(f"module.closeInfo(1012, {json.dumps(reason)}).retryAfter")
            assert seconds == retry_after(reason), reason


def test_it_is_small() -> None:
    size = len(gzip.compress(MODULE.read_bytes(), 9, mtime=0))
    assert size < 5000, f"{size} bytes gzipped"


def test_npm_packs_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [*npm_command(), "pack", "--json", "--offline", "--pack-destination", str(tmp_path)],
        cwd=shutil.copytree(FOLDER, tmp_path / "client"),
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = json.loads(done.stdout)
    (pack,) = found if isinstance(found, list) else found.values()
    assert {file["path"] for file in pack["files"]} == {
        "package.json",
        "wsmanager.d.ts",
        "wsmanager.js",
    }
    assert pack["version"] == wsmanager.__version__


def test_node_takes_it_as_a_module() -> None:
    subprocess.run([*node_command(), "--check", str(MODULE)], check=True, timeout=30)
