/* Invariant: a job's events stand together, in their order; the batch owns
 * them, a job that gives one away gives a reference of its own. */
#include "batch.h"

#include <string.h>

#include "compat.h"

void
wsm_batch_init(WsmBatch *batch)
{
    batch->jobs = batch->first_jobs;
    batch->events = batch->first_events;
    batch->job_count = 0;
    batch->event_count = 0;
    batch->channels = false;
    batch->job_capacity = WSM_BATCH_INLINE;
    batch->event_capacity = WSM_BATCH_INLINE;
}

static void *
batch_grow(void *old, const void *inside, size_t item, uint32_t count,
           size_t capacity)
{
    void *memory = PyMem_RawMalloc(item * capacity);
    if (memory == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(memory, old, item * count);
    if (old != inside) {
        PyMem_RawFree(old);
    }
    return memory;
}

int
wsm_batch_reserve_events(WsmBatch *batch, size_t more)
{
    size_t need = batch->event_count + more;
    if (need <= batch->event_capacity) {
        return 0;
    }
    if (need < 2 * (size_t)batch->event_capacity) {
        need = 2 * (size_t)batch->event_capacity;
    }
    void *events = batch_grow(batch->events, batch->first_events,
                              sizeof(PyObject *), batch->event_count, need);
    if (events == NULL) {
        return -1;
    }
    batch->events = events;
    batch->event_capacity = (uint32_t)need;
    return 0;
}

int
wsm_batch_reserve(WsmBatch *batch, Py_ssize_t jobs)
{
    size_t need = batch->job_count + (size_t)jobs;
    if (need > batch->job_capacity) {
        void *grown = batch_grow(batch->jobs, batch->first_jobs,
                                 sizeof(WsmJob), batch->job_count, need);
        if (grown == NULL) {
            return -1;
        }
        batch->jobs = grown;
        batch->job_capacity = (uint32_t)need;
    }
    return wsm_batch_reserve_events(batch, (size_t)jobs);
}

uint32_t
wsm_batch_gap(WsmBatch *batch, WsmConnection *connection)
{
    WsmEvent *gap = wsm_connection_gap(connection);

    if (gap == NULL) {
        if (PyErr_Occurred()) {
            wsm_unraisable((PyObject *)connection);
        }
        return 0;
    }
    wsm_event_count(gap, WSM_QUEUED, 1);
    batch->events[batch->event_count++] = (PyObject *)gap;
    return 1;
}

void
wsm_batch_drop(WsmBatch *batch)
{
    for (uint32_t i = 0; i < batch->job_count; i++) {
        Py_DECREF(batch->jobs[i].connection);
    }
    for (uint32_t i = 0; i < batch->event_count; i++) {
        Py_XDECREF(batch->events[i]);
    }
    if (batch->jobs != batch->first_jobs) {
        PyMem_RawFree(batch->jobs);
    }
    if (batch->events != batch->first_events) {
        PyMem_RawFree(batch->events);
    }
    wsm_batch_init(batch);
}
