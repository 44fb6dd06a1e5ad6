/* Invariant: a connection leaves its manager, the table of sockets and its
 * mailbox's count together, once. */
#include "evict.h"

#include "compat.h"
#include "counters.h"
#include "manager.h"
#include "registry.h"
#include "verdict.h"

void
wsm_settle_pairs(WsmRefList *pairs, WsmOutcome outcome, const char *reason)
{
    for (Py_ssize_t i = 0; i + 1 < pairs->count; i += 2) {
        WsmConnection *connection = (WsmConnection *)pairs->items[i];
        WsmEvent *event = (WsmEvent *)pairs->items[i + 1];
        WsmTotals *totals = wsm_totals(connection->state);
        wsm_add(outcome == WSM_DROPPED ? &totals->dropped : &totals->failed,
                1);
        wsm_connection_settle(connection, event, outcome, reason);
    }
    wsm_reflist_drop(pairs);
}

/* End the send that hangs, if there is one, on the thread of its loop. */
static void
evict_stop_driver(WsmConnection *connection)
{
    WsmState *state = connection->state;
    PyObject *driver = wsm_connection_get_driver(connection), *running;
    PyObject *stop = NULL, *result = NULL;

    if (driver == NULL) {
        return;
    }
    if (wsm_running_loop(state, &running) >= 0) {
        stop = PyObject_GetAttrString(driver, "stop");
    }
    if (stop != NULL) {
        result = running == connection->loop
                     ? PyObject_CallNoArgs(stop)
                     : PyObject_CallMethodOneArg(
                           connection->loop, state->names.call_soon_threadsafe,
                           stop);
        Py_DECREF(stop);
    }
    if (result == NULL && PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear(); /* the loop is closed, and the send with it */
    }
    else if (result == NULL) {
        wsm_unraisable(driver);
    }
    Py_XDECREF(result);
    Py_DECREF(driver);
}

/* On another thread the loop's next look finds that it has left. */
static void
evict_unwatch(WsmConnection *connection)
{
    PyObject *running;
    if (wsm_running_loop(connection->state, &running) > 0 &&
        running == connection->loop) {
        wsm_mailbox_unwatch(connection->mailbox, connection);
    }
}

/* The close code that it ended with, as far as anybody knows: its channel saw
 * it, or the library's object says it, or it is the one that we close with. */
static int
evict_code(WsmConnection *connection, int ours)
{
    PyObject *said = NULL;
    int code = 0;

    if (connection->channel != NULL) {
        code = (int)connection->channel->code;
    }
    if (code == 0 && PyObject_GetOptionalAttr(
                         connection->websocket,
                         connection->state->names.close_code, &said) < 0) {
        /* A property of a foreign class may raise anything. */
        wsm_overlook(connection->websocket);
    }
    if (said != NULL && PyLong_CheckExact(said)) {
        int overflow;
        long number = PyLong_AsLongAndOverflow(said, &overflow);
        code = number > 0 && number < 65536 ? (int)number : 0;
    }
    Py_XDECREF(said);
    if (code == 0) {
        code = ours != 0 ? ours : (int)connection->code;
    }
    return code;
}

/* To the thread of its loop, which may write it: true if each of them will
 * have its outcome by that. */
static bool
evict_hand_on(WsmConnection *connection, WsmRefList *dropped)
{
    WsmState *state = connection->state;
    PyObject *parting = NULL, *result = NULL, *events = PyList_New(0);
    bool complete = events != NULL;

    for (Py_ssize_t i = 0; complete && i + 1 < dropped->count; i += 2) {
        complete = PyList_Append(events, dropped->items[i + 1]) == 0;
    }
    if (complete) {
        parting = PyObject_CallFunctionObjArgs(
            (PyObject *)state->types.Parting, connection, events, NULL);
    }
    Py_XDECREF(events);
    if (parting != NULL) {
        result = PyObject_CallMethodOneArg(
            connection->loop, state->names.call_soon_threadsafe, parting);
    }
    if (result == NULL && PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear(); /* the loop is closed */
    }
    else if (result == NULL) {
        wsm_unraisable((PyObject *)connection);
    }
    Py_XDECREF(result);
    complete = parting != NULL;
    Py_XDECREF(parting);
    return complete;
}

