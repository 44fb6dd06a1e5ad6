/* Writes what connections of the running loop have ready: the direct way in
 * one system call each with the GIL released once for all of them, the
 * others through their library's own send. */
#ifndef WSM_WRITER_H
#define WSM_WRITER_H

#include "batch.h"
#include "state.h"

/* Write it all, on the thread of the running loop, which owns every
 * connection in it; empties the batch. hot: what follows in this loop turn
 * shall wait for the turn's end. 0, or -1 with a fatal error that a send
 * raised, after everything was written. */
int wsm_writer_run(WsmState *state, PyObject *loop, WsmBatch *batch, bool hot);

/* A loop reached its mailbox's callback; its timer. 0 or -1 as above. */
int wsm_writer_turn(PyObject *mailbox);
int wsm_writer_tick(PyObject *mailbox);

/* Write what waits for the turn's end now, on the owner's thread; an error
 * that is set is a fatal one of a send. */
void wsm_writer_flush(PyObject *connection);

/* The transport can take more: write what waits. */
void wsm_writer_resume(PyObject *connection);

#endif
