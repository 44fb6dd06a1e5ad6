/* References parked under a lock, dropped after it. */
#ifndef WSM_REFLIST_H
#define WSM_REFLIST_H

#include "python.h"

#define WSM_REFLIST_INLINE 8

typedef struct {
    PyObject **items; /* owned references */
    Py_ssize_t count;
    Py_ssize_t capacity;
    PyObject *first[WSM_REFLIST_INLINE];
} WsmRefList;

void wsm_reflist_init(WsmRefList *list);

/* Take over one reference (NULL is fine). Raw memory only, so allowed under
 * a lock; when there is none left the reference is leaked, never dropped
 * in the wrong place. */
void wsm_reflist_park(WsmRefList *list, PyObject *op);

/* Take over op, together with a new reference to owner before it: both or
 * none, so that a list of pairs stays one. Without memory op is leaked, as
 * above. */
void wsm_reflist_park_pair(WsmRefList *list, PyObject *owner, PyObject *op);

/* Drop everything; never under a lock. */
void wsm_reflist_drop(WsmRefList *list);

#endif
