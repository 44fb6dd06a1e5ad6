/* Futures of any loops that wait for one thing to happen. */
#ifndef WSM_WAITERS_H
#define WSM_WAITERS_H

#include "state.h"

/* Where futures wait. */
typedef struct {
    PyObject *owner; /* borrowed: has the list, and lives while one waits */
    PyObject **list;
    WsmLock *lock; /* guards it */
    PyMethodDef *left; /* METH_O: calls wsm_waiters_left() for the list */
} WsmWaiters;

/* A new future of the running loop, added to the list until it is done. With
 * timeout seconds (NULL or None: no limit) it gives False by itself then.
 * NULL with an exception (no running loop: RuntimeError). Whoever adds looks
 * again afterwards whether what is waited for has happened meanwhile. */
PyObject *wsm_waiters_add(WsmState *state, const WsmWaiters *where,
                          PyObject *timeout);

/* The future is done: out of the list. wait is what left was called on; its
 * first item is the owner. */
PyObject *wsm_waiters_left(WsmState *state, WsmLock *lock, PyObject **list,
                           PyObject *wait, PyObject *future);

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
