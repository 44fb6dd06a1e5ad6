/* All users' kept events together: counted, bounded, the quietest user first
 * to lose theirs. */
#ifndef WSM_KEPT_H
#define WSM_KEPT_H

#include "lock.h"
#include "manager.h"

/* What threads have told; sums, of which single ones may be below 0. */
typedef struct {
    uint64_t bytes; /* that the managers keep */
    uint64_t grown; /* bytes told since the account was last looked at */
    uint64_t turns;
    uint64_t apart[WSM_APART];
} WsmKeptStripe;

/* Managers that keep events, the one that has had none for longest first. */
typedef struct {
    WsmLock *lock; /* borrowed: of the table that the managers are in */
    WsmChain managers; /* borrowed: they are in the table as well */
    uint64_t apart[WSM_APART];
    WsmKeptStripe stripes[WSM_STRIPES];
} WsmKept;

/* The manager keeps other events than before: count them, and let go of the
 * oldest of all users' where they are too many or too old. May run Python:
 * never under a lock. */
void wsm_kept_count(WsmKept *self, WsmManager *manager, int64_t now);

/* Bytes of all managers together. */
size_t wsm_kept_bytes(const WsmKept *self);

/* The manager enters the table; it leaves it, and is counted no more. Caller
 * holds the lock. */
void wsm_kept_enter(WsmManager *manager);
void wsm_kept_leave(WsmKept *self, WsmManager *manager);

#endif
