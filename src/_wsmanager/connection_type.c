/* Connection as Python sees it: attributes to read, nothing to change. */
#include "connection_type.h"

#include "manager.h"
#include "results.h"
#include "verdict.h"

static PyObject *
connection_get_id(PyObject *op, void *Py_UNUSED(closure))
{
    WsmConnection *self = (WsmConnection *)op;
    return wsm_connection_id_new(self->state, self->id, self->generation);
}

static PyObject *
connection_get_user_id(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmConnection *)op)->manager->key);
}

static PyObject *
connection_get_thread_id(PyObject *op, void *Py_UNUSED(closure))
{
    WsmConnection *self = (WsmConnection *)op;
    wsm_lock(self->lock);
    PyObject *thread = Py_XNewRef(self->thread_id);
    wsm_unlock(self->lock);
    return thread == NULL ? Py_NewRef(Py_None) : thread;
}

static PyObject *
connection_get_websocket(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmConnection *)op)->websocket);
}

static PyObject *
connection_get_generation(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((WsmConnection *)op)->generation);
}

static PyObject *
connection_get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmConnection *)op)->loop);
}

static PyObject *
connection_get_channel(PyObject *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(
        wsm_connection_channel_name((WsmConnection *)op));
}

static PyObject *
connection_get_connected_at(PyObject *op, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(((WsmConnection *)op)->connected_at);
}

static PyObject *
connection_get_metadata(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *metadata = ((WsmConnection *)op)->metadata;
    return Py_NewRef(metadata == NULL ? Py_None : metadata);
}

static PyObject *
connection_get_queued(PyObject *op, void *Py_UNUSED(closure))
{
    WsmConnection *self = (WsmConnection *)op;
    wsm_lock(self->lock);
    unsigned long count = self->outbox.count;
    wsm_unlock(self->lock);
    return PyLong_FromUnsignedLong(count);
}

static PyObject *
connection_get_queued_bytes(PyObject *op, void *Py_UNUSED(closure))
{
    WsmConnection *self = (WsmConnection *)op;
    wsm_lock(self->lock);
    size_t bytes = self->outbox_bytes;
    wsm_unlock(self->lock);
    return PyLong_FromSize_t(bytes);
}

static PyObject *
connection_get_is_active(PyObject *op, void *Py_UNUSED(closure))
{
    WsmConnection *self = (WsmConnection *)op;
    return PyBool_FromLong(self->open && !wsm_websocket_says_closed(
                                             self->state, self->websocket));
}

static PyObject *
connection_repr(PyObject *op)
{
    WsmConnection *self = (WsmConnection *)op;
    return PyUnicode_FromFormat("<Connection %R %s %s, %u queued>", self->id,
                                wsm_connection_channel_name(self),
                                self->open ? "open" : "closed",
                                (unsigned)wsm_connection_waiting(self));
}

#define WSM_GETTER(name, doc) {#name, connection_get_##name, NULL, doc, NULL}

static PyGetSetDef connection_getset[] = {
    {"connection_id", connection_get_id, NULL,
     "The id, a str that knows its generation.", NULL},
    WSM_GETTER(user_id, "The user's id; None of the manager of no user."),
    WSM_GETTER(thread_id, "The chat thread it shows, or None."),
    WSM_GETTER(websocket, "The object that was added."),
    WSM_GETTER(generation, "Counts the user's connections, from 1."),
    WSM_GETTER(loop, "The event loop that owns it."),
    WSM_GETTER(channel, "\"direct\" or \"generic\"."),
    WSM_GETTER(connected_at, "When it was added, seconds since the epoch."),
    WSM_GETTER(metadata, "What its WebSocketConnection carried."),
    WSM_GETTER(queued, "Events that wait for it."),
    WSM_GETTER(queued_bytes, "Bytes of their frames."),
    WSM_GETTER(is_active, "Registered, and not known to be closed."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot connection_slots[] = {
    {Py_tp_doc,
     (void *)"One accepted WebSocket of one user, bound to the event loop "
             "that owns it.\n\nMade by add_connection(); readable from any "
             "thread."},
    {Py_tp_dealloc, wsm_connection_dealloc},
    {Py_tp_traverse, wsm_connection_traverse},
    {Py_tp_clear, wsm_connection_clear},
    {Py_tp_repr, connection_repr},
    {Py_tp_getset, connection_getset},
    {0, NULL},
};

PyType_Spec wsm_connection_spec = {
    .name = "wsmanager._wsmanager.Connection",
    .basicsize = sizeof(WsmConnection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = connection_slots,
};
