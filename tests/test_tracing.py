"""Spans of emits, by the real OpenTelemetry SDK: one an emit, none a write, and no secret in any."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from support.agent import run_agent
from support.clients import open_tab
from support.servers import UvicornServer
from support.sockets import StarletteSocket, SuspendingSocket

import wsmanager
from wsmanager import _wsmanager as core
from wsmanager import get_websocket_manager, tracing

MESSAGING = {
    "messaging.system": "wsmanager",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
    "messaging.destination.template": "user/{user_id}",
}


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN", raising=False)
    yield InMemorySpanExporter()
    tracing.uninstrument()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Callable[[], list[ReadableSpan]]:
    return lambda: list(exporter.get_finished_spans())


Spans = Callable[[], list[ReadableSpan]]


def names_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_one_span_an_emit_however_many_connections(
    provider: TracerProvider, spans: Spans
) -> None:
    tracing.instrument(tracer_provider=provider, messaging=True)
    manager = get_websocket_manager("ann")
    for _ in range(20):
        manager.add_connection(StarletteSocket())
    manager.add_connection(SuspendingSocket(3))
    delivery = manager.emit_event(
        "tool_executing",
        {"agent_name": "researcher", "tool_name": "search", "tool_call_id": "call-1", "q": "x"},
        thread_id=None,
        run_id="run-7",
    )
    await delivery.flushed(5)
    (span,) = spans()
    assert span.name == "send user/{user_id}"
    assert span.kind is SpanKind.PRODUCER
    assert span.status.status_code is StatusCode.UNSET
    assert span.links == ()
    assert names_of(span) == {
        **MESSAGING,
        "messaging.message.id": delivery.id,
        "wsmanager.event.type": "tool_executing",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.agent.name": "researcher",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": "call-1",
        "wsmanager.run.id": "run-7",
        "wsmanager.delivery.sent": 20,
        "wsmanager.delivery.queued": 1,
        "wsmanager.delivery.dropped": 0,
        "wsmanager.delivery.failed": 0,
        "wsmanager.delivery.stored": 1,
    }


async def test_messaging_names_are_an_option(
    provider: TracerProvider, spans: Spans, exporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in development: not there unless asked for, by the argument or the variable."""
    manager = get_websocket_manager("ann")
    for asked, variable, expected in (
        (None, "", False), (None, "http", False), (None, "http, messaging", True),
        (None, "messaging/dup", True), (True, "", True), (False, "messaging", False),
    ):  # fmt: skip
        monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", variable)
        tracing.instrument(tracer_provider=provider, messaging=asked)
        manager.emit_event("x", {})
        (span,) = spans()
        assert ("messaging.system" in names_of(span)) is expected, (asked, variable)
        exporter.clear()


async def test_it_is_the_child_of_what_is_current(provider: TracerProvider, spans: Spans) -> None:
    """In a request's span, and in a worker thread that was given its context."""
    tracing.instrument(tracer_provider=provider)
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("request") as request:
        await asyncio.to_thread(run_agent, "ann")
    children = [span for span in spans() if span.name.startswith("send")]
    assert len(children) == 5
    for child in children:
        assert child.parent is not None
        assert child.parent.span_id == request.get_span_context().span_id
    assert [names_of(child)["wsmanager.event.type"] for child in children] == [
        "agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed",
    ]  # fmt: skip


