/* Invariant: a future is touched only on its own loop's thread. */
#include "waiters.h"

#include "compat.h"

static PyObject *
waiters_future(WsmState *state, PyObject **loop)
{
    int found = wsm_running_loop(state, loop);
    if (found <= 0) {
        if (found == 0) {
            PyErr_SetString(PyExc_RuntimeError,
                            "no running event loop to wait on");
        }
        return NULL;
    }
    return PyObject_CallMethodNoArgs(*loop, state->names.create_future);
}

PyObject *
wsm_waiters_done(WsmState *state, PyObject *value)
{
    PyObject *loop;
    PyObject *future = waiters_future(state, &loop);
    if (future == NULL) {
        return NULL;
    }
    PyObject *set =
        PyObject_CallMethodOneArg(future, state->names.set_result, value);
    if (set == NULL) {
        Py_DECREF(future);
        return NULL;
    }
    Py_DECREF(set);
    return future;
}

/* After timeout seconds the loop itself gives the future False. */
static int
waiters_limit(WsmState *state, PyObject *loop, PyObject *future,
              PyObject *timeout)
{
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!(seconds >= 0.0)) {
        PyErr_SetString(PyExc_ValueError,
                        "timeout must be a number of seconds, 0 or more");
        return -1;
    }
    PyObject *handle = PyObject_CallMethodObjArgs(
        loop, state->names.call_later, timeout, state->settle_future, future,
        Py_False, NULL);
    if (handle == NULL) {
        return -1;
    }
    Py_DECREF(handle);
    return 0;
}

/* A list that others have is never written to: it is replaced by a longer
 * one, unless somebody was faster. */
static int
waiters_enter(WsmLock *lock, PyObject **list, PyObject *future)
{
    for (;;) {
        wsm_lock(lock);
        PyObject *old = Py_XNewRef(*list);
        wsm_unlock(lock);
        Py_ssize_t count = old == NULL ? 0 : PyList_GET_SIZE(old);
        PyObject *longer = PyList_New(count + 1);
        if (longer == NULL) {
            Py_XDECREF(old);
            return -1;
        }
        for (Py_ssize_t i = 0; i < count; i++) {
            PyList_SET_ITEM(longer, i, Py_NewRef(PyList_GET_ITEM(old, i)));
        }
        PyList_SET_ITEM(longer, count, Py_NewRef(future));
        wsm_lock(lock);
        bool same = *list == old;
        if (same) {
            *list = longer;
        }
        wsm_unlock(lock);
        Py_XDECREF(old);
        if (same) {
            Py_XDECREF(old); /* the slot's own */
            return 0;
        }
        Py_DECREF(longer);
    }
}

PyObject *
wsm_waiters_take(WsmLock *lock, PyObject **list)
{
    wsm_lock(lock);
    PyObject *waiters = *list;
    *list = NULL;
    wsm_unlock(lock);
    return waiters;
}

PyObject *
wsm_waiters_add(WsmState *state, WsmLock *lock, PyObject **list,
                PyObject *timeout)
{
    PyObject *loop;
    PyObject *future = waiters_future(state, &loop);
    if (future == NULL) {
        return NULL;
    }
    if (timeout != NULL && timeout != Py_None &&
        waiters_limit(state, loop, future, timeout) < 0) {
        goto failed;
    }
    if (waiters_enter(lock, list, future) < 0) {
        goto failed;
    }
    return future;
failed:
    Py_DECREF(future);
    return NULL;
}

void
wsm_waiters_wake(WsmState *state, PyObject *list, PyObject *value)
{
    if (list == NULL) {
        return;
    }
    PyObject *saved = wsm_error_take();
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *future = Py_NewRef(PyList_GET_ITEM(list, i));
        PyObject *loop =
            PyObject_CallMethodNoArgs(future, state->names.get_loop);
        PyObject *handle =
            loop == NULL ? NULL
                         : PyObject_CallMethodObjArgs(
                               loop, state->names.call_soon_threadsafe,
                               state->settle_future, future, value, NULL);
        if (handle == NULL) {
            if (PyErr_ExceptionMatches(PyExc_RuntimeError)) {
                PyErr_Clear(); /* the loop is closed: nobody waits there */
            }
            else {
                wsm_unraisable(future);
            }
        }
        Py_XDECREF(handle);
        Py_XDECREF(loop);
        Py_DECREF(future);
    }
    Py_DECREF(list);
    wsm_error_restore(saved);
}

PyObject *
wsm_waiters_settle(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    WsmState *state = wsm_state_of(module);
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError,
                        "settle_future() takes a future and a value");
        return NULL;
    }
    PyObject *done = PyObject_CallMethodNoArgs(args[0], state->names.done);
    if (done == NULL) {
        return NULL;
    }
    int is_done = PyObject_IsTrue(done);
    Py_DECREF(done);
    if (is_done != 0) {
        return is_done < 0 ? NULL : Py_NewRef(Py_None);
    }
    return PyObject_CallMethodOneArg(args[0], state->names.set_result,
                                     args[1]);
}
