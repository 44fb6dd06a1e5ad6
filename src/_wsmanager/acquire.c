/* Finds or makes a manager, after one availability check per loop that all
 * who wait on that loop share. The check is a task of its own: a caller that
 * is cancelled takes nothing from the others.
 * Invariant: no lock, and nothing of the registry, is held while it waits. */
#include "acquire.h"

#include "compat.h"
#include "registry.h"
#include "results.h"

typedef struct {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    PyObject *key; /* owned */
    PyObject *context; /* owned */
    PyObject *mode; /* owned */
    WsmManager *manager; /* owned or NULL: found when called */
    PyObject *inner; /* owned or NULL: the wait for the check */
    PyObject *task; /* owned or NULL: the check, while we count as waiting */
    bool started;
    bool over;
} WsmAcquire;

/* Memory of the last one that went, if it is still there: a hit makes and
 * drops one, and nothing else. */
static WsmAcquire *
acquire_alloc(WsmState *state)
{
    PyObject *spare = state->spare_acquire;
    if (WSM_KEEPS_SPARE && spare != NULL) {
        state->spare_acquire = NULL;
        return (WsmAcquire *)PyObject_Init(spare, state->types.ManagerAcquire);
    }
    return PyObject_GC_New(WsmAcquire, state->types.ManagerAcquire);
}

PyObject *
wsm_acquire_hit(WsmState *state, WsmManager *manager)
{
    WsmAcquire *self = acquire_alloc(state);
    if (self == NULL) {
        Py_XDECREF(manager);
        return NULL;
    }
    self->state = state;
    self->key = NULL;
    self->context = NULL;
    self->mode = NULL;
    self->manager = manager;
    self->inner = NULL;
    self->task = NULL;
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

/* -- the shared check ---------------------------------------------------- */

/* checks: address of a loop to [the check's task, how many wait for it]. */
static PyObject *
acquire_forget(WsmState *state, PyObject *task)
{
    PyObject *items = PyDict_Items(state->checks);
    if (items == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        PyObject *entry = PyTuple_GET_ITEM(pair, 1);
        if (PyList_GET_ITEM(entry, 0) == task &&
            PyDict_DelItem(state->checks, PyTuple_GET_ITEM(pair, 0)) < 0) {
            Py_DECREF(items);
            return NULL;
        }
    }
    Py_DECREF(items);
    Py_RETURN_NONE;
}

PyObject *
wsm_acquire_check_done(PyObject *module, PyObject *task)
{
    return acquire_forget(wsm_state_of(module), task);
}

/* Add n to the waiters of an entry; how many there are then, -1 on error. */
static long
acquire_count(PyObject *entry, long n)
{
    long waiting = PyLong_AsLong(PyList_GET_ITEM(entry, 1)) + n;
    PyObject *value = PyLong_FromLong(waiting);
    if (value == NULL || PyList_SetItem(entry, 1, value) < 0) {
        return -1;
    }
    return waiting;
}

/* The entry of a running check, borrowed; NULL without an exception. */
static PyObject *
acquire_entry(WsmState *state, PyObject *task)
{
    PyObject *key, *entry;
    Py_ssize_t at = 0;
    while (PyDict_Next(state->checks, &at, &key, &entry)) {
        if (PyList_GET_ITEM(entry, 0) == task) {
            return entry;
        }
    }
    return NULL;
}

/* We wait no longer. A check that nobody waits for is cancelled. */
static void
acquire_leave(WsmAcquire *self)
{
    PyObject *task = self->task;
    self->task = NULL;
    if (task == NULL) {
        return;
    }
    PyObject *saved = wsm_error_take();
    PyObject *entry = acquire_entry(self->state, task);
    if (entry != NULL) {
        long waiting = acquire_count(entry, -1);
        PyObject *result = NULL;
        if (waiting == 0) {
            /* Out of the table first: who comes now starts another. */
            result = acquire_forget(self->state, task);
            Py_XDECREF(result);
            result =
                PyObject_CallMethodNoArgs(task, self->state->names.cancel);
        }
        if (waiting < 0 || (waiting == 0 && result == NULL)) {
            wsm_unraisable(task);
        }
        Py_XDECREF(result);
    }
    Py_DECREF(task);
    wsm_error_restore(saved);
}

static PyObject *
acquire_start_check(WsmState *state, PyObject *loop, PyObject *key,
                    PyObject *check)
{
    PyObject *task = NULL, *result = NULL;
    PyObject *coroutine = PyObject_CallNoArgs(check);

    if (coroutine == NULL) {
        return NULL;
    }
    task =
        PyObject_CallMethodOneArg(loop, state->names.create_task, coroutine);
    Py_DECREF(coroutine);
    if (task == NULL) {
        return NULL;
    }
    PyObject *entry = Py_BuildValue("[Oi]", task, 0);
    if (entry == NULL) {
        goto failed;
    }
    int stored = PyDict_SetItem(state->checks, key, entry);
    Py_DECREF(entry);
    if (stored < 0) {
        goto failed;
    }
    result = PyObject_CallMethodOneArg(task, state->names.add_done_callback,
                                       state->check_done);
    if (result == NULL) {
        goto failed;
    }
    Py_DECREF(result);
    return task;
failed:
    result = PyObject_CallMethodNoArgs(task, state->names.cancel);
    Py_XDECREF(result);
    Py_DECREF(task);
    return NULL;
}

/* The running check of a loop: 1 and *task owned; 0; -1 with an error. */
static int
acquire_running(WsmState *state, PyObject *key, PyObject **task)
{
    PyObject *entry = NULL;
    int found = PyDict_GetItemRef(state->checks, key, &entry);
    *task = found > 0 ? Py_NewRef(PyList_GET_ITEM(entry, 0)) : NULL;
    Py_XDECREF(entry);
    return found;
}

/* The iterator that waits for this loop's check, begun if there is none. */
static PyObject *
acquire_wait(WsmAcquire *self, PyObject *check)
{
    WsmState *state = self->state;
    PyObject *loop, *task = NULL, *iterator = NULL;
    int found = wsm_running_loop(state, &loop);

    if (found <= 0) {
        if (found == 0) {
            PyErr_SetString(PyExc_RuntimeError,
                            "the availability check needs a running asyncio "
                            "event loop");
        }
        return NULL;
    }
    PyObject *key = PyLong_FromVoidPtr(loop);
    if (key == NULL) {
        return NULL;
    }
    if (acquire_running(state, key, &task) == 0) {
        task = acquire_start_check(state, loop, key, check);
    }
    Py_DECREF(key);
    if (task == NULL) {
        return NULL;
    }
    PyObject *entry = acquire_entry(state, task);
    if (entry != NULL && acquire_count(entry, 1) < 0) {
        Py_DECREF(task);
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

/* The check, which must not raise, raised. */
static PySendResult
acquire_check_failed(WsmAcquire *self, PyObject **result)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception) ||
        PyErr_ExceptionMatches(self->state->asyncio.cancelled_error)) {
        self->over = true;
        return PYGEN_ERROR;
    }
    PyObject *error = wsm_error_take();
    PyObject *fields = Py_BuildValue("{s:O}", "error", error);
    wsm_report(self->state, "availability", "raised", fields);
    Py_XDECREF(fields);
    Py_XDECREF(error);
    PyErr_Clear();
    return acquire_finish(self, false, result);
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
    acquire_leave(self);
    if (how == PYGEN_ERROR) {
        return acquire_check_failed(self, result);
    }
    int available = PyObject_IsTrue(*result);
    Py_CLEAR(*result);
    if (available < 0) {
        return acquire_check_failed(self, result);
    }
    return acquire_finish(self, available > 0, result);
}

