/* Events of a user that a client is asked to acknowledge, and has not yet. */
#ifndef WSM_ACKS_H
#define WSM_ACKS_H

#include "event.h"
#include "position.h"
#include "reflist.h"
#include "ring.h"

/* Guarded by the lock of the manager that has it: "_locked" below. */
typedef struct {
    WsmRing ring; /* owned events, their seq rising */
    size_t bytes; /* of memory that they take */
} WsmAcks;

/* Wait for that event; those that are not waited for any more, being too
 * old, too many or too large, are parked in forgotten. */
void wsm_acks_add_locked(WsmAcks *self, WsmEvent *event, int64_t now,
                         WsmRefList *forgotten);

/* The event of that id, now the caller's; NULL if it is not waited for. */
WsmEvent *wsm_acks_take_locked(WsmAcks *self, const WsmPosition *id);

/* Park what is too old to be waited for. */
void wsm_acks_expire_locked(WsmAcks *self, const WsmSettings *settings,
                            int64_t now, WsmRefList *forgotten);

void wsm_acks_empty_locked(WsmAcks *self, WsmRefList *forgotten);

/* Tell whoever waits for those events that nobody will acknowledge them, and
 * drop them. Never under a lock. */
void wsm_acks_forget(WsmRefList *forgotten);

/* Drop everything: for the manager's own end. */
void wsm_acks_clear(WsmAcks *self);

int wsm_acks_traverse(WsmAcks *self, visitproc visit, void *arg);

#endif
