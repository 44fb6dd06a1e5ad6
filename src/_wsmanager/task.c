/* asyncio's current task: by its own swap since 3.12, by its dict of them
 * before; neither runs Python code, so neither can be interrupted half way.
 * Invariant: what was current is put back. */
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
    PyObject *tasks = state->asyncio.current_tasks, *before;
    if (PyDict_GetItemRef(tasks, loop, &before) < 0) {
        return NULL;
    }
    if (before == NULL) {
        before = Py_NewRef(Py_None);
    }
    int result = 0;
    if (task != Py_None) {
        result = PyDict_SetItem(tasks, loop, task);
    }
    else if (before != Py_None) {
        result = PyDict_DelItem(tasks, loop);
    }
    if (result < 0) {
        Py_CLEAR(before);
    }
    return before;
}

void
wsm_task_restore(WsmState *state, PyObject *loop, PyObject *before)
{
    PyObject *saved = wsm_error_take();
    PyObject *ours = wsm_task_swap(state, loop, before);
    if (ours == NULL) {
        wsm_unraisable(loop);
    }
    Py_XDECREF(ours);
    Py_DECREF(before);
    wsm_error_restore(saved);
}
