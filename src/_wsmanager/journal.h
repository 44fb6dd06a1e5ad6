/* A user's recent events, for clients that come back: bounded by number,
 * bytes and age; holds references to the encoded events. */
#ifndef WSM_JOURNAL_H
#define WSM_JOURNAL_H

#include "event.h"
#include "reflist.h"
#include "ring.h"
#include "state.h"

/* Guarded by the lock of the manager that has it: "_locked" below. */
typedef struct {
    WsmRing ring; /* owned events, their seq rising */
    size_t bytes; /* of memory that they take */
    uint64_t floor; /* seq of the last event that is not here any more */
    /* When the last event in here was emitted, ns; 0: none is in here. */
    WSM_SHARED(int64_t) newest;
} WsmJournal;

/* Keep the event, now in nanoseconds; what has to go for it is parked in
 * gone. False if it is not kept, and then nothing before it is either. */
bool wsm_journal_add_locked(WsmJournal *self, WsmEvent *event, int64_t now,
                            WsmRefList *gone);

/* Let go of what is too old. */
void wsm_journal_expire_locked(WsmJournal *self, const WsmSettings *settings,
                               int64_t now, WsmRefList *gone);

/* Let go of all; seq is the number of the user's last event. */
void wsm_journal_empty_locked(WsmJournal *self, uint64_t seq,
                              WsmRefList *gone);

/* True if every event after seq, of those that were kept, is still here. */
bool wsm_journal_reaches_locked(const WsmJournal *self, uint64_t seq);

/* The place in the ring of the first event after seq. */
uint32_t wsm_journal_after_locked(const WsmJournal *self, uint64_t seq);

/* True if it has an event that is not too old; needs no lock. */
bool wsm_journal_is_live(const WsmJournal *self, const WsmSettings *settings,
                         int64_t now);

/* Drop everything: for the manager's own end, never under a lock. */
void wsm_journal_clear(WsmJournal *self);

int wsm_journal_traverse(WsmJournal *self, visitproc visit, void *arg);

#endif