async def test_the_context_is_in_the_envelope_only_if_asked(
    provider: TracerProvider, spans: Spans
) -> None:
    socket = StarletteSocket()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket)
    manager.emit_event("x", {"n": 0})
    tracing.instrument(tracer_provider=provider)
    manager.emit_event("x", {"n": 1})
    tracing.instrument(tracer_provider=provider, propagate=True)
    manager.emit_event("x", {"n": 2})
    manager.send_to_user({"type": "x", "payload": {"n": 3}, "more": "kept"})
    tracing.uninstrument()
    manager.emit_event("x", {"n": 4})
    events = socket.events
    assert [event["payload"]["n"] for event in events] == [0, 1, 2, 3, 4]
    assert [index for index, event in enumerate(events) if "traceparent" in event] == [2, 3]
    assert events[3]["more"] == "kept"
    assert {"type", "payload", "id", "user_id", "thread_id", "run_id", "timestamp"} < set(events[2])
    assert set(events[2]) - set(events[0]) == {"traceparent"}
    for event, span in zip(events[2:4], spans()[1:], strict=True):
        context = span.get_span_context()
        assert context is not None
        ids = f"{context.trace_id:032x}-{context.span_id:016x}"
        assert event["traceparent"] == f"00-{ids}-{context.trace_flags:02x}"


async def test_the_context_is_not_in_a_messages_payload(provider: TracerProvider) -> None:
    socket = StarletteSocket()
    get_websocket_manager("ann").add_connection(socket)
    wsmanager.configure(envelope="mixed")
    tracing.instrument(tracer_provider=provider, propagate=True)
    get_websocket_manager("ann").send_to_user({"type": "x", "data": {"n": 1}, "more": 2})
    (event,) = socket.events
    assert "traceparent" in event
    assert event["payload"] == {"n": 1, "more": 2}


async def test_consumers_link_and_are_no_children(provider: TracerProvider, spans: Spans) -> None:
    """Over a real server: what the far side reads leads back to the emit."""
    tracing.instrument(tracer_provider=provider, propagate=True)
    with UvicornServer() as server:
        tab = await open_tab(server.url, "ann")
        await get_websocket_manager("ann").emit_event("agent_started", {})
        await tab.read(1)
        await tab.client.close()
    tracer = provider.get_tracer("consumer")
    with tracer.start_as_current_span("process", links=tracing.links_of(tab.events[0])):
        pass
    emitted, processed = spans()
    assert processed.parent is None
    (link,) = processed.links
    assert emitted.context is not None
    assert link.context.trace_id == emitted.context.trace_id
    assert link.context.span_id == emitted.context.span_id


@pytest.mark.parametrize(
    "given",
    [{}, {"traceparent": None}, {"traceparent": 5}, {"traceparent": "x"}, {"traceparent": ["00"]},
     {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}, {"traceparent": "x" * 100_000},
     {"tracestate": "a=b"}],
)  # fmt: skip
def test_a_forged_context_is_no_link(provider: TracerProvider, given: Any) -> None:
    with provider.get_tracer("x").start_as_current_span("current, and no producer"):
        assert tracing.links_of(given) == []


async def test_a_broadcast_is_one_span(provider: TracerProvider, spans: Spans) -> None:
    sockets = [StarletteSocket() for _ in range(5)]
    for number, socket in enumerate(sockets):
        get_websocket_manager(f"user-{number}").add_connection(socket)
    tracing.instrument(tracer_provider=provider, propagate=True, messaging=True)
    assert wsmanager.broadcast({"type": "notice", "payload": {"a": 1}}) == 5
    (span,) = spans()
    assert span.name == "send users"
    assert names_of(span)["wsmanager.users"] == 5
    assert names_of(span)["messaging.destination.template"] == "users"
    assert len({socket.events[0]["traceparent"] for socket in sockets}) == 1
    assert all(socket.events[0]["payload"] == {"a": 1} for socket in sockets)


async def test_what_is_refused_is_an_error_without_its_text(
    provider: TracerProvider, spans: Spans
) -> None:
    tracing.instrument(tracer_provider=provider)
    manager = get_websocket_manager("ann")
    with pytest.raises(wsmanager.EncodeError):
        manager.emit_event("x", {"canary": object()})
    with pytest.raises(wsmanager.WebSocketManagerError):
        wsmanager.broadcast({"type": "x", "payload": {"canary": object()}}) or manager.emit_event(
            "x", {"canary": float("nan")}
        )
    failed = [span for span in spans() if span.status.status_code is StatusCode.ERROR]
    assert names_of(failed[0])["error.type"] == "wsmanager.EncodeError"
    for span in spans():
        assert "canary" not in span.to_json()


