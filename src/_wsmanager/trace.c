/* Invariant: tracing that goes wrong costs no event. */
#include "trace.h"

#include "compat.h"

static PyObject *
trace_or_none(PyObject *op)
{
    return op == NULL ? Py_None : op;
}

/* The root with the members added. */
static PyObject *
trace_root(PyObject *root, PyObject *members)
{
    PyObject *merged = root == NULL ? PyDict_New() : PyDict_Copy(root);
    if (merged != NULL && PyDict_Update(merged, members) < 0) {
        Py_CLEAR(merged);
    }
    return merged;
}

void
wsm_trace_begin(WsmState *state, const char *where, WsmLetter *letter,
                WsmTrace *trace)
{
    PyObject *hook = Py_XNewRef(state->hooks.trace), *members, *finish;

    *trace = (WsmTrace){NULL, NULL};
    if (hook == NULL) {
        return;
    }
    PyObject *pair = PyObject_CallFunction(
        hook, "sOOOO", where, letter->type, trace_or_none(letter->data),
        trace_or_none(letter->thread_id), trace_or_none(letter->run_id));
    if (pair != NULL && pair != Py_None &&
        PyArg_ParseTuple(pair, "OO", &members, &finish)) {
        trace->finish = Py_NewRef(finish);
        if (members != Py_None) {
            trace->root = trace_root(letter->root, members);
            letter->root = trace->root == NULL ? letter->root : trace->root;
        }
    }
    if (PyErr_Occurred()) {
        wsm_unraisable(hook);
    }
    Py_XDECREF(pair);
    Py_DECREF(hook);
}

void
wsm_trace_end(WsmTrace *trace, PyObject *result)
{
    if (trace->finish != NULL) {
        PyObject *error = wsm_error_take();
        PyObject *done = PyObject_CallFunctionObjArgs(
            trace->finish, trace_or_none(result), trace_or_none(error), NULL);
        if (done == NULL) {
            wsm_unraisable(trace->finish);
        }
        Py_XDECREF(done);
        wsm_error_restore(error);
    }
    Py_CLEAR(trace->finish);
    Py_CLEAR(trace->root);
}
