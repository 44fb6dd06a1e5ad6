/* A send's first step runs at once, inside the emit. If it suspends, a task
 * takes over. So that asyncio.timeout() and cancel scopes in it bind to what
 * will really run it, the driver is the loop's current task from the first
 * step to the last, whoever steps it, and in the connection's own context.
 *
 * Invariant: a driver that has a task belongs to one connection, which is
 * busy; one that has none belongs to a pass and may be used again. */
#include "driver.h"

#include "compat.h"
#include "evict.h"
#include "results.h"
#include "send.h"
#include "task.h"

#define WSM_DRIVE_TURN 64 /* events of one connection between loop turns */

WsmDriver *
wsm_driver_new(WsmState *state, PyObject *loop)
{
    PyTypeObject *type = state->types.Driver;
    WsmDriver *self = (WsmDriver *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = state;
        self->loop = Py_NewRef(loop);
    }
    return self;
}

int
wsm_driver_go_on(WsmDriver *self)
{
    PyObject *task = PyObject_CallMethodOneArg(
        self->loop, self->state->names.create_task, (PyObject *)self);
    if (task == NULL) {
        return -1;
    }
    if (self->connection != NULL) {
        Py_XSETREF(self->task, task);
    }
    else {
        Py_DECREF(task); /* an eager task: it is over already */
    }
    return 0;
}

/* -- as a task's coroutine ----------------------------------------------- */

void
wsm_driver_release(WsmDriver *self)
{
    WsmConnection *connection = self->connection;

    self->connection = NULL;
    Py_CLEAR(self->inner);
    Py_CLEAR(self->awaiting);
    Py_CLEAR(self->event);
    if (connection != NULL) {
        if (connection->driver == (PyObject *)self) {
            wsm_connection_set_driver(connection, NULL);
        }
        Py_DECREF(connection);
    }
}

/* After a step of inner: what the task gets. Loops over the outbox while
 * sends do not suspend, with a loop turn now and then. */
static PySendResult
driver_continue(WsmDriver *self, PySendResult how, PyObject **result)
{
    WsmConnection *connection = self->connection;

    for (int i = 0; how != PYGEN_NEXT; i++) {
        PyObject *error = NULL;
        Py_CLEAR(self->inner);
        if (how == PYGEN_RETURN) {
            Py_CLEAR(*result);
            wsm_send_done(connection, self->event, wsm_now_ns());
        }
        else {
            error = wsm_send_failed(connection, self->event);
        }
        Py_CLEAR(self->event);
        if (error != NULL) {
            wsm_lock(connection->lock);
            connection->busy = false;
            wsm_unlock(connection->lock);
            wsm_error_restore(error);
            return PYGEN_ERROR;
        }
        self->event = wsm_send_next(connection);
        if (self->event == NULL) {
            *result = Py_NewRef(Py_None);
            return PYGEN_RETURN;
        }
        connection->since = wsm_now_ns();
        if (i == WSM_DRIVE_TURN) {
            *result = Py_NewRef(Py_None);
            return PYGEN_NEXT; /* the next step starts self->event */
        }
        how = wsm_send_start(connection, self->event, &self->inner, result);
    }
    return PYGEN_NEXT;
}

/* Step inner: send value in, or throw thrown (borrowed) if there is one. */
static PySendResult
driver_advance(WsmDriver *self, PyObject *value, PyObject *thrown,
               PyObject **result)
{
    if (self->inner == NULL) {
        if (thrown != NULL) {
            wsm_error_restore(Py_NewRef(thrown));
            return PYGEN_ERROR;
        }
        return wsm_send_start(self->connection, self->event, &self->inner,
                              result);
    }
    if (thrown == NULL) {
        return PyIter_Send(self->inner, value, result);
    }
    *result = PyObject_CallMethodOneArg(self->inner, self->state->names.throw,
                                        thrown);
    if (*result != NULL) {
        return PYGEN_NEXT;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyErr_Clear(); /* it took the exception and ended well */
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* The send that runs got hold of what steps it. */
static bool
driver_is_stepping(const WsmDriver *self)
{
    if (self->stepping) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a send cannot step or close the task that it runs "
                        "in: await, or raise an exception");
    }
    return self->stepping;
}