/* parting: what it has queued, its loop may still write. */
static bool
evict_detach(WsmConnection *connection, const char *reason, int code,
             bool parting)
{
    WsmRefList dropped;
    Py_ssize_t left = 0;
    WsmManager *manager = connection->manager;
    WsmRegistry *registry = connection->state->registry;

    if (manager->fork_generation != connection->state->fork_generation) {
        return false; /* the parent's: its process sees to it */
    }
    PyObject *saved = wsm_error_take();
    wsm_reflist_init(&dropped);
    int was = wsm_manager_detach(manager, connection, &dropped, &left);
    if (was < 0) {
        wsm_unraisable((PyObject *)connection);
    }
#ifdef WSM_PLANT_LEAK_CONNECTION
    Py_INCREF(connection);
#endif
    if (was > 0) {
        if (connection->channel != NULL) {
            wsm_channel_unbind(connection->channel);
        }
        evict_stop_driver(connection);
        evict_unwatch(connection);
        wsm_registry_leave(registry, connection);
        wsm_counters_closed(connection->state, reason,
                            evict_code(connection, code),
                            wsm_connection_age(connection));
        if (parting && dropped.count > 0 && connection->channel != NULL &&
            evict_hand_on(connection, &dropped)) {
            wsm_reflist_drop(&dropped);
        }
        wsm_settle_pairs(&dropped, WSM_FAILED, reason);
        if (left == 0) {
            wsm_registry_departed(registry, manager);
        }
    }
    wsm_error_restore(saved);
    return was > 0;
}

/* On the thread of its loop: what can be written now is, before it goes. */
static void
evict_flush(WsmConnection *connection)
{
    if (connection->channel == NULL || connection->blocked ||
        wsm_connection_waiting(connection) == 0) {
        return;
    }
    WsmWay way = wsm_channel_check(connection->channel);
    if (way == WSM_WAY_DIRECT || way == WSM_WAY_WAIT) {
        connection->state->on_flush((PyObject *)connection, false);
    }
    if (PyErr_Occurred()) {
        wsm_unraisable((PyObject *)connection);
    }
}

bool
wsm_remove(WsmConnection *connection, int code)
{
    PyObject *running, *saved = wsm_error_take();
    bool was = connection->open, flushed = false;

    Py_INCREF(connection);
    if (was && wsm_running_loop(connection->state, &running) > 0 &&
        running == connection->loop) {
        evict_flush(connection);
        flushed = !connection->open; /* and was lost by that */
    }
    wsm_error_restore(saved);
    was = evict_detach(connection, "removed", code, true) || flushed;
    Py_DECREF(connection);
    return was;
}

static bool
evict_reported(WsmConnection *connection, const char *reason, int code)
{
#ifdef WSM_PLANT_DEAF
    return false;
#endif
    Py_INCREF(connection);
    bool was = evict_detach(connection, reason, code, false);
    if (was) {
        PyObject *fields =
            Py_BuildValue("{s:O}", "connection_id", connection->id);
        if (fields == NULL) {
            wsm_unraisable((PyObject *)connection);
        }
        wsm_report(connection->state, "evicted", reason, fields);
        Py_XDECREF(fields);
    }
    Py_DECREF(connection);
    return was;
}

bool
wsm_evict(WsmConnection *connection, const char *reason)
{
    return evict_reported(connection, reason, 0);
}

void
wsm_evict_broken(WsmConnection *connection, const char *reason)
{
    WsmChannel *channel =
        (WsmChannel *)Py_NewRef((PyObject *)connection->channel);
    evict_reported(connection, reason, WSM_CLOSE_ABNORMAL);
#ifndef WSM_PLANT_LEFT_OPEN
    wsm_channel_abort(channel);
#endif
    Py_DECREF(channel);
}

PyObject *
wsm_spawn(PyObject *module, PyObject *coroutine)
{
    WsmState *state = wsm_state_of(module);
    PyObject *loop, *task = NULL, *discard = NULL, *done = NULL;

    int found = wsm_running_loop(state, &loop);
    if (found == 0) {
        PyErr_SetString(PyExc_RuntimeError, "no running event loop");
    }
    if (found <= 0) {
        goto done;
    }
    task =
        PyObject_CallMethodOneArg(loop, state->names.create_task, coroutine);
    if (task == NULL || PySet_Add(state->spawned, task) < 0) {
        goto done;
    }
    discard = PyObject_GetAttrString(state->spawned, "discard");
    if (discard != NULL) {
        done = PyObject_CallMethodOneArg(task, state->names.add_done_callback,
                                         discard);
    }
done:
    Py_XDECREF(task);
    Py_XDECREF(discard);
    return done;
}

