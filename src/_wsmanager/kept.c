/* Invariant: a manager is in the list exactly while its kept_bytes are not 0;
 * the list's bytes are their sum. */
#include "kept.h"

/* A place in the list is good for so long. */
#define WSM_KEPT_PLACE 1000000000 /* ns */
/* So many of the oldest are looked at for one event. */
#define WSM_KEPT_LOOKS 2

void
wsm_kept_leave(WsmKept *self, WsmManager *manager)
{
    if (manager->kept_bytes == 0) {
        return;
    }
    if (manager->kept_prev == NULL) {
        self->head = manager->kept_next;
    }
    else {
        manager->kept_prev->kept_next = manager->kept_next;
    }
    if (manager->kept_next == NULL) {
        self->tail = manager->kept_prev;
    }
    else {
        manager->kept_next->kept_prev = manager->kept_prev;
    }
    self->count--;
    self->bytes -= manager->kept_bytes;
    manager->kept_bytes = 0;
}

static void
kept_append(WsmKept *self, WsmManager *manager, size_t bytes, int64_t now)
{
    manager->kept_bytes = bytes;
    manager->kept_at = now;
    manager->kept_prev = self->tail;
    manager->kept_next = NULL;
    if (self->tail == NULL) {
        self->head = manager;
    }
    else {
        self->tail->kept_next = manager;
    }
    self->tail = manager;
    self->count++;
    self->bytes += bytes;
}

/* It keeps so many bytes now. A place in the list is good for a second. */
static void
kept_count(WsmKept *self, WsmManager *manager, size_t bytes, int64_t now)
{
    if (manager->idle_list == NULL) {
        return; /* in no table any more */
    }
    if (manager->kept_bytes != 0 && bytes != 0 &&
        (self->tail == manager || now - manager->kept_at < WSM_KEPT_PLACE)) {
        self->bytes += bytes - manager->kept_bytes;
        manager->kept_bytes = bytes;
        return;
    }
    wsm_kept_leave(self, manager);
    if (bytes != 0) {
        kept_append(self, manager, bytes, now);
    }
}

/* The first of the list, a new reference, if it is time to let go of what it
 * keeps: all of it, or what is too old. */
static WsmManager *
kept_due(WsmKept *self, const WsmSettings *settings, int64_t now, bool *all)
{
    WsmManager *first = self->head;
    int64_t age = (int64_t)(settings->journal_max_age * 1e9);

    *all = self->bytes > (size_t)settings->journal_budget;
#ifdef WSM_PLANT_NO_LIMIT
    *all = false;
#endif
    if (first == NULL ||
        !(*all || now - first->kept_at > age + WSM_KEPT_PLACE)) {
        return NULL;
    }
    return (WsmManager *)Py_NewRef((PyObject *)first);
}

void
wsm_kept_count(WsmKept *self, WsmManager *manager, int64_t now)
{
    const WsmSettings *settings = &manager->state->settings;
    WsmManager *due = (WsmManager *)Py_NewRef((PyObject *)manager);
    size_t bytes = wsm_manager_kept(manager);
    int looks = 0;

    while (due != NULL) {
        bool all;
        wsm_lock(self->lock);
        kept_count(self, due, bytes, now);
        WsmManager *next = kept_due(self, settings, now, &all);
        wsm_unlock(self->lock);
        Py_DECREF(due);
        due = next;
        if (due != NULL && !all && ++looks > WSM_KEPT_LOOKS) {
            Py_CLEAR(due);
        }
        if (due != NULL) {
            wsm_manager_expire(due, all);
            bytes = wsm_manager_kept(due);
        }
    }
}

void
wsm_kept_empty(WsmKept *self)
{
    while (self->head != NULL) {
        wsm_kept_leave(self, self->head);
    }
}