/* One step for the task: value is sent in, or thrown if it is NULL and an
 * exception is set. */
static PySendResult
driver_step(WsmDriver *self, PyObject *value, PyObject **result)
{
    WsmConnection *connection = self->connection;
    PySendResult how;

    *result = NULL;
    if (driver_is_stepping(self)) {
        return PYGEN_ERROR;
    }
    if (connection == NULL) {
        if (value == NULL) {
            return PYGEN_ERROR;
        }
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (self->awaiting != NULL && value != NULL) {
        *result = self->awaiting;
        self->awaiting = NULL;
        return PYGEN_NEXT;
    }
    PyObject *thrown = value == NULL ? wsm_error_take() : NULL;
    Py_INCREF(self);
    Py_INCREF(connection);
    /* Else the next step, after the send has taken what is thrown and waits
     * for something else, would give this. */
    Py_CLEAR(self->awaiting);
    PyObject *before =
        wsm_task_swap(self->state, self->loop, (PyObject *)self);
    if (before == NULL) {
        how = PYGEN_ERROR;
    }
    else {
        bool entered = wsm_send_enter(connection);
        self->stepping = true;
        how = driver_advance(self, value, thrown, result);
        how = driver_continue(self, how, result);
        self->stepping = false;
        wsm_send_exit(connection, entered);
        wsm_task_restore(self->state, self->loop, before);
    }
    Py_XDECREF(thrown);
    if (how != PYGEN_NEXT) {
        wsm_driver_release(self);
    }
    Py_DECREF(connection);
    Py_DECREF(self);
    return how;
}

static PySendResult
driver_am_send(PyObject *op, PyObject *value, PyObject **result)
{
    return driver_step((WsmDriver *)op, value, result);
}

static PyObject *
driver_give(PySendResult how, PyObject *result)
{
    if (how == PYGEN_RETURN) {
        wsm_raise_stop(result);
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
driver_send(PyObject *op, PyObject *value)
{
    PyObject *result;
    PySendResult how = driver_step((WsmDriver *)op, value, &result);
    return driver_give(how, result);
}

static PyObject *
driver_iternext(PyObject *op)
{
    return driver_send(op, Py_None);
}

static PyObject *
driver_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result;
    if (wsm_raise_thrown(args, nargs) < 0) {
        return NULL;
    }
    PySendResult how = driver_step((WsmDriver *)op, NULL, &result);
    return driver_give(how, result);
}

static PyObject *
driver_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    WsmDriver *self = (WsmDriver *)op;
    WsmConnection *connection = self->connection;

    if (driver_is_stepping(self)) {
        return NULL;
    }
    if (connection != NULL) {
        Py_INCREF(connection);
        if (self->event != NULL) {
            wsm_connection_settle(connection, self->event, WSM_FAILED,
                                  "cancelled");
        }
        wsm_driver_release(self);
        wsm_evict(connection, "cancelled");
        Py_DECREF(connection);
    }
    Py_RETURN_NONE;
}

/* -- as the current task ------------------------------------------------- */

/* Everything else a task can do, its task does. */
static PyObject *
driver_getattro(PyObject *op, PyObject *name)
{
    WsmDriver *self = (WsmDriver *)op;
    PyObject *found = PyObject_GenericGetAttr(op, name);

    if (found == NULL && self->task != NULL &&
        PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        found = PyObject_GetAttr(self->task, name);
    }
    return found;
}

/* A call of the task's method; what answers for it before there is one. */
static PyObject *
driver_forward(PyObject *op, const char *name, PyObject *before)
{
    WsmDriver *self = (WsmDriver *)op;
    PyObject *task = Py_XNewRef(self->task);
    if (task == NULL) {
        return Py_NewRef(before);
    }
    PyObject *method = PyUnicode_FromString(name);
    PyObject *result =
        method == NULL ? NULL : PyObject_CallMethodNoArgs(task, method);
    Py_XDECREF(method);
    Py_DECREF(task);
    return result;
}

static PyObject *
driver_cancel(PyObject *op, PyObject *args, PyObject *kwargs)
{
    PyObject *task = Py_XNewRef(((WsmDriver *)op)->task), *result = NULL;
    if (task == NULL) {
        Py_RETURN_FALSE;
    }
    PyObject *cancel =
        PyObject_GetAttr(task, ((WsmDriver *)op)->state->names.cancel);
    if (cancel != NULL) {
        result = PyObject_Call(cancel, args, kwargs);
        Py_DECREF(cancel);
    }
    Py_DECREF(task);
    return result;
}

/* Its connection was removed: end the send that hangs. Not if it is that
 * very send which removes it: then it ends by itself. */
static PyObject *
driver_stop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    WsmDriver *self = (WsmDriver *)op;
    if (self->stepping || self->task == NULL) {
        Py_RETURN_FALSE;
    }
    return PyObject_CallMethodNoArgs(self->task, self->state->names.cancel);
}

