/* Finds or makes a manager, after the loop's availability check.
 * Invariant: no lock, and nothing of the registry, is held while it waits. */
#include "acquire.h"

#include "check.h"
#include "compat.h"
#include "registry.h"
#include "results.h"
#include "settings.h"

typedef struct {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    PyObject *key; /* owned */
    PyObject *context; /* owned */
    PyObject *mode; /* owned */
    WsmSlot manager; /* owned or NULL: found when called */
    WsmSlot inner; /* owned or NULL: the wait for the check */
    WsmSlot task; /* owned or NULL: the check, while we count as waiting */
    WSM_SHARED(bool) started;
    WSM_SHARED(bool) over;
    bool finalized;
} WsmAcquire;

static WsmAcquire *
acquire_alloc(WsmState *state)
{
    WsmAcquire *self =
        PyObject_GC_New(WsmAcquire, state->types.ManagerAcquire);
    if (self != NULL) {
        self->state = state;
        self->key = NULL;
        self->context = NULL;
        self->mode = NULL;
        self->inner = NULL;
        self->task = NULL;
        self->finalized = false;
    }
    return self;
}

/* A hit makes one and drops it, and nothing else: the memory of the last
 * that went, all empty but for its manager, if it is still there. */
PyObject *
wsm_acquire_hit(WsmState *state, WsmManager *manager)
{
    WsmAcquire *self = (WsmAcquire *)state->spare_acquire;
    if (WSM_KEEPS_SPARE && self != NULL) {
        state->spare_acquire = NULL;
        Py_INCREF(Py_TYPE(self));
        _Py_NewReference((PyObject *)self);
    }
    else if ((self = acquire_alloc(state)) == NULL) {
        Py_XDECREF(manager);
        return NULL;
    }
    self->manager = (PyObject *)manager;
    self->started = false;
    self->over = false;
    /* Not tracked: it waits for nothing, so nothing leads back to it but
     * who keeps it. */
    return (PyObject *)self;
}

PyObject *
wsm_acquire_miss(WsmState *state, PyObject *key, PyObject *context,
                 PyObject *mode)
{
    WsmAcquire *self = (WsmAcquire *)wsm_acquire_hit(state, NULL);
    if (self == NULL) {
        Py_DECREF(key);
        return NULL;
    }
    self->key = key;
    self->context = Py_NewRef(context);
    self->mode = Py_NewRef(mode);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* The iterator that waits for this loop's check, begun if there is none. */
static PyObject *
acquire_wait(WsmAcquire *self, PyObject *check)
{
    WsmState *state = self->state;
    PyObject *iterator = NULL;
    PyObject *task = wsm_check_join(state, check);

    if (task == NULL) {
        return NULL;
    }
    self->task = task;
    PyObject *shielded = PyObject_CallOneArg(state->asyncio.shield, task);
    if (shielded != NULL) {
        iterator = PyObject_CallMethodNoArgs(shielded, state->names.__await__);
        Py_DECREF(shielded);
    }
    return iterator;
}

/* We wait no longer. */
static void
acquire_leave(WsmAcquire *self)
{
    PyObject *task = wsm_slot_take(&self->task);
    if (task != NULL) {
        wsm_check_leave(self->state, task);
    }
}

/* -- the one step -------------------------------------------------------- */

static PySendResult
acquire_finish(WsmAcquire *self, bool available, PyObject **result)
{
    self->over = true;
    *result =
        (PyObject *)wsm_registry_get(self->state->registry, self->key,
                                     self->context, self->mode, available);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* A caller's own, thrown in, or one that is for nobody to take: raised. */
static PySendResult
acquire_fail(WsmAcquire *self)
{
    self->over = true;
    return PYGEN_ERROR;
}

/* The check, which must not raise, raised. */
static PySendResult
acquire_check_failed(WsmAcquire *self, PyObject **result)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception) ||
        PyErr_ExceptionMatches(self->state->asyncio.cancelled_error)) {
        return acquire_fail(self);
    }
    PyObject *error = wsm_error_take();
    PyObject *fields = Py_BuildValue("{s:O}", "error", error);
    wsm_report(self->state, "availability", "raised", fields);
    Py_XDECREF(fields);
    Py_XDECREF(error);
    PyErr_Clear();
    return acquire_finish(self, false, result);
}

