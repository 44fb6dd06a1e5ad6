/* The availability check that a loop's callers share. */
#ifndef WSM_CHECK_H
#define WSM_CHECK_H

#include "state.h"

/* Wait for the running loop's check, begun if there is none: its task, a new
 * reference to be given to wsm_check_leave(). NULL with an exception. Runs
 * the check's function. */
PyObject *wsm_check_join(WsmState *state, PyObject *check);

/* Wait no longer; steals the task. A check that nobody waits for is
 * cancelled. Never fails. */
void wsm_check_leave(WsmState *state, PyObject *task);

/* Forget the checks whose loop was closed, which never end. -1 with an
 * exception. May run Python. */
int wsm_check_sweep(WsmState *state);

/* A check's done callback. */
PyObject *wsm_check_done(PyObject *module, PyObject *task);

#endif
