/* Connections and the events that are about to be written to them. */
#ifndef WSM_BATCH_H
#define WSM_BATCH_H

#include "connection.h"

typedef struct {
    WsmConnection *connection; /* owned; busy, made so by whoever added it */
    uint32_t first, count; /* its events in the batch, which jobs may share */
    WsmWay way;
    bool channel; /* the connection has one */
    uint8_t pump; /* how the pump may send its event, which all jobs of a
                     batch that have one share; 0: not at all */
    bool more; /* that is sent, but more has come for its outbox */
    bool whole; /* nothing of it is to wait here for the transport */
    bool rest; /* the kernel did not take all: what it left is the transport's
                  as far as that may hold it */
    bool handed; /* and it was given that */
    int fd; /* the channel's, if it goes the direct way: at hand between two
               system calls */
    Py_ssize_t taken; /* bytes, or -errno */
    uint32_t given; /* events that the kernel or the transport has */
    size_t offset; /* bytes of the next one that the kernel has */
    PyObject *error; /* owned or NULL: what the transport raised */
} WsmJob;

#define WSM_BATCH_INLINE 4

typedef struct {
    WsmJob *jobs;
    PyObject **events; /* owned */
    uint32_t job_count, job_capacity;
    uint32_t event_count, event_capacity;
    bool channels; /* some of the connections have one */
    int64_t written_at; /* ns: when the system calls were over */
    WsmJob first_jobs[WSM_BATCH_INLINE];
    PyObject *first_events[WSM_BATCH_INLINE];
} WsmBatch;

void wsm_batch_init(WsmBatch *batch);

/* Room for that many more jobs, of one event each. -1 with MemoryError. */
int wsm_batch_reserve(WsmBatch *batch, Py_ssize_t jobs);

/* Room for that many more events. -1 with MemoryError. */
int wsm_batch_reserve_events(WsmBatch *batch, size_t more);

/* Add an event (borrowed) that jobs are about to share; where it stands. Room
 * for it was reserved. Allowed under a lock. */
static inline uint32_t
wsm_batch_event(WsmBatch *batch, WsmEvent *event)
{
    batch->events[batch->event_count] = Py_NewRef((PyObject *)event);
    return batch->event_count++;
}

/* Add a job within what was reserved, with the event that stands first; or
 * with none: it is to write its outbox. Allowed under a lock. */
static inline WsmJob *
wsm_batch_add(WsmBatch *batch, WsmConnection *connection, uint32_t first,
              uint32_t count)
{
    WsmJob *job = &batch->jobs[batch->job_count++];

    *job = (WsmJob){
        .connection = (WsmConnection *)Py_NewRef((PyObject *)connection),
        .first = first,
        .count = count,
        .way = WSM_WAY_LIBRARY,
    };
    if (connection->channel != NULL) {
        job->channel = true;
        batch->channels = true;
    }
    return job;
}

/* Add a marker of what was dropped for the connection, if anything was since
 * the last: how many were added. Room for it was reserved. */
uint32_t wsm_batch_gap(WsmBatch *batch, WsmConnection *connection);

/* Drop everything in it; empty then. Never under a lock. */
void wsm_batch_drop(WsmBatch *batch);

#endif
