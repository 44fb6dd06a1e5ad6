/* All users' kept events together: counted, bounded, the quietest user first
 * to lose theirs. */
#ifndef WSM_KEPT_H
#define WSM_KEPT_H

#include "lock.h"
#include "manager.h"

/* Managers that keep events, the one that has had none for longest first. */
typedef struct {
    WsmLock *lock; /* borrowed: of the table that the managers are in */
    WsmManager *head, *tail; /* borrowed: they are in the table as well */
    Py_ssize_t count;
    size_t bytes; /* of all of them together */
} WsmKept;

/* The manager keeps other events than before: count them, and let go of the
 * oldest of all users' where they are too many or too old. May run Python:
 * never under a lock. */
void wsm_kept_count(WsmKept *self, WsmManager *manager, int64_t now);

/* The manager leaves the table: it is counted no more. Caller holds the
 * lock, for both. */
void wsm_kept_leave(WsmKept *self, WsmManager *manager);
void wsm_kept_empty(WsmKept *self);

#endif
