/* Invariant: what is written continues what the peer has; if anything before
 * it was lost, or may still come, all of it fails. */
#include "parting.h"

#include "compat.h"
#include "counters.h"
#include "writer.h"

static bool
parting_may_write(WsmConnection *connection)
{
    if (connection->torn || connection->busy) {
        return false;
    }
    PyObject *next = wsm_channel_connection(connection->channel);
    if (next != NULL) {
        Py_DECREF(next); /* its socket was added once more */
        return false;
    }
    WsmWay way = wsm_channel_check(connection->channel);
    return way == WSM_WAY_DIRECT || way == WSM_WAY_WAIT;
}

static void
parting_fail(WsmConnection *connection, PyObject *events)
{
    Py_ssize_t count = PyList_GET_SIZE(events);

    for (Py_ssize_t i = 0; i < count; i++) {
        wsm_connection_settle(connection,
                              (WsmEvent *)PyList_GET_ITEM(events, i),
                              WSM_FAILED, "removed");
    }
    wsm_add(&wsm_totals(connection->state)->failed, (uint64_t)count);
}

static int
parting_write(WsmConnection *connection, PyObject *events)
{
    Py_ssize_t count = PyList_GET_SIZE(events);
    WsmBatch batch;

    wsm_batch_init(&batch);
    if (wsm_batch_reserve_events(&batch, (size_t)count + 1) < 0) {
        return -1;
    }
    WsmJob *job = wsm_batch_add(&batch, connection, 0, 0);
    (void)wsm_batch_gap(&batch, connection);
    for (Py_ssize_t i = 0; i < count; i++) {
        (void)wsm_batch_event(&batch, (WsmEvent *)PyList_GET_ITEM(events, i));
    }
    job->count = batch.event_count;
    wsm_lock(connection->lock);
    connection->busy = true;
    wsm_unlock(connection->lock);
    /* No library's send is among it, and nothing else is fatal. */
    return wsm_writer_run(connection->state, connection->loop, &batch, false);
}

PyObject *
wsm_part(PyObject *module, PyObject *args)
{
    WsmState *state = wsm_state_of(module);
    WsmConnection *connection;
    PyObject *events;

    if (!PyArg_ParseTuple(args, "O!O!:part", state->types.Connection,
                          &connection, &PyList_Type, &events)) {
        return NULL;
    }
    if (!parting_may_write(connection)) {
        parting_fail(connection, events);
    }
    else if (parting_write(connection, events) < 0) {
        wsm_unraisable((PyObject *)connection);
        parting_fail(connection, events);
    }
    Py_RETURN_NONE;
}
