/* One send of an object that is not ours: how it begins and what its end
 * means. Invariant: each event that was begun is settled once. */
#include "send.h"

#include "compat.h"
#include "counters.h"
#include "evict.h"
#include "verdict.h"

static PyObject *
send_call_send(WsmConnection *connection, WsmEvent *event)
{
    WsmState *state = connection->state;
    PyObject *text = wsm_event_text(event);
    PyObject *result = NULL;

    if (text == NULL) {
        return NULL;
    }
    if (connection->method == WSM_SEND_CALL) {
        result = PyObject_CallOneArg(connection->websocket, text);
    }
    else if (connection->method == WSM_SEND_JSON) {
        PyObject *value = PyObject_CallOneArg(state->hooks.decode, text);
        if (value != NULL) {
            result = PyObject_CallMethodOneArg(
                connection->websocket,
                wsm_send_name(state, connection->method), value);
            Py_DECREF(value);
        }
    }
    else {
        result = PyObject_CallMethodOneArg(
            connection->websocket, wsm_send_name(state, connection->method),
            text);
    }
    Py_DECREF(text);
    return result;
}

/* What steps an awaitable: the coroutine itself, or its iterator. NULL
 * without an exception if it is not awaitable at all. */
static PyObject *
send_iterator(PyObject *awaitable)
{
    PyAsyncMethods *async = Py_TYPE(awaitable)->tp_as_async;

    if (PyCoro_CheckExact(awaitable) ||
        wsm_is_generator_coroutine(awaitable)) {
        return Py_NewRef(awaitable);
    }
    if (async == NULL || async->am_await == NULL) {
        return NULL;
    }
    return async->am_await(awaitable);
}

PySendResult
wsm_send_call(WsmConnection *connection, WsmEvent *event, PyObject **inner,
              PyObject **result)
{
    *inner = NULL;
    *result = NULL;
    PyObject *answer = send_call_send(connection, event);
    if (answer == NULL) {
        return PYGEN_ERROR;
    }
    if (answer == Py_None) {
        *result = answer;
        return PYGEN_RETURN;
    }
    connection->pump =
        connection->method <= WSM_SEND && PyCoro_CheckExact(answer)
            ? connection->method
            : 0;
    *inner = send_iterator(answer);
    if (*inner == NULL && !PyErr_Occurred()) {
        *result = answer; /* a plain function's own result */
        return PYGEN_RETURN;
    }
    Py_DECREF(answer);
    return *inner == NULL ? PYGEN_ERROR : PYGEN_NEXT;
}

PySendResult
wsm_send_step(PyObject **inner, PyObject **result)
{
    PySendResult how = PyIter_Send(*inner, Py_None, result);
    if (how != PYGEN_NEXT) {
        Py_CLEAR(*inner);
    }
    return how;
}

PySendResult
wsm_send_start(WsmConnection *connection, WsmEvent *event, PyObject **inner,
               PyObject **result)
{
    PySendResult how = wsm_send_call(connection, event, inner, result);
    return how == PYGEN_NEXT ? wsm_send_step(inner, result) : how;
}

bool
wsm_send_enter(WsmConnection *connection)
{
    if (connection->context == NULL) {
        connection->context = PyContext_New();
    }
    if (connection->context == NULL) {
        wsm_unraisable((PyObject *)connection); /* the send itself goes on */
        return false;
    }
    if (PyContext_Enter(connection->context) < 0) {
        PyErr_Clear(); /* entered by a copy of ours: its vars are there */
        return false;
    }
    return true;
}

void
wsm_send_exit(WsmConnection *connection, bool entered)
{
    if (!entered) {
        return;
    }
    PyObject *saved = PyErr_Occurred() == NULL ? NULL : wsm_error_take();
    if (PyContext_Exit(connection->context) < 0) {
        wsm_unraisable((PyObject *)connection);
    }
    if (saved != NULL) {
        wsm_error_restore(saved);
    }
}

static void
send_report(WsmConnection *connection, PyObject *error)
{
    PyObject *fields = Py_BuildValue("{s:O,s:O}", "connection_id",
                                     connection->id, "error", error);
    if (fields == NULL) {
        wsm_unraisable((PyObject *)connection);
    }
    wsm_report(connection->state, "error", Py_TYPE(error)->tp_name, fields);
    Py_XDECREF(fields);
}

/* The send raised what is set: judge it, settle the event. Gives the error
 * back (owned) where it must go on: fatal, or a cancellation. */
PyObject *
wsm_send_failed(WsmConnection *connection, WsmEvent *event)
{
    WsmState *state = connection->state;
    PyObject *error = wsm_error_take();
    WsmVerdict verdict = wsm_verdict(state, error, connection->websocket);

    wsm_add(&wsm_totals(state)->failed, 1);
    wsm_connection_settle(connection, event, WSM_FAILED,
                          wsm_verdict_name(verdict));
    switch (verdict) {
    case WSM_VERDICT_GONE:
#ifndef WSM_PLANT_KEEP_STRAY
        wsm_evict(connection, "gone");
#endif
        break;
    case WSM_VERDICT_CANCELLED:
        wsm_evict(connection, "cancelled");
        return error;
    case WSM_VERDICT_ERROR:
        send_report(connection, error);
        if (!PyErr_GivenExceptionMatches(error, PyExc_MemoryError) &&
            !wsm_websocket_is_connecting(state, connection->websocket) &&
            ++connection->errors >= state->settings.error_limit) {
            wsm_evict_failing(connection);
        }
        break;
    case WSM_VERDICT_FATAL:
        return error;
    }
    Py_XDECREF(error);
    return NULL;
}

void
wsm_send_done(WsmConnection *connection, WsmEvent *event, int64_t now)
{
    connection->errors = 0;
    wsm_add(&wsm_totals(connection->state)->generic, 1);
    wsm_connection_sent(connection, event, now);
}

/* The next event, owned; NULL when the writer is done: not busy any more. */
WsmEvent *
wsm_send_next(WsmConnection *connection)
{
    WsmEvent *event = NULL;

    wsm_lock(connection->lock);
    bool due =
        connection->open && wsm_connection_gap_is_due_locked(connection);
    wsm_unlock(connection->lock);
    if (due) {
        event = wsm_connection_gap(connection);
        if (event != NULL) {
            wsm_event_count(event, WSM_QUEUED, 1);
            return event;
        }
        if (PyErr_Occurred()) {
            wsm_unraisable((PyObject *)connection);
        }
    }
    wsm_lock(connection->lock);
    if (connection->open) {
        event = wsm_connection_pop_locked(connection);
    }
    if (event == NULL) {
        connection->busy = false;
    }
    wsm_unlock(connection->lock);
    return event;
}
