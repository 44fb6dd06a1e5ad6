/* Invariant: none of these changes after it was made. */
#include "results.h"

#include "compat.h"

typedef struct {
    PyObject_HEAD
    PyObject *id; /* owned: str or None */
    PyObject *connections; /* owned: dict or None */
    PyObject *reasons; /* owned: dict or None */
    int32_t tally[WSM_OUTCOMES];
} WsmReceipt;

typedef struct {
    PyObject_HEAD
    PyObject *value; /* owned */
} WsmAnswer;

typedef struct {
    PyUnicodeObject text;
    uint64_t generation;
} WsmConnectionId;

void
wsm_raise_stop(PyObject *value)
{
    /* An instance, so that a tuple or an exception stays a value. */
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
}

/* Nobody else holds it, and whoever caught it left nothing on it: notes and
 * attributes are in its dict. */
static bool
results_is_as_new(PyStopIterationObject *stop)
{
    return Py_REFCNT(stop) == 1 && stop->value == NULL && stop->dict == NULL &&
           stop->args != NULL && PyTuple_GET_SIZE(stop->args) == 0 &&
           stop->traceback == NULL && stop->context == NULL &&
           stop->cause == NULL && !stop->suppress_context;
}

/* Where the interpreter raises instances as they are and one thread runs at
 * a time, a StopIteration may be raised again. */
static PyStopIterationObject *
results_stop(WsmState *state)
{
    PyStopIterationObject *stop = (PyStopIterationObject *)state->stop;
    if (stop != NULL && results_is_as_new(stop)) {
        return stop;
    }
    PyObject *none = PyTuple_New(0);
    if (none == NULL) {
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)PyExc_StopIteration;
    PyObject *fresh = type->tp_new(type, none, NULL);
    Py_DECREF(none);
    if (fresh != NULL) {
        Py_XSETREF(state->stop, fresh);
    }
    return (PyStopIterationObject *)fresh;
}

void
wsm_raise_stop_fast(WsmState *state, PyObject *value)
{
    if (!WSM_REUSES_STOP) {
        wsm_raise_stop(value);
        Py_DECREF(value);
        return;
    }
    PyStopIterationObject *stop = results_stop(state);
    if (stop == NULL) {
        Py_DECREF(value);
        return;
    }
    stop->value = value;
    wsm_error_restore(Py_NewRef((PyObject *)stop));
}

void
wsm_stop_forget(WsmState *state)
{
    PyStopIterationObject *stop = (PyStopIterationObject *)state->stop;
    if (stop != NULL && stop->value != NULL && Py_REFCNT(stop) == 1) {
        Py_CLEAR(stop->value);
    }
}

int
wsm_raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *value = nargs > 1 ? args[1] : Py_None;

    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() takes an exception: typ, val=None, tb=None");
        return -1;
    }
    if (nargs == 3 && args[2] != Py_None && !PyTraceBack_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback object");
        return -1;
    }
    if (PyExceptionClass_Check(args[0])) {
        PyErr_SetObject(args[0], value);
        return 0;
    }
    if (!PyExceptionInstance_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError,
                        "exceptions must derive from BaseException");
        return -1;
    }
    if (value != Py_None) {
        PyErr_SetString(PyExc_TypeError,
                        "instance exception may not have a separate value");
        return -1;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);
    return 0;
}

/* -- what stands for a truth --------------------------------------------- */

PyObject *
wsm_truth_richcompare(PyObject *op, PyObject *other, int how)
{
    if (!PyBool_Check(other) || (how != Py_EQ && how != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int is = PyObject_IsTrue(op);
    if (is < 0) {
        return NULL;
    }
    return PyBool_FromLong((is == (other == Py_True)) == (how == Py_EQ));
}

Py_hash_t
wsm_truth_hash(PyObject *op)
{
    return PyBaseObject_Type.tp_hash(op);
}

/* -- Receipt ------------------------------------------------------------- */

PyObject *
wsm_receipt_new(WsmState *state, WsmEvent *event)
{
    PyTypeObject *type = state->types.Receipt;
    WsmReceipt *self = (WsmReceipt *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    wsm_lock(&event->lock);
    for (int i = 0; i < WSM_OUTCOMES; i++) {
        self->tally[i] = event->tally[i];
    }
    wsm_unlock(&event->lock);
    self->id = wsm_event_id(event);
    self->connections = event->detail == NULL ? Py_NewRef(Py_None)
                                              : PyDict_Copy(event->detail);
    self->reasons = event->reasons == NULL ? Py_NewRef(Py_None)
                                           : PyDict_Copy(event->reasons);
    if (self->id == NULL || self->connections == NULL ||
        self->reasons == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
receipt_get_count(PyObject *op, void *closure)
{
    return PyLong_FromLong(
        ((WsmReceipt *)op)->tally[(WsmOutcome)(uintptr_t)closure]);
}

static PyObject *
receipt_get_id(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmReceipt *)op)->id);
}

static PyObject *
receipt_get_connections(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmReceipt *)op)->connections);
}

