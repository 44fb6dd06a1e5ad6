/* Invariant: an interrupt that strikes in here is noted, never dropped, and
 * never set again before the caller says so. */
#include "loop.h"

#include "compat.h"

#define WSM_LOOP_TRIES 3

static bool
loop_was_struck(bool *struck)
{
    bool was = struck != NULL && wsm_interrupt_take();
    if (was) {
        *struck = true;
    }
    return was;
}

/* The same for a question: any other error is written as unraisable. */
static PyObject *
loop_ask(PyObject *loop, PyObject *name, bool *struck)
{
    PyObject *answer = NULL;
    bool again = true;

    for (int i = 0; again && i < WSM_LOOP_TRIES; i++) {
        answer = PyObject_CallMethodNoArgs(loop, name);
        again = answer == NULL && loop_was_struck(struck);
    }
    if (PyErr_Occurred()) {
        wsm_unraisable(loop);
    }
    return answer;
}

bool
wsm_loop_is_closed(WsmState *state, PyObject *loop, bool *struck)
{
    PyObject *closed = loop_ask(loop, state->names.is_closed, struck);
    Py_XDECREF(closed);
    return closed == Py_True;
}

bool
wsm_loop_is_lenient(WsmState *state, PyObject *loop, bool *struck)
{
    PyObject *debug = loop_ask(loop, state->names.get_debug, struck);
    Py_XDECREF(debug);
    return debug == Py_False;
}

PyObject *
wsm_loop_call(WsmState *state, PyObject *name, PyObject *const *args, size_t n,
              bool *struck)
{
    PyObject *result = NULL;
    bool again = true;

    for (int i = 0; again && i < WSM_LOOP_TRIES; i++) {
        result = PyObject_VectorcallMethod(name, args,
                                           n | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                           state->context_names);
        again = result == NULL && loop_was_struck(struck);
    }
    return result;
}

int
wsm_loop_find_waker(WsmState *state, PyObject *loop, PyObject **fileno)
{
    *fileno = NULL;
    if (state->hooks.waker == NULL) {
        return 0;
    }
    PyObject *found = PyObject_CallOneArg(state->hooks.waker, loop);
    if (found != NULL && found != Py_None) {
        *fileno = PyObject_GetAttr(found, state->names.fileno);
    }
    Py_XDECREF(found);
    if (*fileno != NULL && !PyCFunction_CheckExact(*fileno)) {
        Py_CLEAR(*fileno); /* it would run Python */
    }
    return PyErr_Occurred() ? -1 : 0;
}

int
wsm_loop_waker_fd(PyObject *fileno)
{
    PyObject *number = PyObject_CallNoArgs(fileno);
    int fd = number == NULL ? -1 : PyLong_AsInt(number);

    Py_XDECREF(number);
    if (PyErr_Occurred()) {
        wsm_unraisable(fileno);
        fd = -1;
    }
    return fd;
}

void
wsm_loop_interrupt(bool struck)
{
    if (struck) {
        PyErr_SetInterrupt();
    }
}
