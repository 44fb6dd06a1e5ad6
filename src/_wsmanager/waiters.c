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

/* After timeout seconds the loop itself gives the future False: the timer, or
 * None where there is no limit. */
static PyObject *
waiters_limit(WsmState *state, PyObject *loop, PyObject *future,
              PyObject *timeout)
{
    if (timeout == NULL || timeout == Py_None) {
        return Py_NewRef(Py_None);
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(seconds >= 0.0)) {
        PyErr_SetString(PyExc_ValueError,
                        "timeout must be a number of seconds, 0 or more");
        return NULL;
    }
    return PyObject_CallMethodObjArgs(loop, state->names.call_later, timeout,
                                      state->settle_future, future, Py_False,
                                      NULL);
}

/* When the future is done, however that came. The callback holds the owner:
 * who waits for something of it keeps it. */
static int
waiters_watch(WsmState *state, const WsmWaiters *where, PyObject *future,
              PyObject *timer)
{
    PyObject *wait = PyTuple_Pack(2, where->owner, timer);
    PyObject *left = wait == NULL ? NULL : PyCFunction_New(where->left, wait);
    PyObject *result = NULL;

    Py_XDECREF(wait);
    if (left != NULL) {
        result = PyObject_CallMethodOneArg(
            future, state->names.add_done_callback, left);
        Py_DECREF(left);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The list without one future (or NULL), and with another (or NULL). NULL
 * with an exception. */
static PyObject *
waiters_copy(PyObject *old, const PyObject *without, PyObject *with)
{
    PyObject *copy = PyList_New(0);
    Py_ssize_t count = old == NULL ? 0 : PyList_GET_SIZE(old);

    for (Py_ssize_t i = 0; copy != NULL && i < count; i++) {
        PyObject *future = PyList_GET_ITEM(old, i);
        if (future != without && PyList_Append(copy, future) < 0) {
            Py_CLEAR(copy);
        }
    }
    if (copy != NULL && with != NULL && PyList_Append(copy, with) < 0) {
        Py_CLEAR(copy);
    }
    return copy;
}

/* A list that others have is never written to: it is replaced by another,
 * unless somebody was faster. */
static int
waiters_change(WsmLock *lock, PyObject **list, const PyObject *without,
               PyObject *with)
{
    for (;;) {
        wsm_lock(lock);
        PyObject *old = Py_XNewRef(*list);
        wsm_unlock(lock);
        if (old == NULL && with == NULL) {
            return 0; /* all have been woken */
        }
        PyObject *copy = waiters_copy(old, without, with);
        if (copy == NULL) {
            Py_XDECREF(old);
            return -1;
        }
        if (PyList_GET_SIZE(copy) == 0) {
            Py_CLEAR(copy);
        }
        wsm_lock(lock);
        bool same = *list == old;
        if (same) {
            *list = copy;
        }
        wsm_unlock(lock);
        Py_XDECREF(old);
        if (same) {
            Py_XDECREF(old); /* the slot's own */
            return 0;
        }
        Py_XDECREF(copy);
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
wsm_waiters_add(WsmState *state, const WsmWaiters *where, PyObject *timeout)
{
    PyObject *loop, *timer = NULL;
    PyObject *future = waiters_future(state, &loop);
    if (future == NULL) {
        return NULL;
    }
    timer = waiters_limit(state, loop, future, timeout);
    if (timer == NULL || waiters_watch(state, where, future, timer) < 0 ||
        waiters_change(where->lock, where->list, NULL, future) < 0) {
        Py_CLEAR(future);
    }
    Py_XDECREF(timer);
    return future;
}

PyObject *
wsm_waiters_left(WsmState *state, WsmLock *lock, PyObject **list,
                 PyObject *wait, PyObject *future)
{
    PyObject *timer = PyTuple_GET_ITEM(wait, 1);

    if (waiters_change(lock, list, future, NULL) < 0) {
        return NULL;
    }
    return timer == Py_None
               ? Py_NewRef(Py_None)
               : PyObject_CallMethodNoArgs(timer, state->names.cancel);
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
