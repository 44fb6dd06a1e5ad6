/* One availability check a loop, shared by all who wait there: a task of its
 * own, so a caller that is cancelled takes nothing from the others.
 * Invariant: checks has an entry for each that runs and is wanted. */
#include "check.h"

#include "compat.h"

/* checks: address of a loop to [the check's task, how many wait for it]. */
static PyObject *
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
    return items == NULL ? NULL : Py_NewRef(Py_None);
}

PyObject *
wsm_check_done(PyObject *module, PyObject *task)
{
    return check_forget(wsm_state_of(module), task);
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
        if (waiting == 0) {
            /* Out of the table first: who comes now starts another. */
            result = check_forget(state, task);
            Py_XDECREF(result);
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
