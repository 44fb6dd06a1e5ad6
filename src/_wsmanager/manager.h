/* The one manager of a user key: its roster, its numbering, its tally. The
 * Python methods on it are in the face. */
#ifndef WSM_MANAGER_H
#define WSM_MANAGER_H

#include "acks.h"
#include "chain.h"
#include "compat.h"
#include "connection.h"
#include "journal.h"
#include "lock.h"
#include "position.h"
#include "roster.h"
#include "state.h"

typedef struct WsmManager {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    PyObject *attributes; /* owned or NULL: the instance's __dict__ */
    WSM_WEAKREF_FIELD
    PyObject *key; /* owned: exact str, or None for no user */
    PyObject *context; /* owned: the very object that was given */
    PyObject *mode; /* owned */
    PyObject *waiters; /* owned list or NULL, guarded by lock */
    PyObject *superseded; /* owned dict or NULL: id to removals still due;
                             under our critical section */
    PyObject *once; /* owned dict or NULL: idempotency key to Delivery */
    /* owned or NULL when empty; changes guarded by lock */
    WSM_SHARED(WsmRoster *) roster;
    WsmJournal journal; /* guarded by lock */
    WsmAcks acks; /* guarded by lock */
    WSM_SHARED(size_t) once_bytes; /* of the events in once */
    int64_t once_at; /* ns, when a key was last asked for; guarded by lock */
    uint64_t epoch;
    uint64_t seq; /* of the last event; guarded by lock */
    uint64_t emitted; /* guarded by lock */
    uint64_t fork_generation;
    WsmLink idle; /* guarded: registry's lock */
    WsmLink kept; /* guarded: registry's lock */
    int64_t idle_since; /* ns; guarded: registry's lock */
    WSM_SHARED(int64_t) left_at; /* ns: its last connection; 0: had none */
    /* Of its events, as last told; WSM_KEPT_OUT: in no table. */
    WSM_SHARED(size_t) kept_bytes;
    WSM_SHARED(int64_t) kept_at; /* ns; changes guarded: registry's lock */
    WsmLock lock;
    WSM_SHARED(bool) touched; /* used since the registry last looked */
    WSM_SHARED(bool)
    suspended; /* in limbo; changes guarded: registry's lock */
    bool service_available;
} WsmManager;

/* A manager that no registry knows yet. */
WsmManager *wsm_manager_new(WsmState *state, PyObject *key, PyObject *context,
                            PyObject *mode, bool service_available);

/* The roster now: counted, to be given back with wsm_manager_release().
 * NULL when there are no connections. */
WsmRoster *wsm_manager_roster(WsmManager *self);
void wsm_manager_release(WsmManager *self, WsmRoster *roster);

/* How many connections it has now. */
Py_ssize_t wsm_manager_count(WsmManager *self);

/* A client that comes back: how far it had got, and what it is given. */
typedef struct {
    bool understood; /* from could be read */
    bool first; /* it says that it has nothing yet */
    WsmPosition from;
    const char *reason; /* why it is not recovered; NULL: it is */
    uint32_t replayed; /* events now first in the outbox */
    WsmPosition position; /* of the user's last event */
} WsmResume;

/* Take the connection in, giving it its generation, and with resume (or
 * NULL) what it has missed, at one point in time: no event comes twice, and
 * none is left out. 1; 0 if limit are there already; -1 with an exception. */
int wsm_manager_attach(WsmManager *self, WsmConnection *connection,
                       Py_ssize_t limit, WsmResume *resume);

/* Take the connection out and park its outbox in dropped. 1; 0 if it was
 * not in (nothing changed); -1 with an exception. left: connections that
 * remain. */
int wsm_manager_detach(WsmManager *self, WsmConnection *connection,
                       WsmRefList *dropped, Py_ssize_t *left);

/* Where the user's stream is now. */
WsmPosition wsm_manager_position(WsmManager *self);

/* One event of the stream was not kept for the user, who has no connection:
 * who comes back later is told. Gives whether others had been kept. */
bool wsm_manager_skip(WsmManager *self);

/* May an event that is for all users who are there be kept for this one, who
 * has just left? */
bool wsm_manager_is_near(WsmManager *self, int64_t now);

/* A client has acknowledged the event of that id: true if one waits for
 * that. May run Python. */
bool wsm_manager_acknowledge(WsmManager *self, const WsmPosition *id);

#define WSM_KEPT_OUT SIZE_MAX

/* Bytes of events it keeps: for resume, for acknowledgement, and for their
 * idempotency keys. They are as told from now on, before is what was; both
 * are WSM_KEPT_OUT if it is in no table. */
size_t wsm_manager_tell(WsmManager *self, size_t *before);

/* Does it keep any such? */
bool wsm_manager_keeps(WsmManager *self);

/* Let go of kept events that are too old, or of all. May run Python. */
void wsm_manager_expire(WsmManager *self, bool all);

/* The connection of that id, a new reference; NULL without an exception. */
WsmConnection *wsm_manager_find(WsmManager *self, PyObject *id);

/* A connection of that id was replaced, and whoever had it will still remove
 * it by its id: note one such removal. 0, or -1 with an exception. */
int wsm_manager_owe_removal(WsmManager *self, PyObject *id);

/* 1 if a removal of that id was owed (one less now); 0; -1 as above. */
int wsm_manager_settle_removal(WsmManager *self, PyObject *id);

/* The child of a fork owns none of its parent's connections: forget them
 * without touching them. */
void wsm_manager_forget(WsmManager *self);

/* For the type's slots in the face. */
int wsm_manager_traverse(PyObject *op, visitproc visit, void *arg);
int wsm_manager_clear(PyObject *op);
void wsm_manager_dealloc(PyObject *op);

#endif
