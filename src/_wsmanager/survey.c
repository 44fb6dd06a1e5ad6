/* Looks at every connection once, under its own lock, keeping none. */
#include "survey.h"

#include "compat.h"
#include "counters.h"
#include "registry.h"

typedef struct {
    unsigned long long queued_events, queued_bytes;
    Py_ssize_t connections, direct, waiting;
    int64_t longest; /* ns the one that waits longest has waited */
} WsmSurvey;

static void
survey_one(WsmSurvey *survey, WsmConnection *connection, int64_t now)
{
    wsm_lock(connection->lock);
    bool open = connection->open;
    bool waits = connection->blocked || connection->driver != NULL;
    int64_t since = connection->since;
    uint32_t events = connection->outbox.count;
    size_t bytes = connection->outbox_bytes;
    wsm_unlock(connection->lock);
    if (!open) {
        return;
    }
    survey->connections++;
    survey->direct += connection->channel != NULL;
    survey->queued_events += events;
    survey->queued_bytes += bytes;
    if (waits) {
        survey->waiting++;
        if (now - since > survey->longest) {
            survey->longest = now - since;
        }
    }
}

PyObject *
wsm_survey_counters(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    WsmState *state = wsm_state_of(module);
    WsmRegistry *registry = state->registry;
    PyObject *connections = PyDict_Values(registry->sockets);
    WsmSurvey survey = {0, 0, 0, 0, 0, 0};
    int64_t now = wsm_now_ns();

    if (connections == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(connections); i++) {
        survey_one(&survey, (WsmConnection *)PyList_GET_ITEM(connections, i),
                   now);
    }
    Py_DECREF(connections);
    PyObject *result = wsm_counters_dict(state);
    PyObject *present = Py_BuildValue(
        "{s:n,s:n,s:n,s:n,s:n,s:K,s:K,s:d,s:K}", "connections",
        survey.connections, "direct_connections", survey.direct,
        "waiting_connections", survey.waiting, "managers",
        wsm_registry_users(registry) + (registry->none != NULL), "users",
        wsm_registry_users(registry), "queued_events", survey.queued_events,
        "queued_bytes", survey.queued_bytes, "longest_wait",
        (double)survey.longest / 1e9, "opened",
        (unsigned long long)wsm_totals_sum(state).opened);
    if (result == NULL || present == NULL ||
        PyDict_Update(result, present) < 0) {
        Py_CLEAR(result);
    }
    Py_XDECREF(present);
    return result;
}

/* Keep the list of the slowest sorted, most bytes first, no longer than
 * limit. Steals the row. -1 with an exception. */
static int
survey_rank(PyObject *rows, Py_ssize_t limit, PyObject *row, size_t bytes)
{
    Py_ssize_t at = PyList_GET_SIZE(rows);
    while (at > 0) {
        PyObject *above = PyList_GET_ITEM(rows, at - 1);
        if (PyLong_AsSize_t(PyTuple_GET_ITEM(above, 3)) >= bytes) {
            break;
        }
        at--;
    }
    int result = row == NULL ? -1 : PyList_Insert(rows, at, row);
    Py_XDECREF(row);
    if (result == 0 && PyList_GET_SIZE(rows) > limit) {
        result = PyList_SetSlice(rows, limit, PyList_GET_SIZE(rows), NULL);
    }
    return result;
}

/* A row of one that has something queued or waits for its transport. */
static int
survey_slow(PyObject *rows, Py_ssize_t limit, WsmConnection *connection,
            int64_t now)
{
    wsm_lock(connection->lock);
    uint32_t events = connection->outbox.count;
    size_t bytes = connection->outbox_bytes;
    bool waits = connection->blocked || connection->driver != NULL;
    int64_t waited = waits ? now - connection->since : 0;
    bool worth = connection->open && (events > 0 || waits);
    wsm_unlock(connection->lock);
    if (!worth) {
        return 0;
    }
    PyObject *row = Py_BuildValue(
        "(OsInd)", connection->id, wsm_connection_channel_name(connection),
        events, (Py_ssize_t)bytes, (double)waited / 1e9);
    return survey_rank(rows, limit, row, bytes);
}

PyObject *
wsm_survey_slowest(PyObject *module, PyObject *limit)
{
    Py_ssize_t most = PyLong_AsSsize_t(limit);
    if (most < 0) {
        return PyErr_Occurred() ? NULL : PyList_New(0);
    }
    PyObject *rows = PyList_New(0);
    PyObject *connections =
        PyDict_Values(wsm_state_of(module)->registry->sockets);
    int64_t now = wsm_now_ns();

    if (connections == NULL) {
        Py_CLEAR(rows);
    }
    for (Py_ssize_t i = 0; rows != NULL && i < PyList_GET_SIZE(connections);
         i++) {
        WsmConnection *connection =
            (WsmConnection *)PyList_GET_ITEM(connections, i);
        if (survey_slow(rows, most, connection, now) < 0) {
            Py_CLEAR(rows);
        }
    }
    Py_XDECREF(connections);
    return rows;
}

PyObject *
wsm_survey_loops(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    PyObject *pairs = PyList_New(0);
    PyObject *mailboxes =
        PyDict_Values(wsm_state_of(module)->registry->mailboxes);

    if (mailboxes == NULL) {
        Py_CLEAR(pairs);
    }
    for (Py_ssize_t i = 0; pairs != NULL && i < PyList_GET_SIZE(mailboxes);
         i++) {
        WsmMailbox *mailbox = (WsmMailbox *)PyList_GET_ITEM(mailboxes, i);
        wsm_lock(&mailbox->lock);
        Py_ssize_t connections = mailbox->connections;
        wsm_unlock(&mailbox->lock);
        if (connections == 0) {
            continue; /* it may come back, and is kept for that */
        }
        PyObject *pair = Py_BuildValue("(On)", mailbox->loop, connections);
        if (pair == NULL || PyList_Append(pairs, pair) < 0) {
            Py_CLEAR(pairs);
        }
        Py_XDECREF(pair);
    }
    Py_XDECREF(mailboxes);
    return pairs;
}
