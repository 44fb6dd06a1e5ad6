/* Managers out of their table that somebody may hold: each is found again by
 * a weak reference, and goes when nobody does, in a cycle too. All is guarded
 * by the table's lock. */
#ifndef WSM_LIMBO_H
#define WSM_LIMBO_H

#include "manager.h"

typedef struct {
    PyObject *managers; /* owned dict: key to weak reference */
    Py_ssize_t looked; /* a place in it */
} WsmLimbo;

/* weak: a weak reference to the manager. False: no memory. */
bool wsm_limbo_put(WsmLimbo *self, WsmManager *manager, PyObject *weak);

/* The manager of the key, a new reference; NULL: not here, or gone. */
WsmManager *wsm_limbo_peek(const WsmLimbo *self, PyObject *key);

/* The same, and it is not here any more. */
WsmManager *wsm_limbo_take(WsmLimbo *self, PyObject *key);

/* Look at the next one: what it is, or what is left of it if it has gone, is
 * the caller's to drop. NULL: none, or the round is over. */
PyObject *wsm_limbo_look(WsmLimbo *self);

#endif
