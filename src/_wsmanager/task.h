/* The task that a loop takes for the current one. */
#ifndef WSM_TASK_H
#define WSM_TASK_H

#include "state.h"

/* Make task (may be None) current in the running loop; gives the one before
 * (None if there was none), NULL with an exception. */
PyObject *wsm_task_swap(WsmState *state, PyObject *loop, PyObject *task);

/* Put back what a swap gave (stolen). Never fails. */
void wsm_task_restore(WsmState *state, PyObject *loop, PyObject *before);

#endif
