/* One availability check a loop, shared by all who wait there: a task of its
 * own, so a caller that is cancelled takes nothing from the others.
 * Invariant: checks has an entry for each that runs and is wanted; one whose
 * loop was closed meanwhile stays until the next begins. */
#include "check.h"

#include "compat.h"

/* checks: address of a loop to [the check's task, how many wait for it, the
 * loop]. */
static int
check_forget(WsmState *state, PyObject *task)
{
    PyObject *items = PyDict_Items(state->checks);
    Py_ssize_t count = items == NULL ? 0 : PyList_GET_SIZE(items);
    for (Py_ssize_t i = 0; items != NULL && i < count; i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        PyObject *entry = PyTuple_GET_ITEM(pair, 1);
        if (PyList_GET_ITEM(entry, 0) == task &&
            PyDict_Pop(state->checks, PyTuple_GET_ITEM(pair, 0), NULL) < 0) {
            Py_CLEAR(items);
        }
    }
    Py_XDECREF(items);
    return items == NULL ? -1 : 0;
}

PyObject *
wsm_check_done(PyObject *module, PyObject *task)
{
    if (check_forget(wsm_state_of(module), task) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

int
wsm_check_sweep(WsmState *state)
{
    PyObject *entries = PyDict_Values(state->checks);
    Py_ssize_t count = entries == NULL ? 0 : PyList_GET_SIZE(entries);
    int result = entries == NULL ? -1 : 0;

    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        PyObject *entry = PyList_GET_ITEM(entries, i);
        PyObject *closed = PyObject_CallMethodNoArgs(PyList_GET_ITEM(entry, 2),
                                                     state->names.is_closed);
        result = closed == NULL ? -1 : PyObject_IsTrue(closed);
        Py_XDECREF(closed);
        if (result > 0) {
            result = check_forget(state, PyList_GET_ITEM(entry, 0));
        }
    }
    Py_XDECREF(entries);
    return result;
}

/* Add n to the waiters of an entry; how many there are then, -1 on error. */
static long
check_count(PyObject *entry, long n)
{
    PyObject *value;
    long waiting;

    Py_BEGIN_CRITICAL_SECTION(entry);
    waiting = PyLong_AsLong(PyList_GET_ITEM(entry, 1)) + n;
    value = PyLong_FromLong(waiting);
    if (value != NULL) {
        Py_DECREF(PyList_GET_ITEM(entry, 1)); /* an int: runs nothing */
        PyList_SET_ITEM(entry, 1, value);
    }
    Py_END_CRITICAL_SECTION();
    return value == NULL ? -1 : waiting;
}

/* The entry of a running check, a new reference, or NULL. */
static PyObject *
check_entry(WsmState *state, PyObject *task)
{
    PyObject *key, *entry, *found = NULL;
    Py_ssize_t at = 0;

    Py_BEGIN_CRITICAL_SECTION(state->checks);
    while (found == NULL && PyDict_Next(state->checks, &at, &key, &entry)) {
        if (PyList_GET_ITEM(entry, 0) == task) {
            found = Py_NewRef(entry);
        }
    }
    Py_END_CRITICAL_SECTION();
    return found;
}

void
wsm_check_leave(WsmState *state, PyObject *task)
{
    PyObject *saved = wsm_error_take();
    PyObject *entry = check_entry(state, task);
    if (entry != NULL) {
        long waiting = check_count(entry, -1);
        PyObject *result = NULL;
        /* Out of the table first: who comes now starts another. */
        if (waiting == 0 && check_forget(state, task) == 0) {
            result = PyObject_CallMethodNoArgs(task, state->names.cancel);
        }
        if (waiting < 0 || (waiting == 0 && result == NULL)) {
            wsm_unraisable(task);
        }
        Py_XDECREF(result);
        Py_DECREF(entry);
    }
    Py_DECREF(task);
    wsm_error_restore(saved);
}

static PyObject *
check_start(WsmState *state, PyObject *loop, PyObject *key, PyObject *check)
{
    PyObject *task = NULL, *result = NULL, *coroutine;

    if (wsm_check_sweep(state) < 0 ||
        (coroutine = PyObject_CallNoArgs(check)) == NULL) {
        return NULL;
    }
    task =
        PyObject_CallMethodOneArg(loop, state->names.create_task, coroutine);
    Py_DECREF(coroutine);
    if (task == NULL) {
        return NULL;
    }
    PyObject *entry = Py_BuildValue("[OiO]", task, 0, loop);
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
check_running(WsmState *state, PyObject *key, PyObject **task)
{
    PyObject *entry = NULL;
    int found = PyDict_GetItemRef(state->checks, key, &entry);
    *task = found > 0 ? Py_NewRef(PyList_GET_ITEM(entry, 0)) : NULL;
    Py_XDECREF(entry);
    return found;
}

PyObject *
wsm_check_join(WsmState *state, PyObject *check)
{
    PyObject *loop, *task = NULL;
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
    if (check_running(state, key, &task) == 0) {
        task = check_start(state, loop, key, check);
    }
    Py_DECREF(key);
    if (task == NULL) {
        return NULL;
    }
    PyObject *entry = check_entry(state, task);
    if (entry != NULL && check_count(entry, 1) < 0) {
        Py_CLEAR(task);
    }
    Py_XDECREF(entry);
    return task;
}
