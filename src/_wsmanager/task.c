/* asyncio's current task, by its private functions: one swap since 3.12, a
 * leave and an enter before. Invariant: what was current is put back. */
#include "task.h"

#include "compat.h"

/* Make task (may be None) current; gives the one before, NULL on error. */
PyObject *
wsm_task_swap(WsmState *state, PyObject *loop, PyObject *task)
{
    if (state->asyncio.swap_current_task != NULL) {
        return PyObject_CallFunctionObjArgs(state->asyncio.swap_current_task,
                                            loop, task, NULL);
    }
    PyObject *result;
    PyObject *before = PyObject_CallOneArg(state->asyncio.current_task, loop);
    if (before == NULL) {
        return NULL;
    }
    if (before != Py_None) {
        result = PyObject_CallFunctionObjArgs(state->asyncio.leave_task, loop,
                                              before, NULL);
        if (result == NULL) {
            goto failed;
        }
        Py_DECREF(result);
    }
    if (task != Py_None) {
        result = PyObject_CallFunctionObjArgs(state->asyncio.enter_task, loop,
                                              task, NULL);
        if (result == NULL) {
            goto failed;
        }
        Py_DECREF(result);
    }
    return before;
failed:
    Py_DECREF(before);
    return NULL;
}

void
wsm_task_restore(WsmState *state, PyObject *loop, PyObject *before)
{
    PyObject *saved = wsm_error_take();
    PyObject *ours = wsm_task_swap(state, loop, before);
    if (ours == NULL) {
        PyErr_WriteUnraisable(loop);
    }
    Py_XDECREF(ours);
    Py_DECREF(before);
    wsm_error_restore(saved);
}
