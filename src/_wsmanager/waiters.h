/* Futures of any loops that wait for one thing to happen. */
#ifndef WSM_WAITERS_H
#define WSM_WAITERS_H

#include "state.h"

/* A new future of the running loop, added to *list, which lock guards. With
 * timeout seconds (NULL or None: no limit) it gives False by itself then.
 * NULL with an exception (no running loop: RuntimeError). Whoever adds looks
 * again afterwards whether what is waited for has happened meanwhile. */
PyObject *wsm_waiters_add(WsmState *state, WsmLock *lock, PyObject **list,
                          PyObject *timeout);

/* All who wait, the caller's now: for wsm_waiters_wake(). */
PyObject *wsm_waiters_take(WsmLock *lock, PyObject **list);

/* A future of the running loop that is already done. */
PyObject *wsm_waiters_done(WsmState *state, PyObject *value);

/* Give every future of list its value, each on its own loop; steals list
 * (NULL is fine). Never fails: a closed loop has nobody waiting. */
void wsm_waiters_wake(WsmState *state, PyObject *list, PyObject *value);

/* The callable behind it: settle_future(future, value). */
PyObject *wsm_waiters_settle(PyObject *module, PyObject *const *args,
                             Py_ssize_t nargs);

#endif