/* Whether what is raised is what the check ended with: a loop throws that
 * into us, and a caller may throw anything. */
static bool
acquire_is_of_check(WsmAcquire *self, PyObject *task)
{
    PyObject *error = wsm_error_take();
    PyObject *ended =
        PyObject_CallMethodNoArgs(task, self->state->names.exception);
    bool is = ended == error;
    Py_XDECREF(ended);
    wsm_error_restore(error); /* over that of a check that has not ended */
    return is;
}

/* Until the check has ended the loop does not step us: who does is a second
 * awaiter. */
static int
acquire_may_step(WsmAcquire *self)
{
    PyObject *task = wsm_slot_take(&self->task);
    if (task == NULL) {
        return 1;
    }
    PyObject *done = PyObject_CallMethodNoArgs(task, self->state->names.done);
    int may = done == NULL ? -1 : PyObject_IsTrue(done);
    Py_XDECREF(done);
    self->task = task;
    return may;
}

/* What inner gave, as what we give. inner is owned by the C stack while it
 * runs: a second awaiter finds none. */
static PySendResult
acquire_stepped(WsmAcquire *self, PyObject *inner, PySendResult how,
                PyObject **result)
{
    if (how == PYGEN_NEXT) {
        self->inner = inner;
        return PYGEN_NEXT;
    }
    Py_DECREF(inner);
    PyObject *task = wsm_slot_take(&self->task);
    bool failed =
        how == PYGEN_ERROR && task != NULL && acquire_is_of_check(self, task);
    if (task != NULL) {
        wsm_check_leave(self->state, task);
    }
    if (how == PYGEN_ERROR) {
        return failed ? acquire_check_failed(self, result)
                      : acquire_fail(self);
    }
    int available = PyObject_IsTrue(*result);
    Py_CLEAR(*result);
    if (available < 0) {
        return acquire_check_failed(self, result);
    }
    return acquire_finish(self, available > 0, result);
}

static PySendResult
acquire_refuse_second(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "get_websocket_manager_async() is being awaited "
                    "already");
    return PYGEN_ERROR;
}

/* The check to wait for, a new reference. NULL, with or without an exception:
 * there is none, and none within a check, which would wait for itself. */
static PyObject *
acquire_check(WsmState *state)
{
    PyObject *checking;
    if (PyContextVar_Get(state->checking, NULL, &checking) < 0) {
        return NULL;
    }
    Py_DECREF(checking); /* True or False: they stay */
    return checking == Py_True
               ? NULL
               : wsm_settings_object(state,
                                     &state->settings.availability_check);
}

/* A miss without a check to wait for. */
static PySendResult
acquire_at_once(WsmAcquire *self, PyObject **result)
{
    return PyErr_Occurred() ? acquire_fail(self)
                            : acquire_finish(self, true, result);
}

static PySendResult
acquire_begin(WsmAcquire *self, PyObject **result)
{
    WsmState *state = self->state;

    self->started = true;
    *result = wsm_slot_take(&self->manager);
    if (*result != NULL) {
        self->over = true;
        return PYGEN_RETURN;
    }
    if (self->key == NULL) {
        return acquire_refuse_second(); /* another thread has the manager */
    }
    WsmManager *found = wsm_registry_find(state->registry, self->key);
    if (found != NULL) {
        self->over = true;
        *result = (PyObject *)found;
        return PYGEN_RETURN;
    }
    PyObject *check = PyErr_Occurred() ? NULL : acquire_check(state);
    if (check == NULL) {
        return acquire_at_once(self, result);
    }
    PyObject *inner = acquire_wait(self, check);
    Py_DECREF(check);
    if (inner == NULL) {
        return acquire_check_failed(self, result);
    }
    PySendResult how = PyIter_Send(inner, Py_None, result);
    return acquire_stepped(self, inner, how, result);
}

