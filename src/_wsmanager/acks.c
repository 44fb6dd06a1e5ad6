/* Invariant: an event is in here until it is acknowledged or given up. */
#include "acks.h"

#define WSM_ACKS_MAX 256

static WsmEvent *
acks_take(WsmAcks *self, uint32_t at)
{
    WsmEvent *event = (WsmEvent *)wsm_ring_take(&self->ring, at);
    self->bytes -= wsm_event_memory(event);
    wsm_ring_release(&self->ring);
    return event;
}

void
wsm_acks_expire_locked(WsmAcks *self, const WsmSettings *settings, int64_t now,
                       WsmRefList *forgotten)
{
    int64_t oldest = now - (int64_t)(settings->journal_max_age * 1e9);

    while (self->ring.count > 0 &&
           ((WsmEvent *)wsm_ring_peek(&self->ring, 0))->emitted_at < oldest) {
        wsm_reflist_park(forgotten, (PyObject *)acks_take(self, 0));
    }
}

void
wsm_acks_add_locked(WsmAcks *self, WsmEvent *event, int64_t now,
                    WsmRefList *forgotten)
{
    const WsmSettings *settings = &event->state->settings;

    wsm_acks_expire_locked(self, settings, now, forgotten);
    while (self->ring.count > 0 &&
           (self->ring.count >= WSM_ACKS_MAX ||
            self->bytes > (size_t)settings->journal_max_bytes)) {
        wsm_reflist_park(forgotten, (PyObject *)acks_take(self, 0));
    }
    if (wsm_ring_push(&self->ring, (PyObject *)event) < 0) {
        wsm_reflist_park(forgotten, Py_NewRef((PyObject *)event));
        return;
    }
    Py_INCREF(event); /* now the ring's */
    self->bytes += wsm_event_memory(event);
}

WsmEvent *
wsm_acks_take_locked(WsmAcks *self, const WsmPosition *id)
{
    for (uint32_t i = 0; i < self->ring.count; i++) {
        const WsmEvent *event = (WsmEvent *)wsm_ring_peek(&self->ring, i);
        if (event->seq == id->seq && event->epoch == id->epoch) {
            return acks_take(self, i);
        }
    }
    return NULL;
}

void
wsm_acks_empty_locked(WsmAcks *self, WsmRefList *forgotten)
{
    while (self->ring.count > 0) {
        wsm_reflist_park(forgotten, (PyObject *)acks_take(self, 0));
    }
}

void
wsm_acks_forget(WsmRefList *forgotten)
{
    for (Py_ssize_t i = 0; i < forgotten->count; i++) {
        wsm_event_acknowledge((WsmEvent *)forgotten->items[i], false);
    }
    wsm_reflist_drop(forgotten);
}

void
wsm_acks_clear(WsmAcks *self)
{
    while (self->ring.count > 0) {
        Py_DECREF(acks_take(self, 0));
    }
}

int
wsm_acks_traverse(WsmAcks *self, visitproc visit, void *arg)
{
    for (uint32_t i = 0; i < self->ring.count; i++) {
        Py_VISIT(wsm_ring_peek(&self->ring, i));
    }
    return 0;
}
