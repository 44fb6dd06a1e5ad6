"""From an agent's work to the events its user sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ._order import EventOrderError, RunOrder
from ._wsmanager import (
    Delivery,
    InvalidUserContext,
    UnifiedWebSocketManager,
    UserIsolationError,
    get_websocket_manager,
)
from .events import AGENT_EVENTS

__all__ = ["AgentWebSocketBridge", "EventOrderError"]


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
        started. Up to 4,096 runs are followed at a time.

    A bridge for no user (no arguments) needs ``user_context`` at each call.
    A bridge for a user refuses the context of another with
    :class:`~wsmanager.UserIsolationError`.
    """

    def __init__(
        self,
        manager: Any = None,
        *,
        user_context: Any = None,
        thread_id: str | None = None,
        strict: bool = False,
    ) -> None:
        if manager is not None and user_context is not None:
            raise TypeError("give AgentWebSocketBridge() a manager or a user_context, not both")
        if manager is None or not callable(getattr(manager, "emit_event", None)):
            context = user_context if manager is None else manager
            manager = get_websocket_manager(context)
        else:
            context = getattr(manager, "user_context", None)
        self._manager: UnifiedWebSocketManager = manager
        self._thread_id = _thread_of(context) if thread_id is None else thread_id
        self._order = RunOrder() if strict else None

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
        return self._order is not None

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
        manager = self._manager if user_context is None else self._manager_of(user_context)
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
        order = self._order
        if order is None or (run_id is None and event not in AGENT_EVENTS):
            return manager.emit_event(event, data, **names)
        tool_name = _text(data.get("tool_name"))
        take_back = order.enter(event, names.get("run_id"), agent_name, tool_name)
        try:
            return manager.emit_event(event, data, **names)
        except BaseException:
            take_back()
            raise

    def _manager_of(self, user_context: Any) -> UnifiedWebSocketManager:
        """The manager to use for a call that names its user."""
        own: object = self._manager.user_id
        if own is None:
            return get_websocket_manager(user_context)
        # A test's stand-in for a manager may have any user_id, and is taken as it is.
        if isinstance(own, str) and _user_of(user_context) != own:
            raise UserIsolationError(
                "the user_context of this call is another user's than the bridge's"
            )
        return self._manager


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