static PySendResult
acquire_step(WsmAcquire *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (self->over) {
        PyErr_SetString(PyExc_RuntimeError,
                        "get_websocket_manager_async() was already awaited");
        return PYGEN_ERROR;
    }
    if (!self->started) {
        return acquire_begin(self, result);
    }
    PyObject *inner = wsm_slot_take(&self->inner);
    if (inner == NULL) {
        return acquire_refuse_second();
    }
    int may = acquire_may_step(self);
    if (may <= 0) {
        self->inner = inner;
        return may < 0 ? PYGEN_ERROR : acquire_refuse_second();
    }
    PySendResult how = PyIter_Send(inner, value, result);
    return acquire_stepped(self, inner, how, result);
}

/* -- its faces ----------------------------------------------------------- */

static PySendResult
acquire_am_send(PyObject *op, PyObject *value, PyObject **result)
{
    return acquire_step((WsmAcquire *)op, value, result);
}

static PyObject *
acquire_give(PySendResult how, PyObject *result)
{
    if (how == PYGEN_RETURN) {
        wsm_raise_stop(result);
        Py_CLEAR(result);
    }
    return result;
}

/* As a coroutine's: refused while one waits. */
static PyObject *
acquire_await(PyObject *op)
{
    WsmAcquire *self = (WsmAcquire *)op;
    if (self->started && !self->over) {
        acquire_refuse_second();
        return NULL;
    }
    return Py_NewRef(op);
}

/* What await itself calls on 3.12 and later. */
static PyObject *
acquire_iternext(PyObject *op)
{
    WsmAcquire *self = (WsmAcquire *)op;
    PyObject *result = self->over ? NULL : wsm_slot_take(&self->manager);
    if (result != NULL) {
        self->started = true;
        self->over = true;
        wsm_raise_stop_fast(self->state, result);
        return NULL;
    }
    PySendResult how = acquire_step(self, Py_None, &result);
    if (how == PYGEN_RETURN) {
        wsm_raise_stop_fast(self->state, result);
        return NULL;
    }
    return result;
}

static PyObject *
acquire_send(PyObject *op, PyObject *value)
{
    WsmAcquire *self = (WsmAcquire *)op;
    PyObject *result;

    if (!self->started && value != Py_None) {
        PyErr_SetString(PyExc_TypeError,
                        "can't send non-None value to a just-started "
                        "awaitable");
        return NULL;
    }
    PySendResult how = acquire_step(self, value, &result);
    return acquire_give(how, result);
}

static PyObject *
acquire_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    WsmAcquire *self = (WsmAcquire *)op;
    PyObject *inner, *result;

    if (wsm_raise_thrown(args, nargs) < 0) {
        return NULL;
    }
    inner = wsm_slot_take(&self->inner);
    self->started = true;
    if (inner == NULL || self->over) {
        self->over = true;
        Py_XDECREF(inner);
        return NULL;
    }
    PyObject *thrown = wsm_error_take();
    result =
        PyObject_CallMethodOneArg(inner, self->state->names.throw, thrown);
    Py_DECREF(thrown);
    PySendResult how = result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
    if (how == PYGEN_ERROR && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyObject *stop = wsm_error_take();
        result = PyObject_GetAttr(stop, self->state->names.value);
        Py_DECREF(stop);
        how = result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }
    how = acquire_stepped(self, inner, how, &result);
    return acquire_give(how, result);
}

static PyObject *
acquire_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    WsmAcquire *self = (WsmAcquire *)op;
    PyObject *inner = wsm_slot_take(&self->inner);
    self->started = true;
    self->over = true;
    acquire_leave(self);
    Py_XDECREF(inner);
    Py_RETURN_NONE;
}

