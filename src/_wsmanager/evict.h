/* Taking a connection out for good, and closing its socket. */
#ifndef WSM_EVICT_H
#define WSM_EVICT_H

#include "connection.h"
#include "mailbox.h"
#include "reflist.h"

/* The close code of a slow consumer: RFC 6455 section 7.4.1, IANA. */
#define WSM_CLOSE_TRY_LATER 1013
/* And of one whose transport is dropped: never sent, but what it comes to. */
#define WSM_CLOSE_ABNORMAL 1006
/* Of one whose sends fail by no fault of the peer's. */
#define WSM_CLOSE_INTERNAL 1011

/* Settle pairs of a connection and an event, as parked by the outbox, and
 * drop them. Never under a lock. */
void wsm_settle_pairs(WsmRefList *pairs, WsmOutcome outcome,
                      const char *reason);

/* Unregister the connection: what it has queued fails, its socket is left
 * as it is. True if it was registered. Any thread, never under a lock. */
bool wsm_evict(WsmConnection *connection, const char *reason);

/* The same, and drop its transport: what was begun there, or what the peer
 * waits for, will not be sent, so it must not take the connection for a whole
 * one. On the thread of its loop; it has a direct channel. */
void wsm_evict_broken(WsmConnection *connection, const char *reason);

/* The same for one whose user went on purpose: nothing is reported, and what
 * it has queued is written first if it can be directly; on another thread, by
 * its loop's next turn. The close code is the one that its socket will be
 * closed with, or 0. */
bool wsm_remove(WsmConnection *connection, int code);

/* The same, and close: its sends keep failing, so the peer, which is there,
 * is to come back for what it has missed. */
void wsm_evict_failing(WsmConnection *connection);

/* Unregister and close: it took too long, or too much waits for it. */
void wsm_evict_slow(WsmConnection *connection, const char *reason);

/* Ask the library to close the socket, as a task of its own loop. Never
 * fails: what goes wrong is reported. */
void wsm_close_socket(WsmConnection *connection, int code, PyObject *reason);

/* Evict every connection of a list that a closed loop did not take. */
void wsm_evict_post(WsmPost *post);

/* The callable behind wsm_close_socket(): spawn(coroutine). */
PyObject *wsm_spawn(PyObject *module, PyObject *coroutine);

#endif
