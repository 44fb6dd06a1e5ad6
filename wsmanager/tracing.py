"""OpenTelemetry: one span per emit, when asked for.

::

    wsmanager.tracing.instrument()                  # spans of emits
    wsmanager.tracing.instrument(propagate=True)    # and their context in the envelope

A span is of kind PRODUCER and a child of what is current where the emit is
called. The writes to a user's connections are no spans, however many there
are; a broadcast to all users is one span. Who consumes an event starts a span
of its own and links it to the emit's, which may have ended long ago::

    with tracer.start_as_current_span("process event", links=links_of(envelope)):
        ...

No span holds a payload or the id of a user. The names are those of the
semantic conventions for generative AI and, if wanted, for messaging, which are
still in development. Needs ``wsmanager[otel]``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ._hooks import core
from ._log import error_name
from ._version import __version__

try:
    from opentelemetry import trace
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _missing:
    raise ImportError(
        "wsmanager.tracing needs opentelemetry-api: pip install 'wsmanager[otel]'"
    ) from _missing

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument", "is_instrumented", "links_of", "uninstrument"]

Finish = Callable[[Any, "BaseException | None"], None]
Wanted = Callable[[str], bool]

#: Where an event goes, by the core's word for it; never with the id itself.
_TEMPLATES: Final = {"user": "user/{user_id}", "users": "users"}

_OPERATIONS: Final = {
    "agent_started": "invoke_agent",
    "agent_thinking": "invoke_agent",
    "agent_completed": "invoke_agent",
    "tool_executing": "execute_tool",
    "tool_completed": "execute_tool",
}

_OF_DATA: Final = {
    "agent_name": "gen_ai.agent.name",
    "agent_id": "gen_ai.agent.id",
    "tool_name": "gen_ai.tool.name",
    "tool_call_id": "gen_ai.tool.call.id",
}

_COUNTS: Final = ("sent", "queued", "dropped", "failed", "stored")

_propagator: Final = TraceContextTextMapPropagator()


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    propagate: bool = False,
    messaging: bool | None = None,
    wanted: Wanted | None = None,
) -> None:
    """Make a span of each emit from now on, in all threads; a later call replaces this one.

    :param tracer_provider: whose tracer; ``None``: the global one.
    :param propagate: put ``traceparent`` (W3C Trace Context), and ``tracestate``
        where there is one, at the root of the envelope, which the browser gets.
    :param messaging: whether to set the ``messaging.*`` attributes. ``None``: if
        ``OTEL_SEMCONV_STABILITY_OPT_IN`` names ``messaging`` or ``messaging/dup``.
    :param wanted: a function of an event's type: which events get a span (all).
    """
    if wanted is not None and not callable(wanted):
        raise TypeError(f"wanted is a function or None, not {type(wanted).__name__}")
    tracer = trace.get_tracer("wsmanager", __version__, tracer_provider=tracer_provider)
    core._install(trace=_Emits(tracer, propagate, _messaging(messaging), wanted))
    _State.instrumented = True


def uninstrument() -> None:
    """No more spans."""
    core._install(trace=None)
    _State.instrumented = False


def is_instrumented() -> bool:
    """Whether :func:`instrument` is in force."""
    return _State.instrumented


class _State:
    instrumented = False


def _messaging(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    words = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    return bool({"messaging", "messaging/dup"} & {word.strip().lower() for word in words})


def links_of(envelope: Mapping[str, Any]) -> list[Link]:
    """The link from a consumer's span to the emit of an event that was received.

    :param envelope: the event as it came; without a valid ``traceparent``
        there is no link, and no error: it comes from outside.
    """
    carrier = {
        name: value
        for name in ("traceparent", "tracestate")
        if isinstance(value := envelope.get(name), str)
    }
    context = trace.get_current_span(_propagator.extract(carrier)).get_span_context()
    # Without one of its own the propagator gives what is current, which is no producer.
    return [Link(context)] if context.is_valid and context.is_remote else []


class _Emits:
    """The hook the core calls around each emit."""

    def __init__(
        self, tracer: trace.Tracer, propagate: bool, messaging: bool, wanted: Wanted | None
    ) -> None:
        self._tracer = tracer
        self._propagate = propagate
        self._messaging = messaging
        self._wanted = wanted

    def __call__(
        self, where: str, kind: str, data: object, thread_id: str | None, run_id: str | None
    ) -> tuple[dict[str, str] | None, Finish] | None:
        if self._wanted is not None and not self._wanted(kind):
            return None
        template = _TEMPLATES[where]
        span = self._tracer.start_span(f"send {template}", kind=SpanKind.PRODUCER)
        if span.is_recording():
            span.set_attributes(_attributes(kind, data, thread_id, run_id))
            if self._messaging:
                span.set_attributes(
                    {
                        "messaging.system": "wsmanager",
                        "messaging.operation.name": "send",
                        "messaging.operation.type": "send",
                        "messaging.destination.template": template,
                    }
                )
        members: dict[str, str] | None = None
        if self._propagate and span.get_span_context().is_valid:
            members = {}
            _propagator.inject(members, trace.set_span_in_context(span))
        return members, _finish(span, self._messaging)


def _attributes(
    kind: str, data: object, thread_id: str | None, run_id: str | None
) -> dict[str, str]:
    found = {"wsmanager.event.type": kind}
    if kind in _OPERATIONS:
        found["gen_ai.operation.name"] = _OPERATIONS[kind]
    fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
    for name, attribute in _OF_DATA.items():
        if isinstance(value := fields.get(name), str):
            found[attribute] = value
    for given, name, attribute in (
        (thread_id, "thread_id", "gen_ai.conversation.id"),
        (run_id, "run_id", "wsmanager.run.id"),
    ):
        if isinstance(value := given or fields.get(name), str):
            found[attribute] = value
    return found


def _finish(span: Span, messaging: bool) -> Finish:
    def finish(result: Any, error: BaseException | None) -> None:
        try:
            if error is not None:
                # Its text may hold anything, so its type is all that is told.
                span.set_attribute("error.type", error_name(error))
                span.set_status(Status(StatusCode.ERROR))
            elif isinstance(result, int):
                span.set_attribute("wsmanager.users", result)
            elif span.is_recording():
                receipt = result.receipt
                for name in _COUNTS:
                    span.set_attribute(f"wsmanager.delivery.{name}", getattr(receipt, name))
                if messaging:
                    span.set_attribute("messaging.message.id", result.id)
        finally:
            span.end()

    return finish