static PyObject *
driver_count(PyObject *op, const char *name)
{
    PyObject *zero = PyLong_FromLong(0);
    PyObject *result = zero == NULL ? NULL : driver_forward(op, name, zero);
    Py_XDECREF(zero);
    return result;
}

static PyObject *
driver_cancelling(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return driver_count(op, "cancelling");
}

static PyObject *
driver_uncancel(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return driver_count(op, "uncancel");
}

static PyObject *
driver_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return driver_forward(op, "done", Py_False);
}

static PyObject *
driver_get_loop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(((WsmDriver *)op)->loop);
}

static PyObject *
driver_get_name(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString("wsmanager-writer");
}

static PyObject *
driver_get_running(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    Py_RETURN_FALSE;
}

static PyObject *
driver_get_suspended(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

static int
driver_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmDriver *self = (WsmDriver *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->connection);
    Py_VISIT(self->event);
    Py_VISIT(self->inner);
    Py_VISIT(self->awaiting);
    Py_VISIT(self->task);
    return 0;
}

static int
driver_clear(PyObject *op)
{
    WsmDriver *self = (WsmDriver *)op;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->connection);
    Py_CLEAR(self->event);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->awaiting);
    Py_CLEAR(self->task);
    return 0;
}

static void
driver_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (WSM_HAS_WEAKREFS((WsmDriver *)op)) {
        PyObject_ClearWeakRefs(op);
    }
    driver_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef driver_methods[] = {
    {"send", driver_send, METH_O, "PEP 342."},
    {"throw", (PyCFunction)(void (*)(void))driver_throw, METH_FASTCALL,
     "PEP 342."},
    {"close", driver_close, METH_NOARGS, "PEP 342."},
    {"cancel", (PyCFunction)(void (*)(void))driver_cancel,
     METH_VARARGS | METH_KEYWORDS, "As asyncio.Task.cancel."},
    {"stop", driver_stop, METH_NOARGS, "Cancel, unless it runs just now."},
    {"cancelling", driver_cancelling, METH_NOARGS, "As asyncio.Task."},
    {"uncancel", driver_uncancel, METH_NOARGS, "As asyncio.Task."},
    {"done", driver_done, METH_NOARGS, "As asyncio.Task."},
    {"get_loop", driver_get_loop, METH_NOARGS, "As asyncio.Task."},
    {"get_name", driver_get_name, METH_NOARGS, "As asyncio.Task."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef driver_getset[] = {
    {"cr_running", driver_get_running, NULL, "False.", NULL},
    {"cr_suspended", driver_get_suspended, NULL, "True.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef driver_members[] = {
    WSM_WEAKREF_MEMBER(WsmDriver){NULL, 0, 0, 0, NULL},
};

static PyType_Slot driver_slots[] = {
    {Py_tp_dealloc, driver_dealloc},
    {Py_tp_traverse, driver_traverse},
    {Py_tp_clear, driver_clear},
    {Py_tp_getattro, driver_getattro},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, driver_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, driver_am_send},
    {Py_tp_methods, driver_methods},
    {Py_tp_getset, driver_getset},
    {Py_tp_members, driver_members},  {0, NULL},
};

PyType_Spec wsm_driver_spec = {
    .name = "wsmanager._wsmanager.Driver",
    .basicsize = sizeof(WsmDriver),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE |
             WSM_TPFLAGS_MANAGED_WEAKREF,
    .slots = driver_slots,
};
