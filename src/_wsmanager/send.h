/* One send of an object that is not ours. */
#ifndef WSM_SEND_H
#define WSM_SEND_H

#include "connection.h"
#include "event.h"

/* Enter and leave the connection's context, made now if it has none; false if
 * somebody is in it already. */
bool wsm_send_enter(WsmConnection *connection);
void wsm_send_exit(WsmConnection *connection, bool entered);

/* Call the object's send: PYGEN_RETURN with *result (owned) if that was all,
 * as with a plain function; PYGEN_NEXT with *inner (owned) if there is
 * something to step, which has not begun; PYGEN_ERROR. */
PySendResult wsm_send_call(WsmConnection *connection, WsmEvent *event,
                           PyObject **inner, PyObject **result);

/* Step *inner, which is cleared when it is over: PYGEN_RETURN, PYGEN_ERROR;
 * PYGEN_NEXT with *result (owned: what it waits for) if it suspended. */
PySendResult wsm_send_step(PyObject **inner, PyObject **result);

/* Both: PYGEN_NEXT if it has begun and suspended. */
PySendResult wsm_send_start(WsmConnection *connection, WsmEvent *event,
                            PyObject **inner, PyObject **result);

/* It ended well, at now (ns): settle the event. */
void wsm_send_done(WsmConnection *connection, WsmEvent *event, int64_t now);

/* It raised what is set: judge it, settle the event, evict if it must be.
 * Gives the error back (owned) where it must go on: fatal ones and
 * cancellation; else NULL, and nothing is set. */
PyObject *wsm_send_failed(WsmConnection *connection, WsmEvent *event);

/* The connection's next event, owned; NULL when there is none: then its
 * writer is done and it is busy no more. */
WsmEvent *wsm_send_next(WsmConnection *connection);

#endif