static PyObject *
receipt_get_reasons(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmReceipt *)op)->reasons);
}

static int
receipt_bool(PyObject *op)
{
    WsmReceipt *self = (WsmReceipt *)op;
    return self->tally[WSM_SENT] > 0 || self->tally[WSM_QUEUED] > 0;
}

static PyObject *
receipt_repr(PyObject *op)
{
    WsmReceipt *self = (WsmReceipt *)op;
    return PyUnicode_FromFormat(
        "<Receipt %S sent=%d queued=%d dropped=%d failed=%d stored=%d>",
        self->id, (int)self->tally[WSM_SENT], (int)self->tally[WSM_QUEUED],
        (int)self->tally[WSM_DROPPED], (int)self->tally[WSM_FAILED],
        (int)self->tally[WSM_STORED]);
}

static int
receipt_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((WsmReceipt *)op)->connections);
    Py_VISIT(((WsmReceipt *)op)->reasons);
    return 0;
}

static void
receipt_dealloc(PyObject *op)
{
    WsmReceipt *self = (WsmReceipt *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_CLEAR(self->id);
    Py_CLEAR(self->connections);
    Py_CLEAR(self->reasons);
    type->tp_free(op);
    Py_DECREF(type);
}

#define WSM_COUNT(name, outcome, doc) \
    {name, receipt_get_count, NULL, doc, (void *)(uintptr_t)outcome}

static PyGetSetDef receipt_getset[] = {
    WSM_COUNT("sent", WSM_SENT,
              "Connections whose transport or library took it."),
    WSM_COUNT("queued", WSM_QUEUED, "Connections that have it waiting."),
    WSM_COUNT("dropped", WSM_DROPPED,
              "Connections it was dropped for, by their policy."),
    WSM_COUNT("failed", WSM_FAILED, "Connections that could not take it."),
    WSM_COUNT("stored", WSM_STORED, "1 if it is kept for resume."),
    {"id", receipt_get_id, NULL, "\"<epoch>:<seq>\", or None.", NULL},
    {"connections", receipt_get_connections, NULL,
     "Outcome by connection id where detail=True asked for it, else None.",
     NULL},
    {"reasons", receipt_get_reasons, NULL,
     "Why, by connection id, where it was dropped or failed; None without "
     "detail=True.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot receipt_slots[] = {
    {Py_tp_doc,
     (void *)"What became of one event; immutable. True if at least one "
             "connection took it."},
    {Py_tp_dealloc, receipt_dealloc},
    {Py_tp_traverse, receipt_traverse},
    {Py_tp_repr, receipt_repr},
    {Py_tp_hash, wsm_truth_hash},
    {Py_tp_richcompare, wsm_truth_richcompare},
    {Py_tp_getset, receipt_getset},
    {Py_nb_bool, receipt_bool},
    {0, NULL},
};

PyType_Spec wsm_receipt_spec = {
    .name = "wsmanager._wsmanager.Receipt",
    .basicsize = sizeof(WsmReceipt),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = receipt_slots,
};

/* -- Answer -------------------------------------------------------------- */

PyObject *
wsm_answer_new(WsmState *state, PyObject *value)
{
    if (value == NULL) {
        return NULL;
    }
    PyTypeObject *type = state->types.Answer;
    WsmAnswer *self = (WsmAnswer *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(value);
        return NULL;
    }
    self->value = value;
    return (PyObject *)self;
}

/* Ready from the start: the first step is the last. */
static PyObject *
answer_iternext(PyObject *op)
{
    wsm_raise_stop(((WsmAnswer *)op)->value);
    return NULL;
}

static PyObject *
answer_send(PyObject *op, PyObject *Py_UNUSED(value))
{
    return answer_iternext(op);
}

static PyObject *
answer_throw(PyObject *Py_UNUSED(op), PyObject *const *args, Py_ssize_t nargs)
{
    wsm_raise_thrown(args, nargs);
    return NULL;
}

static PyObject *
answer_close(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_NONE;
}

static PyObject *
answer_richcompare(PyObject *op, PyObject *other, int how)
{
    return PyObject_RichCompare(((WsmAnswer *)op)->value, other, how);
}

static Py_hash_t
answer_hash(PyObject *op)
{
    return PyObject_Hash(((WsmAnswer *)op)->value);
}

static int
answer_bool(PyObject *op)
{
    return PyObject_IsTrue(((WsmAnswer *)op)->value);
}

static PyObject *
answer_index(PyObject *op)
{
    return PyNumber_Index(((WsmAnswer *)op)->value);
}

static PyObject *
answer_get_value(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmAnswer *)op)->value);
}

