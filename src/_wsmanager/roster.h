/* The connections of one user at one moment: immutable, counted. A writer
 * makes a new roster, so a reader never sees a change. */
#ifndef WSM_ROSTER_H
#define WSM_ROSTER_H

#include "python.h"

typedef struct {
    Py_ssize_t refs; /* guarded by the lock of the manager that owns it */
    Py_ssize_t count;
    PyObject *items[]; /* owned references */
} WsmRoster;

/* A roster with room for count items, refs 1, all NULL; NULL with no memory
 * (no exception set). */
WsmRoster *wsm_roster_alloc(Py_ssize_t count);

/* The place of op, or -1. */
Py_ssize_t wsm_roster_find(const WsmRoster *roster, const PyObject *op);

/* Fill to, alloc'd with from->count + 1, with from (may be NULL) and op. */
void wsm_roster_fill_added(WsmRoster *to, const WsmRoster *from, PyObject *op);

/* Fill to, alloc'd with from->count - 1, with from but its at-th item. */
void wsm_roster_fill_removed(WsmRoster *to, const WsmRoster *from,
                             Py_ssize_t at);

/* Take out the at-th item of one that nobody else reads; owned by the
 * caller. */
PyObject *wsm_roster_take(WsmRoster *roster, Py_ssize_t at);

/* Free one that nobody refers to any more; drops its items, so never under
 * a lock. NULL is fine. */
void wsm_roster_free(WsmRoster *roster);

#endif