/* The mistake this class exists for: the manager used without the await. */
static PyObject *
acquire_getattro(PyObject *op, PyObject *name)
{
    WsmAcquire *self = (WsmAcquire *)op;
    PyObject *found = PyObject_GenericGetAttr(op, name);
    if (found != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return found;
    }
    PyObject *saved = wsm_error_take(), *there;
    int has = PyObject_GetOptionalAttr((PyObject *)self->state->types.Manager,
                                       name, &there);
    if (has > 0) {
        Py_DECREF(there);
        Py_DECREF(saved);
        PyErr_Format(PyExc_AttributeError,
                     "'%U' is of the manager, which is not here yet: write "
                     "manager = await get_websocket_manager_async(...), or "
                     "use get_websocket_manager(...) without await",
                     name);
        return NULL;
    }
    PyErr_Clear();
    wsm_error_restore(saved);
    return NULL;
}

static PyObject *
acquire_repr(PyObject *op)
{
    WsmAcquire *self = (WsmAcquire *)op;
    return PyUnicode_FromFormat("<awaitable get_websocket_manager_async() %s>",
                                self->over      ? "done"
                                : self->started ? "waiting"
                                                : "not awaited");
}

static void
acquire_finalize(PyObject *op)
{
    WsmAcquire *self = (WsmAcquire *)op;
    self->finalized = true;
    acquire_leave(self);
    if (self->started) {
        return;
    }
    PyObject *saved = wsm_error_take();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "get_websocket_manager_async() was never awaited") <
        0) {
        wsm_unraisable((PyObject *)Py_TYPE(op));
    }
    wsm_error_restore(saved);
}

static int
acquire_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmAcquire *self = (WsmAcquire *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->context);
    Py_VISIT(self->mode);
    Py_VISIT(self->manager);
    Py_VISIT(self->inner);
    Py_VISIT(self->task);
    return 0;
}

static int
acquire_clear(PyObject *op)
{
    WsmAcquire *self = (WsmAcquire *)op;
    Py_CLEAR(self->context);
    Py_CLEAR(self->mode);
    Py_CLEAR(self->manager);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->task);
    return 0;
}

/* A hit that was awaited: it holds nothing any more, was never tracked, and
 * has its memory to leave. */
static bool
acquire_spare(WsmAcquire *self)
{
    WsmState *state = self->state;
    if (!WSM_KEEPS_SPARE || !self->over || self->finalized ||
        self->key != NULL || self->manager != NULL ||
        state->types.ManagerAcquire == NULL || /* nobody would free it */
        state->spare_acquire != NULL) {
        return false;
    }
    state->spare_acquire = (PyObject *)self;
    return true;
}

static void
acquire_dealloc(PyObject *op)
{
    WsmAcquire *self = (WsmAcquire *)op;
    PyTypeObject *type = Py_TYPE(op);

    /* A collection may take the module from the type, and so the state from
     * us, before it comes to us. */
    if (wsm_type_has_module(type)) {
        wsm_stop_forget(self->state);
        if (acquire_spare(self)) {
            Py_DECREF(type);
            return;
        }
    }
    if ((!self->started || self->task != NULL) &&
        PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    acquire_clear(op);
    Py_CLEAR(self->key);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyMethodDef acquire_methods[] = {
    {"send", acquire_send, METH_O, "send($self, value, /)\n--\n\nPEP 342."},
    {"throw", (PyCFunction)(void (*)(void))acquire_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nPEP 342."},
    {"close", acquire_close, METH_NOARGS, "close($self, /)\n--\n\nPEP 342."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot acquire_slots[] = {
    {Py_tp_doc,
     (void *)"The awaitable of get_websocket_manager_async(); gives the "
             "manager, once."},
    {Py_tp_dealloc, acquire_dealloc},
    {Py_tp_finalize, acquire_finalize},
    {Py_tp_traverse, acquire_traverse},
    {Py_tp_clear, acquire_clear},
    {Py_tp_repr, acquire_repr},
    {Py_tp_getattro, acquire_getattro},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, acquire_iternext},
    {Py_am_await, acquire_await},
    {Py_am_send, acquire_am_send},
    {Py_tp_methods, acquire_methods},
    {0, NULL},
};

PyType_Spec wsm_acquire_spec = {
    .name = "wsmanager._wsmanager.ManagerAcquire",
    .basicsize = sizeof(WsmAcquire),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = acquire_slots,
};