async def test_no_span_holds_a_payload_or_a_user(provider: TracerProvider, spans: Spans) -> None:
    tracing.instrument(tracer_provider=provider, messaging=True, propagate=True)
    manager = get_websocket_manager({"user_id": "canary-user", "token": "canary-token"})
    manager.add_connection(StarletteSocket(), connection_id="canary-connection")
    manager.emit_event("x", {"secret": "canary-payload", "agent_name": {"canary": 1}, "run_id": 5})
    manager.emit_event("canary"[:0] + "y", ["canary-list"])
    (one, two) = spans()
    for span in (one, two):
        assert "canary" not in span.to_json()
        json.loads(span.to_json())


async def test_only_what_is_wanted(provider: TracerProvider, spans: Spans) -> None:
    tracing.instrument(tracer_provider=provider, wanted=lambda kind: kind != "token")
    manager = get_websocket_manager("ann")
    for kind in ("token", "agent_started", "token"):
        manager.emit_event(kind, {})
    assert [names_of(span)["wsmanager.event.type"] for span in spans()] == ["agent_started"]
    with pytest.raises(TypeError, match="wanted is a function"):
        tracing.instrument(wanted="x")  # type: ignore[arg-type]


async def test_without_instrument_there_is_no_span(provider: TracerProvider, spans: Spans) -> None:
    trace_before = trace.get_current_span()
    get_websocket_manager("ann").emit_event("x", {})
    assert spans() == []
    assert not tracing.is_instrumented()
    tracing.instrument(tracer_provider=provider)
    assert tracing.is_instrumented()
    assert trace.get_current_span() is trace_before


async def test_a_span_that_is_not_sampled_costs_no_event(spans: Spans) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    tracing.instrument(tracer_provider=provider, propagate=True)
    socket = StarletteSocket()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket)
    assert (await manager.emit_event("x", {})).sent == 1
    assert socket.events[0]["traceparent"][-1] in "02"  # the bit of "sampled" is not set
    provider.shutdown()


@pytest.mark.parametrize("stage", ["begin", "shape", "members", "finish"])
async def test_tracing_that_fails_costs_no_event(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is written as unraisable; the event goes out, and an error of the emit stays."""
    import sys

    seen: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.append(str(what.exc_value)))

    def finish(result: Any, error: Any) -> None:
        if stage == "finish":
            raise RuntimeError("tracing is broken")

    def hook(*_: Any) -> Any:
        if stage == "begin":
            raise RuntimeError("tracing is broken")
        if stage == "shape":
            return 5
        return ({"a": 1} if stage == "finish" else 7, finish)

    socket = StarletteSocket()
    manager = get_websocket_manager("ann")
    manager.add_connection(socket)
    core_any: Any = core
    core_any._install(trace=hook)
    try:
        assert (await manager.emit_event("x", {"n": 1})).sent == 1
        with pytest.raises(wsmanager.EncodeError):
            manager.emit_event("x", {"n": object()})
        assert wsmanager.broadcast({"type": "x", "payload": {}}) == 1
    finally:
        core_any._install(trace=None)
    assert [event["type"] for event in socket.events] == ["x", "x"]
    assert len(seen) == 3


def test_emits_of_many_threads(provider: TracerProvider, spans: Spans) -> None:
    tracing.instrument(tracer_provider=provider)
    threads = [threading.Thread(target=run_agent, args=(f"user-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans()) == 40


def test_without_the_library_it_says_so(isolated: Callable[..., Any]) -> None:
    isolated("""
import sys
sys.modules["opentelemetry"] = None
import wsmanager
try:
    import wsmanager.tracing
except ImportError as error:
    assert "wsmanager[otel]" in str(error)
else:
    raise AssertionError("no error")
wsmanager.get_websocket_manager("ann").emit_event("x", {})
""")
