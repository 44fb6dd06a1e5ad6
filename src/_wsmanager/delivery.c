/* Invariant: nothing here sends; dropping a delivery changes nothing. */
#include "delivery.h"

#include "results.h"

WsmDelivery *
wsm_delivery_new(WsmState *state, WsmEvent *event)
{
    WsmDelivery *self = PyObject_GC_New(WsmDelivery, state->types.Delivery);
    if (self != NULL) {
        self->state = state;
        self->event = (WsmEvent *)Py_NewRef((PyObject *)event);
        self->backlog = false;
        PyObject_GC_Track(self);
    }
    return self;
}

/* The one step behind await, send and next. With a backlog on this loop it
 * gives the loop a turn first, so that a producer that awaits each event
 * leaves its clients time to read. */
static PySendResult
delivery_step(WsmDelivery *self, PyObject **result)
{
    if (self->backlog) {
        self->backlog = false;
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    *result = wsm_receipt_new(self->state, self->event);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult
delivery_am_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
    return delivery_step((WsmDelivery *)op, result);
}

static PyObject *
delivery_iternext(PyObject *op)
{
    PyObject *result;
    PySendResult how = delivery_step((WsmDelivery *)op, &result);
    if (how == PYGEN_RETURN) {
        wsm_raise_stop(result);
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
delivery_send(PyObject *op, PyObject *Py_UNUSED(value))
{
    return delivery_iternext(op);
}

static PyObject *
delivery_throw(PyObject *Py_UNUSED(op), PyObject *const *args,
               Py_ssize_t nargs)
{
    wsm_raise_thrown(args, nargs);
    return NULL;
}

static PyObject *
delivery_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ((WsmDelivery *)op)->backlog = false;
    Py_RETURN_NONE;
}

static PyObject *
delivery_flushed(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:flushed", names,
                                     &timeout)) {
        return NULL;
    }
    return wsm_event_flushed(((WsmDelivery *)op)->event, timeout);
}

static PyObject *
delivery_acked(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    WsmEvent *event = ((WsmDelivery *)op)->event;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:acked", names,
                                     &timeout)) {
        return NULL;
    }
    if (!event->ack) {
        PyErr_SetString(PyExc_ValueError,
                        "this event asked for no acknowledgement: emit it "
                        "with ack=True");
        return NULL;
    }
    return wsm_event_acked(event, timeout);
}

static PyObject *
delivery_get_receipt(PyObject *op, void *Py_UNUSED(closure))
{
    WsmDelivery *self = (WsmDelivery *)op;
    return wsm_receipt_new(self->state, self->event);
}

static PyObject *
delivery_get_id(PyObject *op, void *Py_UNUSED(closure))
{
    return wsm_event_id(((WsmDelivery *)op)->event);
}

static int
delivery_bool(PyObject *op)
{
    WsmEvent *event = ((WsmDelivery *)op)->event;
    wsm_lock(&event->lock);
    bool taken = event->tally[WSM_SENT] > 0 || event->tally[WSM_QUEUED] > 0;
    wsm_unlock(&event->lock);
    return taken;
}

static PyObject *
delivery_repr(PyObject *op)
{
    PyObject *receipt = delivery_get_receipt(op, NULL);
    if (receipt == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("<Delivery %R>", receipt);
    Py_DECREF(receipt);
    return text;
}

static int
delivery_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((WsmDelivery *)op)->event);
    return 0;
}

static void
delivery_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_CLEAR(((WsmDelivery *)op)->event);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(delivery_flushed_doc, "flushed($self, /, timeout=None)\n--\n\n"
"A future of the running loop: True when no connection has the event\n"
"queued any more, False after timeout seconds. Raises RuntimeError without\n"
"a running loop. What was sent is with the transport or the kernel; whether\n"
"the peer read it only the peer can tell.");

PyDoc_STRVAR(delivery_acked_doc, "acked($self, /, timeout=None)\n--\n\n"
"A future of the running loop: True when a client of the user has\n"
"acknowledged the event (see acknowledge()), False after timeout seconds,\n"
"or when that is not waited for any more: journal_max_age, 256 events, or\n"
"journal_max_bytes. Raises ValueError if the event was emitted without\n"
"ack=True, RuntimeError without a running loop.");

static PyMethodDef delivery_methods[] = {
    {"acked", (PyCFunction)(void (*)(void))delivery_acked,
     METH_VARARGS | METH_KEYWORDS, delivery_acked_doc},
    {"flushed", (PyCFunction)(void (*)(void))delivery_flushed,
     METH_VARARGS | METH_KEYWORDS, delivery_flushed_doc},
    {"send", delivery_send, METH_O, "send($self, value, /)\n--\n\nPEP 342."},
    {"throw", (PyCFunction)(void (*)(void))delivery_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nPEP 342."},
    {"close", delivery_close, METH_NOARGS, "close($self, /)\n--\n\nPEP 342."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef delivery_getset[] = {
    {"receipt", delivery_get_receipt, NULL, "What became of it so far.", NULL},
    {"id", delivery_get_id, NULL, "\"<epoch>:<seq>\", or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot delivery_slots[] = {
    {Py_tp_doc,
     (void *)"What an emit returns: the event is on its way already. It may "
             "be awaited any number\nof times (giving a Receipt), or not at "
             "all. True if a connection took the event."},
    {Py_tp_dealloc, delivery_dealloc},
    {Py_tp_traverse, delivery_traverse},
    {Py_tp_repr, delivery_repr},
    {Py_tp_hash, wsm_truth_hash},
    {Py_tp_richcompare, wsm_truth_richcompare},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, delivery_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, delivery_am_send},
    {Py_nb_bool, delivery_bool},
    {Py_tp_methods, delivery_methods},
    {Py_tp_getset, delivery_getset},
    {0, NULL},
};

PyType_Spec wsm_delivery_spec = {
    .name = "wsmanager._wsmanager.Delivery",
    .basicsize = sizeof(WsmDelivery),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = delivery_slots,
};
