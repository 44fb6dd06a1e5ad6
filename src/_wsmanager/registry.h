/* Every user's manager, every connected socket, every loop's mailbox. */
#ifndef WSM_REGISTRY_H
#define WSM_REGISTRY_H

#include "front.h"
#include "idle.h"
#include "kept.h"
#include "limbo.h"
#include "lock.h"
#include "mailbox.h"
#include "manager.h"
#include "state.h"

typedef struct WsmRegistry {
    WsmState *state; /* borrowed: owns this */
    PyObject *managers; /* owned dict: key to manager */
    PyObject *sockets; /* owned dict: address of a websocket to Connection */
    PyObject *mailboxes; /* owned dict: address of a loop to Mailbox */
    PyObject *routed; /* owned dict: id to Connection, of those added through
                         the manager of None; changes guarded by lock */
    PyObject *ancestors; /* owned dict or NULL: of the process before fork */
    /* owned or NULL: the manager of None; changes guarded by lock */
    WSM_SHARED(WsmManager *) none;
    WsmFront front; /* of managers */
    uint64_t apart[WSM_APART]; /* above is read by each hit */
    /* Guard the lists and every change of managers. A private dict with
     * exact str keys runs no Python code, so it may be used under it. */
    WsmLock lock;
    WsmChain fresh; /* without connections: not seen leaving */
    WsmChain departed; /* last connection gone */
    WsmLimbo limbo; /* without connections, and held by others than us */
    WsmKept kept;
} WsmRegistry;

int wsm_registry_init(WsmState *state);
/* Empty ones, whatever was there; -1 with MemoryError. */
int wsm_registry_make_tables(WsmRegistry *self);
int wsm_registry_traverse(WsmRegistry *self, visitproc visit, void *arg);
void wsm_registry_clear(WsmRegistry *self);

/* The manager of a key (exact str or None): a new reference, or NULL; error
 * set only if the lookup failed. */
WsmManager *wsm_registry_find(WsmRegistry *self, PyObject *key);

/* The manager of a key, made if there is none yet: a new reference. NULL
 * with InvalidUserContext, UserLimitError or MemoryError. */
WsmManager *wsm_registry_get(WsmRegistry *self, PyObject *key,
                             PyObject *context, PyObject *mode,
                             bool service_available);

/* A manager held since before a fork, or in limbo, is in the table again. */
void wsm_registry_adopt(WsmRegistry *self, WsmManager *manager);

/* The connection that has this websocket, a new reference; NULL without an
 * exception if none. */
WsmConnection *wsm_registry_by_socket(WsmRegistry *self, PyObject *socket);

/* The connection that was added through the manager of None by that id, a new
 * reference; NULL without an exception if none. */
WsmConnection *wsm_registry_routed(WsmRegistry *self, PyObject *id);

/* Enter and leave the tables of connections. UserIsolationError: another
 * user's was added through the manager of None by the same id. */
int wsm_registry_enter(WsmRegistry *self, WsmConnection *connection);
void wsm_registry_leave(WsmRegistry *self, WsmConnection *connection);

/* The loop of the mailbox has nothing due any more: forget it if it has no
 * connection either. */
void wsm_registry_rest(WsmRegistry *self, WsmMailbox *mailbox);

/* The manager's last connection has left. May drop other, idle managers. */
void wsm_registry_departed(WsmRegistry *self, WsmManager *manager);

/* Drop up to steps managers that nobody holds and whose time is over. */
void wsm_registry_sweep(WsmRegistry *self, Py_ssize_t steps);

/* How many users have a manager. */
Py_ssize_t wsm_registry_users(WsmRegistry *self);

/* A new list of all managers. */
PyObject *wsm_registry_managers(WsmRegistry *self);

/* The child of a fork: empty, fresh locks, nothing of the parent touched. */
void wsm_registry_forget(WsmRegistry *self);

/* Forget every manager; for tests. */
void wsm_registry_reset(WsmRegistry *self);

#endif