static PyObject *
answer_repr(PyObject *op)
{
    return PyObject_Repr(((WsmAnswer *)op)->value);
}

static int
answer_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((WsmAnswer *)op)->value);
    return 0;
}

static void
answer_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_CLEAR(((WsmAnswer *)op)->value);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
answer_class_getitem(PyObject *type, PyObject *item)
{
    return Py_GenericAlias(type, item);
}

static PyMethodDef answer_methods[] = {
    {"send", answer_send, METH_O, "send($self, value, /)\n--\n\nPEP 342."},
    {"throw", (PyCFunction)(void (*)(void))answer_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nPEP 342."},
    {"close", answer_close, METH_NOARGS, "close($self, /)\n--\n\nPEP 342."},
    {"__class_getitem__", answer_class_getitem, METH_O | METH_CLASS,
     "See PEP 585."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef answer_getset[] = {
    {"value", answer_get_value, NULL, "The value itself.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot answer_slots[] = {
    {Py_tp_doc,
     (void *)"The result of a plain call that may also be awaited; compares "
             "and tests as the value it holds."},
    {Py_tp_dealloc, answer_dealloc},
    {Py_tp_traverse, answer_traverse},
    {Py_tp_repr, answer_repr},
    {Py_tp_hash, answer_hash},
    {Py_tp_richcompare, answer_richcompare},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, answer_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_nb_bool, answer_bool},
    {Py_nb_index, answer_index},
    {Py_tp_methods, answer_methods},
    {Py_tp_getset, answer_getset},
    {0, NULL},
};

PyType_Spec wsm_answer_spec = {
    .name = "wsmanager._wsmanager.Answer",
    .basicsize = sizeof(WsmAnswer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = answer_slots,
};

/* -- ConnectionId -------------------------------------------------------- */

PyObject *
wsm_connection_id_new(WsmState *state, PyObject *id, uint64_t generation)
{
    PyObject *self =
        PyObject_CallOneArg((PyObject *)state->types.ConnectionId, id);
    if (self != NULL) {
        ((WsmConnectionId *)self)->generation = generation;
    }
    return self;
}

uint64_t
wsm_connection_id_generation(WsmState *state, PyObject *id)
{
    return PyObject_TypeCheck(id, state->types.ConnectionId)
               ? ((WsmConnectionId *)id)->generation
               : 0;
}

static PyObject *
connection_id_await(PyObject *op)
{
    WsmState *state = PyType_GetModuleState(Py_TYPE(op));
    return wsm_answer_new(state, Py_NewRef(op));
}

static PyObject *
connection_id_get_generation(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((WsmConnectionId *)op)->generation);
}

/* A copy elsewhere is the plain text: the generation is of this process. */
static PyObject *
connection_id_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *text = PyUnicode_FromObject(op);
    if (text == NULL) {
        return NULL;
    }
    return Py_BuildValue("(O(N))", (PyObject *)&PyUnicode_Type, text);
}

static PyMethodDef connection_id_methods[] = {
    {"__reduce__", connection_id_reduce, METH_NOARGS, "Pickles as a str."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef connection_id_getset[] = {
    {"generation", connection_id_get_generation, NULL,
     "Counts the user's connections, from 1.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot connection_id_slots[] = {
    {Py_tp_doc,
     (void *)"The id of a connection: a str that knows its generation, and "
             "may be awaited (it gives itself)."},
    {Py_am_await, connection_id_await},
    {Py_tp_methods, connection_id_methods},
    {Py_tp_getset, connection_id_getset},
    {0, NULL},
};

PyType_Spec wsm_connection_id_spec = {
    .name = "wsmanager._wsmanager.ConnectionId",
    .basicsize = sizeof(WsmConnectionId),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = connection_id_slots,
};
