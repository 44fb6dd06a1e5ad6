/* When a loop's connections are written to later than at the emit: at a turn
 * of the loop, at a tick of its timer, when a transport has room again. */
#ifndef WSM_TURN_H
#define WSM_TURN_H

#include "state.h"

/* A loop reached its mailbox's callback; its timer. 0, or -1 with a fatal
 * error that a send raised, after everything was written. */
int wsm_turn(PyObject *mailbox);
int wsm_turn_tick(PyObject *mailbox);

/* Write what waits now, on the owner's thread: as much as the transport may
 * hold of it, or the whole; an error that is set is a fatal one of a send. */
void wsm_turn_flush(PyObject *connection, bool whole);

/* The transport can take more: write what waits. */
void wsm_turn_resume(PyObject *connection);

#endif
