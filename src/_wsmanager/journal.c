/* Invariant: of the events after floor, every one that was given to
 * wsm_journal_add_locked() is in the ring; bytes is their sum. */
#include "journal.h"

static WsmEvent *
journal_at(const WsmJournal *self, uint32_t i)
{
    return (WsmEvent *)wsm_ring_peek(&self->ring, i);
}

static void
journal_drop_first(WsmJournal *self, WsmRefList *gone)
{
    WsmEvent *event = (WsmEvent *)wsm_ring_pop(&self->ring);
    self->bytes -= wsm_event_memory(event);
    self->floor = event->seq;
    self->newest = self->ring.count == 0 ? 0 : self->newest;
    wsm_reflist_park(gone, (PyObject *)event);
    wsm_ring_release(&self->ring);
}

void
wsm_journal_empty_locked(WsmJournal *self, uint64_t seq, WsmRefList *gone)
{
    while (self->ring.count > 0) {
        journal_drop_first(self, gone);
    }
    self->floor = seq;
}

static int64_t
journal_oldest(const WsmSettings *settings, int64_t now)
{
    return now - (int64_t)(settings->journal_max_age * 1e9);
}

void
wsm_journal_expire_locked(WsmJournal *self, const WsmSettings *settings,
                          int64_t now, WsmRefList *gone)
{
    int64_t oldest = journal_oldest(settings, now);
    while (self->ring.count > 0 && journal_at(self, 0)->emitted_at < oldest) {
        journal_drop_first(self, gone);
    }
}

bool
wsm_journal_add_locked(WsmJournal *self, WsmEvent *event, int64_t now,
                       WsmRefList *gone)
{
    const WsmSettings *settings = &event->state->settings;
    size_t size = wsm_event_memory(event);
    size_t most = (size_t)settings->journal_max_bytes;

    wsm_journal_expire_locked(self, settings, now, gone);
    if (settings->journal_max_events == 0 || size > most) {
        wsm_journal_empty_locked(self, event->seq, gone);
        return false;
    }
#ifndef WSM_PLANT_NO_LIMIT
    while (self->ring.count > 0 &&
           (self->bytes + size > most ||
            (Py_ssize_t)self->ring.count >= settings->journal_max_events)) {
        journal_drop_first(self, gone);
    }
#endif
    if (wsm_ring_push(&self->ring, (PyObject *)event) < 0) {
        wsm_journal_empty_locked(self, event->seq, gone);
        return false;
    }
    Py_INCREF(event); /* now the ring's */
    self->bytes += size;
    self->newest = now;
    return true;
}

bool
wsm_journal_reaches_locked(const WsmJournal *self, uint64_t seq)
{
    return seq >= self->floor;
}

uint32_t
wsm_journal_after_locked(const WsmJournal *self, uint64_t seq)
{
    uint32_t low = 0, high = self->ring.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (journal_at(self, middle)->seq <= seq) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

bool
wsm_journal_is_live(const WsmJournal *self, const WsmSettings *settings,
                    int64_t now)
{
    int64_t newest = self->newest;
    return newest != 0 && newest >= journal_oldest(settings, now);
}

void
wsm_journal_clear(WsmJournal *self)
{
    PyObject *event;
    self->bytes = 0;
    self->newest = 0;
    while ((event = wsm_ring_pop(&self->ring)) != NULL) {
        Py_DECREF(event);
    }
    wsm_ring_release(&self->ring);
}

int
wsm_journal_traverse(WsmJournal *self, visitproc visit, void *arg)
{
    for (uint32_t i = 0; i < self->ring.count; i++) {
        Py_VISIT(wsm_ring_peek(&self->ring, i));
    }
    return 0;
}
