/* Writes what connections of the running loop have ready: the direct way in
 * one system call each with the GIL released once for all of them, the
 * others through their library's own send. */
#ifndef WSM_WRITER_H
#define WSM_WRITER_H

#include "batch.h"
#include "state.h"

#define WSM_TICK_SOON 5000000 /* ns: somebody waits for a transport */
#define WSM_TICK_LAZY 500000000 /* ns: only unsent bytes to look at */

/* What a transport may hold of ours beside its own: enough to keep the peer
 * busy between two looks, below asyncio's own high-water mark. */
#define WSM_TRANSPORT_BYTES (48 * 1024)

/* Write it all, on the thread of the running loop, which owns every
 * connection in it; empties the batch. hot: what follows in this loop turn
 * shall wait for the turn's end. 0, or -1 with a fatal error that a send
 * raised, after everything was written. */
int wsm_writer_run(WsmState *state, PyObject *loop, WsmBatch *batch, bool hot);

/* What one connection has waiting, for something else is about to be written
 * there: as usual, or the whole of it, the transport taking all that the
 * kernel does not. On the same thread; 0 or -1 as above. */
int wsm_writer_flush(WsmConnection *connection, PyObject *loop, bool whole);

#endif
