"""From an agent's work to the events its user sees."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from . import events
from ._order import EventOrderError
from ._stage import Stage, Terms, stage_of
from ._wsmanager import (
    Delivery,
    InvalidUserContext,
    UnifiedWebSocketManager,
    UserIsolationError,
    get_websocket_manager,
)
from .deltas import DELTA_INTERVAL, TextDelta
from .runs import OnUnfinished, RunState

__all__ = ["AgentWebSocketBridge", "EventOrderError"]

UNFINISHED_AFTER = 300.0
"""Seconds without an event after which a run that has not ended is said to be unfinished."""


class AgentWebSocketBridge:
    """Sends the events of one user's agent runs, from any thread.

    Every method sends at the call, whether or not its result is awaited, and
    returns a :class:`~wsmanager.Delivery`: true if a connection took the
    event, and ``await`` gives its receipt::

        bridge = AgentWebSocketBridge(get_websocket_manager(context))
        bridge.notify_agent_started("run-1", "researcher")
        bridge.notify_tool_executing("run-1", "search", parameters={"q": "tea"})

    All of an event's fields are under ``payload``; ``run_id``, ``thread_id``,
    ``agent_name`` and ``tool_name`` are at the root of the envelope as well.
    Optional fields that are not given are left out.

    :param manager: the user's manager, or what :func:`get_websocket_manager`
        takes: a user context.
    :param user_context: the context, by its own name.
    :param thread_id: the chat thread the runs belong to; by default the
        ``thread_id`` of the context, if it has one. It is written into the
        events; all of the user's connections get them.
    :param strict: refuse events in an impossible order with
        :class:`EventOrderError`, sending nothing: an agent that works before
        it started or after it completed, a tool completed that was never
        started. The strict bridges of a user follow up to 4,096 runs together.
    :param delta_interval: seconds that text of :meth:`notify_text_delta` may
        wait to be merged (0.025); 0: each piece is an event of its own.
    :param unfinished_after: seconds without an event after which a run that
        has not ended is flagged as unfinished (300); ``None``: never. It and
        *on_unfinished* hold for a run from the last event of it that this
        bridge sends.
    :param on_unfinished: a plain function that is then called once, with the
        :class:`~wsmanager.runs.RunState`; a later event of the run makes it
        run again. It is called on an event loop's thread or, where no loop is
        alive, from a later call of any bridge, with no lock held. What it
        raises is logged, not passed on.

    A bridge for no user (no arguments) needs ``user_context`` at each call that
    sends an event, and refuses one without it with
    :class:`~wsmanager.InvalidUserContext`; given the manager of ``None`` it sends
    to the connections that this manager has. A bridge for a user refuses the
    context of another with :class:`~wsmanager.UserIsolationError`.

    The bridges of one user send one at a time, in any thread: an event is
    encoded in parallel, then handed to the connections under the user's lock.
    Do not call a bridge while you hold a lock that your own WebSocket class
    takes in its ``send``.
    """

    def __init__(
        self,
        manager: Any = None,
        *,
        user_context: Any = None,
        thread_id: str | None = None,
        strict: bool = False,
        delta_interval: float = DELTA_INTERVAL,
        unfinished_after: float | None = UNFINISHED_AFTER,
        on_unfinished: OnUnfinished | None = None,
    ) -> None:
        if manager is not None and user_context is not None:
            raise TypeError("give AgentWebSocketBridge() a manager or a user_context, not both")
        self._for_nobody = manager is None and user_context is None
        if manager is None or not callable(getattr(manager, "emit_event", None)):
            context = user_context if manager is None else manager
            manager = get_websocket_manager(context)
        else:
            context = getattr(manager, "user_context", None)
        self._manager: UnifiedWebSocketManager = manager
        self._thread_id = _thread_of(context) if thread_id is None else thread_id
        self._terms = _terms(strict, delta_interval, unfinished_after, on_unfinished)

    @property
    def manager(self) -> UnifiedWebSocketManager:
        """The manager of the user whose runs these are."""
        return self._manager

    @property
    def user_id(self) -> str | None:
        """The user whose runs these are."""
        return self._manager.user_id

    @property
    def strict(self) -> bool:
        """Whether an impossible order is refused."""
        return self._terms.strict

    def __repr__(self) -> str:
        return f"<AgentWebSocketBridge of {self._manager!r}{', strict' if self.strict else ''}>"

    def notify_agent_started(
        self,
        run_id: str,
        agent_name: str,
        context: Mapping[str, Any] | None = None,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        agent_id: str | None = None,
        agent_type: str | None = None,
        message: str | None = None,
        thread_id: str | None = None,
    ) -> Delivery:
        """``agent_started``: the agent begins.

        :param context: more about the run. Its ``agent_id``, ``agent_type``,
            ``status`` and ``message`` are the event's own fields of that name;
            the whole is under ``context``.
        """
        given = {} if context is None else dict(context)
        data = {
            "agent_id": agent_id or given.get("agent_id") or agent_name,
            "agent_type": agent_type or given.get("agent_type") or agent_name,
            "status": given.get("status") or "started",
            "message": message or given.get("message") or f"{agent_name} started",
        }
        if given:
            data["context"] = given
        return self._send(
            "agent_started", run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def notify_agent_thinking(
        self,
        run_id: str,
        agent_name: str,
        reasoning: str,
        step_number: int | None = None,
        progress_percentage: float | None = None,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        total_steps: int | None = None,
        thread_id: str | None = None,
    ) -> Delivery:
        """``agent_thinking``: what the agent considers now.

        :param progress_percentage: 0 to 100.
        """
        data = _given(
            step_number=step_number,
            total_steps=total_steps,
            progress_percentage=progress_percentage,
        )
        data["reasoning"] = reasoning
        return self._send(
            "agent_thinking", run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def notify_tool_executing(
        self,
        run_id: str,
        tool_name: str,
        agent_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        thread_id: str | None = None,
    ) -> Delivery:
        """``tool_executing``: a tool was called with *parameters*."""
        data = {"tool_name": tool_name, "parameters": {} if parameters is None else parameters}
        return self._send(
            "tool_executing", run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def notify_tool_completed(
        self,
        run_id: str,
        tool_name: str,
        result: Any = None,
        agent_name: str | None = None,
        execution_time_ms: float | None = None,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        thread_id: str | None = None,
    ) -> Delivery:
        """``tool_completed``: a tool gave its *result*.

        :param execution_time_ms: how long it took, in milliseconds.
        """
        data = _given(execution_time_ms=execution_time_ms)
        data.update(tool_name=tool_name, result=result)
        return self._send(
            "tool_completed", run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def notify_agent_completed(
        self,
        run_id: str,
        agent_name: str,
        result: Any = None,
        execution_time_ms: float | None = None,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        metrics: Mapping[str, Any] | None = None,
        message: str | None = None,
        thread_id: str | None = None,
    ) -> Delivery:
        """``agent_completed``: the agent is done.

        :param execution_time_ms: how long the run took, in milliseconds.
        """
        data = _given(execution_time_ms=execution_time_ms, metrics=metrics, message=message)
        data["result"] = result
        return self._send(
            "agent_completed", run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def notify_agent_error(
        self,
        run_id: str,
        agent_name: str,
        error: str | BaseException,
        error_context: Mapping[str, Any] | None = None,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        thread_id: str | None = None,
    ) -> Delivery:
        """``agent_error``: the agent failed; as critical as its completion.

        :param error: what the user is told. An exception is told by its text,
            and its type's name is under ``error_type``.
        """
        data = _given(status="failed", error=str(error), error_context=error_context)
        if isinstance(error, BaseException):
            data["error_type"] = type(error).__name__
        return self._send(
            "agent_error", run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def notify_progress_update(
        self,
        run_id: str,
        agent_name: str,
        progress: Mapping[str, Any] | float,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        thread_id: str | None = None,
    ) -> Delivery:
        """``progress_update``: fields of your own, or a number: ``progress_percentage``, 0 to 100."""
        data = (
            dict(progress) if isinstance(progress, Mapping) else {"progress_percentage": progress}
        )
        return self._send(
            "progress_update", run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def notify_custom(
        self,
        run_id: str,
        agent_name: str,
        notification_type: str,
        data: Mapping[str, Any] | None = None,
        trace_context: Mapping[str, Any] | None = None,
        user_context: Any = None,
        *,
        thread_id: str | None = None,
    ) -> Delivery:
        """An event of your own type with your own fields."""
        data = {} if data is None else dict(data)
        return self._send(
            notification_type, run_id, agent_name, data, trace_context, user_context, thread_id
        )

    def emit_agent_event(
        self,
        event_type: str,
        data: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        agent_name: str | None = None,
        *,
        user_context: Any = None,
        thread_id: str | None = None,
    ) -> Delivery:
        """Any event, with *data* as it is; ``run_id`` and ``agent_name`` may also be in it."""
        fields = {} if data is None else dict(data)
        if run_id is None:
            run_id = fields.get("run_id")
        if agent_name is None:
            agent_name = _text(fields.get("agent_name"))
        return self._send(event_type, run_id, agent_name, fields, None, user_context, thread_id)

    def notify_text_delta(
        self,
        run_id: str,
        text: str,
        kind: str = "text",
        agent_name: str | None = None,
        user_context: Any = None,
        *,
        thread_id: str | None = None,
    ) -> TextDelta:
        """``text_delta``: the agent wrote *text*, a token or more.

        Pieces of one run and *kind* that come within ``delta_interval``
        seconds are sent as one event, joined; ``offset`` is the place of its
        first character in the text of that kind. They are sent before any
        other event of the user's bridges, so none overtakes them; only the
        texts of two runs are merged side by side. Where no event loop is alive
        to end the wait, each piece is sent at once. What waits when the
        process ends is sent by an ``atexit`` function if a connection is there
        still; :meth:`flush` sends it before that.

        :param kind: which text of the run it is, such as ``"reasoning"``.
        :raises EncodeError: for a lone surrogate.
        :raises EventTooLarge: for a piece that is too large for an event.
        """
        manager = self._manager_of(user_context)
        if not _text(kind):
            raise TypeError("kind is a str that is not empty")
        return stage_of(manager).send_text(
            manager,
            str(run_id),
            text,
            kind,
            agent_name,
            thread_id or _thread_of(user_context) or self._thread_id,
            self._terms,
        )

    def flush(self) -> None:
        """Send the user's text that waits to be merged, now."""
        self._stage.flush_now()

    # -- what is known of the runs -------------------------------------------------

    @property
    def runs(self) -> tuple[RunState, ...]:
        """The user's runs that are known, the one longest without an event first.

        A table of a user keeps 64 runs, 512 KiB, and a run for 15 minutes
        after it ended; all bridges of the user share it.
        """
        return self._stage.states()

    def run(self, run_id: str) -> RunState | None:
        """The state of a run of this user, or ``None`` if it is not known."""
        return self._stage.state(run_id)

    def snapshot(self, run_id: str, connection_id: str | None = None) -> Delivery:
        """``run_snapshot``: the state of a run in one event, in place of all of its events.

        It says exactly what the events of this user's bridges before it said:
        a tab that takes it, and then the events after it, has the whole run.
        The payload has the fields of :class:`~wsmanager.runs.RunState`, and
        ``found``: false for a run that is not known, be it forgotten, another
        user's, or none at all.

        :param connection_id: send it to this connection of the user only.
        :raises ConnectionNotFound: the user has no such connection.
        """
        return self._stage.snapshot(self._manager, str(run_id), connection_id)

    def answer(self, message: object, connection_id: str | None = None) -> tuple[Delivery, ...]:
        """Answer a client's ``{"type": "snapshot", "run_id": ...}``.

        Give it each message that a connection sends::

            async for text in websocket.iter_text():
                if not bridge.answer(text, connection_id):
                    ...  # not a request for a snapshot

        Without a ``run_id`` all open runs are told, one event each, or where
        there is none one event with ``found`` false and no ``run_id``.

        :param message: JSON text or bytes, or a mapping.
        :return: the deliveries; empty if *message* is anything else.
        """
        request = _request(message)
        if request is None:
            return ()
        run_id = request.get("run_id")
        if run_id is not None:
            return (self.snapshot(run_id, connection_id),) if isinstance(run_id, str) else ()
        return self._stage.snapshot_open(self._manager, connection_id)

    def get_stats(self) -> dict[str, int]:
        """Counts of this user's bridges: runs open, ended, found unfinished, text merged."""
        return self._stage.stats()

    @property
    def _stage(self) -> Stage:
        return stage_of(self._manager)

    def _send(
        self,
        event: str,
        run_id: str | None,
        agent_name: str | None,
        data: dict[str, Any],
        trace_context: Mapping[str, Any] | None,
        user_context: Any,
        thread_id: str | None,
    ) -> Delivery:
        """Add the names of run, agent and thread to *data*, which is ours, and send it."""
        manager = self._manager_of(user_context)
        if agent_name is not None:
            data["agent_name"] = agent_name
        if trace_context is not None:
            data["trace_context"] = trace_context
        names: dict[str, Any] = {}
        if run_id is not None:
            names["run_id"] = str(run_id)
        thread_id = thread_id or _thread_of(user_context) or self._thread_id
        if thread_id is not None:
            names["thread_id"] = thread_id
        if event == "agent_error":
            names["critical"] = True
        return stage_of(manager).send(
            manager,
            event,
            data,
            names,
            agent_name,
            self._terms,
        )

    def _manager_of(self, user_context: Any) -> UnifiedWebSocketManager:
        """The manager to use for a call, by the context that it was given, if any."""
        if user_context is None:
            if self._for_nobody:
                raise InvalidUserContext(
                    "this bridge is for no user: give the call a user_context, or "
                    "AgentWebSocketBridge() the user's manager or context"
                )
            return self._manager
        own: object = self._manager.user_id
        if own is None:
            return get_websocket_manager(user_context)
        # A test's stand-in for a manager may have any user_id, and is taken as it is.
        if isinstance(own, str) and _user_of(user_context) != own:
            raise UserIsolationError(
                "the user_context of this call is another user's than the bridge's"
            )
        return self._manager


