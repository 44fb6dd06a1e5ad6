/* One accepted WebSocket of one user, bound to the loop that owns it. */
#ifndef WSM_CONNECTION_H
#define WSM_CONNECTION_H

#include "channel.h"
#include "event.h"
#include "lock.h"
#include "reflist.h"
#include "ring.h"
#include "state.h"

struct WsmManager;
struct WsmMailbox;

/* How an event is given to the generic channel; none is 0. */
typedef enum {
    WSM_SEND_TEXT = 1,
    WSM_SEND_STR,
    WSM_SEND,
    WSM_SEND_JSON,
    WSM_SEND_CALL,
} WsmSendMethod;

/* What a method but WSM_SEND_CALL is called; borrowed. */
static inline PyObject *
wsm_send_name(const WsmState *state, WsmSendMethod method)
{
    PyObject *const names[] = {
        [WSM_SEND_TEXT] = state->names.send_text,
        [WSM_SEND_STR] = state->names.send_str,
        [WSM_SEND] = state->names.send,
        [WSM_SEND_JSON] = state->names.send_json,
    };
    return names[method];
}

/* Numbered events that were dropped since the peer was last told. */
typedef struct {
    uint64_t epoch;
    uint64_t first, last;
    uint64_t count;
} WsmGap;

typedef struct WsmConnection {
    PyObject_HEAD
    /* What an emit looks at comes first: two lines of the cache. */
    PyObject *loop; /* borrowed: the mailbox's */
    struct WsmMailbox *mailbox; /* owned */
    PyObject *thread_id; /* owned or NULL; guarded by the lock */
    WsmChannel *channel; /* owned or NULL */
    PyObject *websocket; /* owned */
    PyObject *context; /* owned: contextvars of who added it and of its sends;
                          NULL: there are none yet; loop's thread only */
    WSM_SHARED(WsmGap *) gap; /* owned, raw, or NULL; changes guarded */
    WsmRing outbox; /* guarded by the lock */
    uint64_t replayed_to; /* seq: what is older came by a resume */
    uint32_t turn; /* of its loop, the last it was written to directly in;
                      owning loop's thread only */
    WSM_SHARED(uint32_t) errors; /* failed sends in a row */
    WSM_SHARED(uint32_t) code; /* we close it with; 0: with none as yet */
    uint8_t method;
    uint8_t pump; /* the method once more, if what it gave last was a
                     coroutine, else 0; owning loop's thread only */
    WSM_SHARED(bool) open; /* registered with its manager; changes guarded */
    bool busy; /* guarded: its writer is at work */
    bool blocked; /* the transport still holds bytes; changed by the loop's
                     thread, guarded */
    bool waking; /* guarded: in a mailbox's list, or on the way there */
    bool watched; /* owning loop's thread only */
    bool torn; /* owning loop's thread only: it left while its writer had
                  events, which are lost; so is what came after them */
    bool routed; /* added through the manager of None */
    WsmLock *lock; /* the manager's: "the lock" below */
    WsmState *state; /* borrowed: our type keeps the module alive */
    struct WsmManager *manager; /* owned */
    size_t outbox_bytes; /* guarded by the lock */
    PyObject *driver; /* owned or NULL: drives a suspended send; changed by
                         the loop's thread, guarded */
    PyObject *id; /* owned exact str */
    PyObject *metadata; /* owned or NULL */
    uint64_t generation; /* set when it is registered */
    struct WsmConnection *wake_next; /* owned by the mailbox's list */
    struct WsmConnection *watch_next; /* owned by the mailbox's list */
    struct WsmConnection *watch_prev; /* borrowed: loop's thread only */
    Py_ssize_t held; /* loop's thread only: by its transport, at a tick */
    int64_t since; /* ns: busy or blocked from then on */
    double connected_at; /* seconds since the epoch */
} WsmConnection;

/* Where a connection is at home. */
typedef struct {
    struct WsmManager *manager;
    struct WsmMailbox *mailbox;
    WsmLock *lock; /* in the manager */
    PyObject *loop; /* the mailbox's */
} WsmHome;

/* A connection, not registered yet. NULL with an exception: TypeError if the
 * object can send nothing. Runs the object's attribute code. */
WsmConnection *wsm_connection_new(WsmState *state, const WsmHome *home,
                                  PyObject *websocket, PyObject *id,
                                  PyObject *thread_id, WsmChannel *channel);

/* Should this event go to it? Caller holds the lock. */
bool wsm_connection_wants_locked(const WsmConnection *self,
                                 const WsmEvent *event);

/* Put the event in the outbox, within the limits and by the policy. What it
 * displaces is parked in dropped, a connection and an event in turn. Gives
 * WSM_QUEUED; WSM_DROPPED; or WSM_FAILED: over the limit with nothing that
 * may be dropped, so the connection must be closed. Caller holds the lock. */
WsmOutcome wsm_connection_push_locked(WsmConnection *self, WsmEvent *event,
                                      WsmRefList *dropped);

/* Of the outbox, drop by the policy what has waited for more than most ns,
 * parked as above. False if the connection must be closed for it. */
bool wsm_connection_expire(WsmConnection *self, int64_t now, int64_t most,
                           WsmRefList *dropped);

/* Take the oldest event: owned by the caller; NULL when there is none. */
WsmEvent *wsm_connection_pop_locked(WsmConnection *self);

/* Put back what was popped last, in front. -1 with no memory. */
int wsm_connection_unpop_locked(WsmConnection *self, WsmEvent *event);

/* Park every event of the outbox in dropped, as above. */
void wsm_connection_empty_locked(WsmConnection *self, WsmRefList *dropped);

/* It is done with an event that it had: the event's own tally, unless it got
 * the event by a resume, long after the emit. Never under a lock. */
void wsm_connection_settle(WsmConnection *self, WsmEvent *event,
                           WsmOutcome outcome, const char *reason);

/* It took the event, written at now (ns): counted, timed and settled. */
void wsm_connection_sent(WsmConnection *self, WsmEvent *event, int64_t now);

/* If events were dropped since the last call, a marker that says which
 * (outside the numbering); NULL without an exception if none were. */
WsmEvent *wsm_connection_gap(WsmConnection *self);

/* Is the marker's place in the stream reached: is what waits after it, or
 * nothing? Caller holds the lock. */
bool wsm_connection_gap_is_due_locked(const WsmConnection *self);

/* Set (NULL: forget) what drives its send; loop's thread only. */
void wsm_connection_set_driver(WsmConnection *self, PyObject *driver);

/* What drives its send, a new reference or NULL; any thread. */
PyObject *wsm_connection_get_driver(WsmConnection *self);

/* How many events wait in its outbox; any thread. */
uint32_t wsm_connection_waiting(WsmConnection *self);

/* Seconds since it was added, by the wall clock that connected_at is of. */
double wsm_connection_age(const WsmConnection *self);

/* "direct" or "generic". */
const char *wsm_connection_channel_name(const WsmConnection *self);

/* For the type's slots in the face. */
int wsm_connection_traverse(PyObject *op, visitproc visit, void *arg);
int wsm_connection_clear(PyObject *op);
void wsm_connection_dealloc(PyObject *op);

#endif