static PySendResult
acquire_begin(WsmAcquire *self, PyObject **result)
{
    WsmState *state = self->state;

    self->started = true;
    if (self->manager != NULL) {
        self->over = true;
        *result = (PyObject *)self->manager;
        self->manager = NULL;
        return PYGEN_RETURN;
    }
    WsmManager *found = wsm_registry_find(state->registry, self->key);
    if (found != NULL) {
        self->over = true;
        *result = (PyObject *)found;
        return PYGEN_RETURN;
    }
    if (PyErr_Occurred()) {
        return PYGEN_ERROR;
    }
    PyObject *check = Py_XNewRef(state->settings.availability_check);
    if (check == NULL) {
        return acquire_finish(self, true, result);
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
    PyObject *inner = self->inner;
    self->inner = NULL;
    if (inner == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "get_websocket_manager_async() is being awaited "
                        "already");
        return PYGEN_ERROR;
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

/* What await itself calls on 3.12 and later. */
static PyObject *
acquire_iternext(PyObject *op)
{
    PyObject *result;
    PySendResult how = acquire_step((WsmAcquire *)op, Py_None, &result);
    if (how == PYGEN_RETURN) {
        wsm_raise_stop_fast(((WsmAcquire *)op)->state, result);
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
    PyObject *inner = self->inner, *result;

    self->inner = NULL;
    wsm_raise_thrown(args, nargs);
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
    PyObject *inner = self->inner;
    self->inner = NULL;
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

static void
acquire_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if ((!((WsmAcquire *)op)->started || ((WsmAcquire *)op)->task != NULL) &&
        PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    WsmState *state = ((WsmAcquire *)op)->state;
    PyObject_GC_UnTrack(op);
    acquire_clear(op);
    Py_CLEAR(((WsmAcquire *)op)->key);
    wsm_stop_forget(state);
    if (WSM_KEEPS_SPARE && state->spare_acquire == NULL &&
        !PyObject_GC_IsFinalized(op)) {
        state->spare_acquire = op;
    }
    else {
        PyObject_GC_Del(op);
    }
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
    {Py_am_await, PyObject_SelfIter},
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
