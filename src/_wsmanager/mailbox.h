/* The door of one event loop: connections of it that have something to do,
 * put there from any thread, one wake-up for a burst; and those it watches
 * by a timer of its own. */
#ifndef WSM_MAILBOX_H
#define WSM_MAILBOX_H

#include "connection.h"
#include "lock.h"
#include "state.h"

typedef struct WsmMailbox {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    PyObject *loop; /* owned */
    PyObject *context; /* owned, empty: our callbacks run in it */
    PyObject *waker; /* owned or NULL: gives the number of the socket that
                        wakes its selector; a C method */
    PyObject *timer; /* owned or NULL; loop's thread only */
    WsmConnection *head; /* owned references; guarded by lock */
    WsmConnection *tail; /* borrowed: in the list; guarded by lock */
    WsmConnection *watched; /* owned references; loop's thread only */
    int64_t armed_at; /* ns; guarded by lock */
    int64_t tick; /* ns between looks at what is watched */
    int64_t sent_at; /* ns: loop's thread only: the last system call's end */
    uint32_t turn; /* loop's thread only: which it is, from 1 on */
    bool asked; /* loop's thread only: for this turn's end */
    uint8_t alone; /* loop's thread only: turns in a row with one event */
    uint8_t unasked; /* loop's thread only: so many need not ask */
    Py_ssize_t stray_at; /* loop's thread only: how far the look has come */
    Py_ssize_t connections; /* guarded by lock */
    WsmLock lock;
    bool armed; /* guarded by lock: a turn is on its way */
    WSM_SHARED(bool)
    unarmed; /* changes guarded: it should be, but the call
                                 failed; the next emit tries again */
    bool dead; /* guarded by lock: the loop is closed */
    bool foreign; /* guarded by lock: another thread has posted to it */
    bool lingering; /* guarded by lock: a turn comes soon without a wake-up */
    bool bursts; /* guarded by lock: what other threads post comes so */
    uint8_t lone; /* guarded by lock: turns in a row for a single event */
    bool stray_due; /* guarded by lock: a look at idle connections comes */
} WsmMailbox;

/* The mailbox of a loop: found in, or added to, the dict mailboxes (by the
 * loop's address; the mailbox keeps the loop). A new reference. */
WsmMailbox *wsm_mailbox_of(WsmState *state, PyObject *mailboxes,
                           PyObject *loop);

/* A list of connections to post: each was marked waking by the caller, who
 * gives a reference each. */
typedef struct {
    WsmConnection *head;
    WsmConnection *tail;
} WsmPost;

/* Add one (steals the reference). */
void wsm_post_add(WsmPost *post, WsmConnection *connection);

/* Hand the list over and see that the loop turns. here: the caller runs in
 * that very loop. False if the loop is closed: nothing was handed over, and
 * the caller still owns the list. Runs the loop's methods. */
bool wsm_mailbox_post(WsmMailbox *mailbox, WsmPost *post, bool here);

/* Somebody keeps posting to connections that are in the list already, or
 * busy: is their loop still there to turn? Asks the loop itself now and then,
 * and lets it turn if that failed before. */
bool wsm_mailbox_is_alive(WsmMailbox *mailbox);

/* All that is posted, oldest first; the caller owns the list. */
WsmPost wsm_mailbox_take(WsmMailbox *mailbox);

/* A turn ends, at whose end so many events waited: what follows can learn
 * from that. Loop's thread only. */
void wsm_mailbox_turned(WsmMailbox *mailbox, uint64_t events);

/* Connections were written to in this turn: see that its end comes. Loop's
 * thread only. */
void wsm_mailbox_ask(WsmMailbox *mailbox);

/* Look at the connection every tick until unwatched; loop's thread only. */
void wsm_mailbox_watch(WsmMailbox *mailbox, WsmConnection *connection);

/* Look at it no more; loop's thread only, and the caller has a reference. */
void wsm_mailbox_unwatch(WsmMailbox *mailbox, WsmConnection *connection);

/* Let the timer look again in ns nanoseconds, and not when it would have. */
void wsm_mailbox_schedule(WsmMailbox *mailbox, int64_t ns);

/* Let the loop look at idle connections: here in ns nanoseconds, elsewhere
 * at its next turn. 1; 0 if the loop is closed; -1 with an exception. */
int wsm_mailbox_look_later(WsmMailbox *mailbox, int64_t ns, bool here);

extern PyType_Spec wsm_mailbox_spec;

#endif
