/* Invariant: what is written continues what the peer has; if anything before
 * it was lost, or may still come, all of it fails. */
#include "parting.h"

#include "compat.h"
#include "counters.h"
#include "manager.h"
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
parting_fail(WsmConnection *connection, PyObject *events, const char *reason)
{
    Py_ssize_t count = PyList_GET_SIZE(events);

    for (Py_ssize_t i = 0; i < count; i++) {
        wsm_connection_settle(connection,
                              (WsmEvent *)PyList_GET_ITEM(events, i),
                              WSM_FAILED, reason);
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

static PyObject *
parting_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    WsmState *state = wsm_state_of(PyType_GetModule(type));
    WsmConnection *connection;
    PyObject *events;

    if (!PyArg_ParseTuple(args, "O!O!:Parting", state->types.Connection,
                          &connection, &PyList_Type, &events)) {
        return NULL;
    }
    WsmParting *self = (WsmParting *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->connection = (WsmConnection *)Py_NewRef((PyObject *)connection);
        self->events = Py_NewRef(events);
    }
    return (PyObject *)self;
}

static PyObject *
parting_call(PyObject *op, PyObject *Py_UNUSED(args),
             PyObject *Py_UNUSED(kwargs))
{
    WsmParting *self = (WsmParting *)op;
    WsmConnection *connection = self->connection;
    PyObject *events = self->events;

    self->events = NULL;
    if (events == NULL) {
        Py_RETURN_NONE;
    }
    if (!parting_may_write(connection)) {
        parting_fail(connection, events, "removed");
    }
    else if (parting_write(connection, events) < 0) {
        wsm_unraisable((PyObject *)connection);
        parting_fail(connection, events, "removed");
    }
    Py_DECREF(events);
    Py_RETURN_NONE;
}

static int
parting_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmParting *self = (WsmParting *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->connection);
    Py_VISIT(self->events);
    return 0;
}

static int
parting_clear(PyObject *op)
{
    WsmParting *self = (WsmParting *)op;
    Py_CLEAR(self->events);
    return 0;
}

/* In the child of a fork they are the parent's, which writes them. */
static void
parting_finalize(PyObject *op)
{
    WsmParting *self = (WsmParting *)op;
    WsmConnection *connection = self->connection;
    PyObject *events = self->events, *saved = wsm_error_take();

    self->events = NULL;
    if (events != NULL && connection->manager->fork_generation ==
                              connection->state->fork_generation) {
        parting_fail(connection, events, "loop closed");
    }
    Py_XDECREF(events);
    wsm_error_restore(saved);
}

static void
parting_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);

    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    (void)parting_clear(op);
    Py_XDECREF(((WsmParting *)op)->connection);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot parting_slots[] = {
    {Py_tp_new, parting_new},           {Py_tp_call, parting_call},
    {Py_tp_traverse, parting_traverse}, {Py_tp_clear, parting_clear},
    {Py_tp_finalize, parting_finalize}, {Py_tp_dealloc, parting_dealloc},
    {0, NULL},
};

PyType_Spec wsm_parting_spec = {
    .name = "wsmanager._wsmanager.Parting",
    .basicsize = sizeof(WsmParting),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = parting_slots,
};
