/* Connections and the events that are about to be written to them. */
#ifndef WSM_BATCH_H
#define WSM_BATCH_H

#include "connection.h"

typedef struct {
    WsmConnection *connection; /* owned; busy, made so by whoever added it */
    uint32_t first, count; /* its events in the batch, which jobs may share */
    WsmWay way;
    bool channel; /* the connection has one */
    bool pumps; /* its one event may go by the pump, unless by its channel */
    bool more; /* that is sent, but more has come for its outbox */
    Py_ssize_t taken; /* bytes, or -errno */
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

/* Add a job within what was reserved; with an event (borrowed), or NULL: it
 * is to write its outbox. Allowed under a lock. The event stands in the batch
 * once, however many jobs in a row have it. */
static inline void
wsm_batch_add(WsmBatch *batch, WsmConnection *connection, WsmEvent *event)
{
    const bool channel = connection->channel != NULL;
    uint32_t count = batch->event_count;

    if (event != NULL &&
        (count == 0 || batch->events[count - 1] != (PyObject *)event)) {
        batch->events[count++] = Py_NewRef((PyObject *)event);
        batch->event_count = count;
    }
    batch->channels |= channel;
    batch->jobs[batch->job_count++] = (WsmJob){
        .connection = (WsmConnection *)Py_NewRef((PyObject *)connection),
        .first = count - 1,
        .count = event != NULL,
        .way = WSM_WAY_LIBRARY,
        .channel = channel,
        .pumps = event != NULL && connection->coroutine &&
                 event->seq > connection->replayed_to, /* 0: no number */
    };
}

/* Drop everything in it; empty then. Never under a lock. */
void wsm_batch_drop(WsmBatch *batch);

#endif
