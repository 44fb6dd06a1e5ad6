/* Writes what connections of the running loop have ready: the direct way in
 * one system call each with the GIL released once for all of them, the
 * others through their library's own send. */
#ifndef WSM_WRITER_H
#define WSM_WRITER_H

#include "connection.h"
#include "mailbox.h"
#include "state.h"

typedef struct {
    WsmConnection *connection; /* owned; busy, made so by whoever added it */
    uint32_t first, count; /* its events in the batch */
    int fd;
    WsmWay way;
    Py_ssize_t taken; /* bytes, or -errno */
} WsmJob;

#define WSM_BATCH_INLINE 4

typedef struct {
    WsmJob *jobs;
    PyObject **events; /* owned */
    uint32_t job_count, job_capacity;
    uint32_t event_count, event_capacity;
    WsmJob first_jobs[WSM_BATCH_INLINE];
    PyObject *first_events[WSM_BATCH_INLINE];
} WsmBatch;

void wsm_batch_init(WsmBatch *batch);

/* Room for that many more jobs, of one event each. -1 with MemoryError. */
int wsm_batch_reserve(WsmBatch *batch, Py_ssize_t jobs);

/* Add a job within what was reserved; with an event (borrowed), or NULL: it
 * is to write its outbox. Allowed under a lock. */
void wsm_batch_add(WsmBatch *batch, WsmConnection *connection,
                   WsmEvent *event);

/* Write it all, on the thread of the running loop, which owns every
 * connection in it; empties the batch. hot: what follows in this loop turn
 * shall wait for the turn's end. 0, or -1 with a fatal error that a send
 * raised, after everything was written. */
int wsm_writer_run(WsmState *state, PyObject *loop, WsmBatch *batch,
                   bool hot);

/* A loop reached its mailbox's callback; its timer. 0 or -1 as above. */
int wsm_writer_turn(PyObject *mailbox);
int wsm_writer_tick(PyObject *mailbox);

/* The transport can take more: write what waits. */
void wsm_writer_resume(PyObject *connection);

#endif