/* Give the coroutine to the loop; false if the loop is closed or failed. */
static bool
evict_schedule(WsmConnection *connection, PyObject *coroutine)
{
    WsmState *state = connection->state;
    PyObject *running, *result;
    PyObject *loop = connection->loop;

    if (wsm_running_loop(state, &running) < 0) {
        return false;
    }
    if (running == loop) {
        result = PyObject_CallOneArg(state->spawn, coroutine);
    }
    else {
        result =
            PyObject_CallMethodObjArgs(loop, state->names.call_soon_threadsafe,
                                       state->spawn, coroutine, NULL);
    }
    Py_XDECREF(result);
    return result != NULL;
}

void
wsm_close_socket(WsmConnection *connection, int code, PyObject *reason)
{
    WsmState *state = connection->state;
    PyObject *saved = wsm_error_take();

    if (state->hooks.close != NULL) {
        PyObject *coroutine = PyObject_CallFunction(
            state->hooks.close, "OiO", connection->websocket, code, reason);
        if (coroutine == NULL) {
            wsm_unraisable(state->hooks.close);
        }
        else if (!evict_schedule(connection, coroutine)) {
            bool closed = PyErr_ExceptionMatches(PyExc_RuntimeError);
            PyObject *error = wsm_error_take();
            PyObject *result =
                PyObject_CallMethodNoArgs(coroutine, state->names.close);
            Py_XDECREF(result);
            if (!closed) {
                wsm_error_restore(error);
                wsm_unraisable(state->hooks.close);
            }
            else {
                PyErr_Clear(); /* the loop, and so the socket, is closed */
                Py_XDECREF(error);
            }
        }
        Py_XDECREF(coroutine);
    }
    wsm_error_restore(saved);
}

/* With a text of ours. */
static void
evict_close(WsmConnection *connection, int code, const char *reason)
{
    PyObject *text = PyUnicode_FromString(reason);
    if (text != NULL) {
        wsm_close_socket(connection, code, text);
        Py_DECREF(text);
    }
    else {
        wsm_unraisable((PyObject *)connection);
    }
}

void
wsm_evict_failing(WsmConnection *connection)
{
    Py_INCREF(connection);
    if (evict_reported(connection, "errors", WSM_CLOSE_INTERNAL)) {
        evict_close(connection, WSM_CLOSE_INTERNAL, "send failed");
    }
    Py_DECREF(connection);
}

void
wsm_evict_slow(WsmConnection *connection, const char *reason)
{
    WsmState *state = connection->state;
    PyObject *saved = wsm_error_take();
    PyObject *running;

#ifdef WSM_PLANT_DEAF
    wsm_error_restore(saved);
    return;
#endif
    Py_INCREF(connection);
    bool cut = connection->channel != NULL &&
               wsm_running_loop(state, &running) > 0 &&
               running == connection->loop;
    if (evict_detach(connection, reason,
                     cut ? WSM_CLOSE_ABNORMAL : WSM_CLOSE_TRY_LATER, false)) {
        WsmCounters *counters = wsm_counters(state);
        wsm_add(&counters->totals.slow, 1);
        wsm_add(&counters->slow[WSM_ACTION_close], 1);
        PyObject *fields =
            Py_BuildValue("{s:O}", "connection_id", connection->id);
        if (fields == NULL) {
            wsm_unraisable((PyObject *)connection);
        }
        wsm_report(state, "slow", reason, fields);
        Py_XDECREF(fields);
        if (cut) {
            wsm_channel_abort(connection->channel);
        }
        else {
            evict_close(connection, WSM_CLOSE_TRY_LATER, "slow consumer");
        }
    }
    Py_DECREF(connection);
    wsm_error_restore(saved);
}

void
wsm_evict_post(WsmPost *post)
{
    WsmConnection *connection = post->head;
    post->head = NULL;
    post->tail = NULL;
    while (connection != NULL) {
        WsmConnection *next = connection->wake_next;
        connection->wake_next = NULL;
        wsm_lock(connection->lock);
        connection->waking = false;
        wsm_unlock(connection->lock);
        wsm_evict(connection, "loop closed");
        Py_DECREF(connection);
        connection = next;
    }
}