def _terms(
    strict: bool, delta_interval: float, unfinished_after: float | None, on_unfinished: object
) -> Terms:
    interval = _seconds("delta_interval", delta_interval, 0.0)
    if unfinished_after is not None:
        unfinished_after = _seconds("unfinished_after", unfinished_after, 0.001)
    if on_unfinished is None:
        return Terms(bool(strict), interval, unfinished_after, None)
    if not callable(on_unfinished) or inspect.iscoroutinefunction(on_unfinished):
        raise TypeError("on_unfinished is a plain function that takes the state of the run")
    return Terms(bool(strict), interval, unfinished_after, on_unfinished)


def _seconds(name: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__qualname__}")
    if not math.isfinite(value) or value < least:
        raise ValueError(f"{name}={value!r}: expected {least} seconds or more")
    return float(value)


def _request(message: object) -> Mapping[str, Any] | None:
    """*message* if it asks for a snapshot; a client may send anything."""
    if isinstance(message, (str, bytes)):
        if len(message) > _MAX_REQUEST:
            return None
        try:
            message = events.decode(message)
        except (ValueError, RecursionError):
            return None
    if isinstance(message, Mapping) and message.get("type") == "snapshot":
        return message
    return None


_MAX_REQUEST = 4096  # bytes; a request is much smaller


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _text(found: object) -> str | None:
    return found if isinstance(found, str) and found else None


def _user_of(context: Any) -> str:
    """The id in *context*, read as the manager factory reads it."""
    if isinstance(context, str):
        user_id: Any = context
    elif isinstance(context, Mapping):
        user_id = context.get("user_id")
    else:
        user_id = getattr(context, "user_id", None)
    if isinstance(user_id, str):
        return str.__str__(user_id)
    if isinstance(user_id, UUID) or (isinstance(user_id, int) and not isinstance(user_id, bool)):
        return str(user_id)
    raise InvalidUserContext(
        "the user_context of this call names no user: give what get_websocket_manager() takes"
    )


def _thread_of(context: Any) -> str | None:
    if isinstance(context, Mapping):
        return _text(context.get("thread_id"))
    return _text(getattr(context, "thread_id", None))
