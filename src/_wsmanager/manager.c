/* Invariant: a connection is in the roster exactly while it is open. */
#include "manager.h"

#include <string.h>

/* splitmix64: epochs differ, and tell nothing of the user. */
static uint64_t
manager_epoch(WsmState *state)
{
    uint64_t z = wsm_shared_add(&state->epoch_seed[0], 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) ^ state->epoch_seed[1];
}

WsmManager *
wsm_manager_new(WsmState *state, PyObject *key, PyObject *context,
                PyObject *mode, bool service_available)
{
    PyTypeObject *type = state->settings.tolerate_await
                             ? state->types.AwaitableManager
                             : state->types.Manager;
    WsmManager *self = (WsmManager *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->key = Py_NewRef(key);
    /* Else a look-up by a thread that did not make them takes the dict's
     * lock, each time. */
    PyUnstable_EnableTryIncRef(key);
    PyUnstable_EnableTryIncRef((PyObject *)self);
    self->context = Py_NewRef(context);
    self->mode = Py_NewRef(mode);
    self->epoch = manager_epoch(state);
    self->fork_generation = state->fork_generation;
    self->kept_bytes = WSM_KEPT_OUT;
    self->service_available = service_available;
    return self;
}

WsmRoster *
wsm_manager_roster(WsmManager *self)
{
    wsm_lock(&self->lock);
    WsmRoster *roster = self->roster;
    if (roster != NULL) {
        roster->refs++;
    }
    wsm_unlock(&self->lock);
    return roster;
}

void
wsm_manager_release(WsmManager *self, WsmRoster *roster)
{
    if (roster == NULL) {
        return;
    }
    wsm_lock(&self->lock);
    bool last = --roster->refs == 0;
    wsm_unlock(&self->lock);
    if (last) {
        wsm_roster_free(roster);
    }
}

Py_ssize_t
wsm_manager_count(WsmManager *self)
{
    wsm_lock(&self->lock);
    Py_ssize_t count = self->roster == NULL ? 0 : self->roster->count;
    wsm_unlock(&self->lock);
    return count;
}

/* Why the stream cannot go on where the client left it; NULL: it can. */
static const char *
manager_refusal_locked(const WsmManager *self, const WsmResume *resume)
{
    if (!resume->understood) {
        return "malformed";
    }
#ifndef WSM_PLANT_FOREIGN
    if (resume->from.epoch != self->epoch) {
        return "unknown";
    }
#endif
    if (resume->from.seq > self->seq) {
        return "ahead";
    }
    return wsm_journal_reaches_locked(&self->journal, resume->from.seq)
               ? NULL
               : "expired";
}

/* What the connection has missed, into its empty outbox: all or nothing. */
static const char *
manager_replay_locked(WsmManager *self, WsmConnection *connection,
                      WsmResume *resume)
{
    const WsmSettings *settings = &self->state->settings;
    const WsmRing *ring = &self->journal.ring;
    uint32_t i = wsm_journal_after_locked(&self->journal, resume->from.seq);
#ifdef WSM_PLANT_SEAM
    i += i < ring->count;
#endif

    for (; i < ring->count; i++) {
        WsmEvent *event = (WsmEvent *)wsm_ring_peek(ring, i);
        if (!wsm_connection_wants_locked(connection, event)) {
            continue;
        }
        connection->outbox_bytes += wsm_event_size(event);
        if (connection->outbox.count >=
                (uint64_t)settings->outbox_max_events ||
            connection->outbox_bytes > (size_t)settings->outbox_max_bytes) {
            return "limit";
        }
        if (wsm_ring_push(&connection->outbox, (PyObject *)event) < 0) {
            return "memory";
        }
        Py_INCREF(event); /* now the outbox's */
        resume->replayed++;
    }
    return NULL;
}

static void
manager_resume_locked(WsmManager *self, WsmConnection *connection,
                      WsmResume *resume, WsmRefList *gone)
{
    wsm_journal_expire_locked(&self->journal, &self->state->settings,
                              wsm_now_ns(), gone);
    resume->position = (WsmPosition){self->epoch, self->seq};
    connection->replayed_to = self->seq;
    resume->reason = manager_refusal_locked(self, resume);
    if (resume->reason == NULL) {
        resume->reason = manager_replay_locked(self, connection, resume);
    }
    if (resume->reason != NULL) {
        wsm_connection_empty_locked(connection, gone);
        connection->outbox_bytes = 0;
        resume->replayed = 0;
    }
}

int
wsm_manager_attach(WsmManager *self, WsmConnection *connection,
                   Py_ssize_t limit, WsmResume *resume)
{
    WsmRefList gone;

    wsm_reflist_init(&gone);
    for (;;) {
        WsmRoster *old = wsm_manager_roster(self);
        Py_ssize_t count = old == NULL ? 0 : old->count;
        if (count >= limit) {
            wsm_manager_release(self, old);
            return 0;
        }
        WsmRoster *roster = wsm_roster_alloc(count + 1);
        if (roster == NULL) {
            wsm_manager_release(self, old);
            PyErr_NoMemory();
            return -1;
        }
        wsm_roster_fill_added(roster, old, (PyObject *)connection);
        wsm_lock(&self->lock);
        bool same = self->roster == old;
        if (same) {
            self->roster = roster;
            connection->open = true;
            connection->generation =
                wsm_shared_add(&self->state->next_generation, 1);
            if (resume != NULL) {
                manager_resume_locked(self, connection, resume, &gone);
            }
        }
        wsm_unlock(&self->lock);
        wsm_reflist_drop(&gone);
        wsm_manager_release(self, old);
        if (same) {
            wsm_manager_release(self, old);
            return 1;
        }
        wsm_roster_free(roster);
    }
}

/* With no memory for a new roster the old one is changed, if nobody else is
 * reading it: a connection that has gone must not stay for want of memory.
 * Gives back the caller's old. */
static int
manager_detach_in_place(WsmManager *self, WsmConnection *connection,
                        WsmRoster *old, Py_ssize_t at, WsmRefList *dropped,
                        Py_ssize_t *left)
{
    PyObject *gone = NULL;

    wsm_lock(&self->lock);
    bool alone = self->roster == old && old->refs == 2;
    if (alone) {
        gone = wsm_roster_take(old, at);
        *left = old->count;
        connection->open = false;
        wsm_connection_empty_locked(connection, dropped);
    }
    wsm_unlock(&self->lock);
    wsm_manager_release(self, old);
    if (!alone) {
        PyErr_NoMemory();
        return -1;
    }
    Py_DECREF(gone);
    return 1;
}

int
wsm_manager_detach(WsmManager *self, WsmConnection *connection,
                   WsmRefList *dropped, Py_ssize_t *left)
{
    for (;;) {
        WsmRoster *old = wsm_manager_roster(self);
        Py_ssize_t at = wsm_roster_find(old, (PyObject *)connection);
        if (at < 0) {
            wsm_manager_release(self, old);
            return 0;
        }
        WsmRoster *roster = NULL;
        if (old->count > 1) {
            roster = wsm_roster_alloc(old->count - 1);
            if (roster == NULL) {
                return manager_detach_in_place(self, connection, old, at,
                                               dropped, left);
            }
            wsm_roster_fill_removed(roster, old, at);
        }
        *left = old->count - 1;
        wsm_lock(&self->lock);
        bool same = self->roster == old;
        if (same) {
            self->roster = roster;
            connection->open = false;
            wsm_connection_empty_locked(connection, dropped);
        }
        wsm_unlock(&self->lock);
        wsm_manager_release(self, old);
        if (same) {
            wsm_manager_release(self, old);
            return 1;
        }
        wsm_roster_free(roster);
    }
}

WsmPosition
wsm_manager_position(WsmManager *self)
{
    wsm_lock(&self->lock);
    WsmPosition position = {self->epoch, self->seq};
    wsm_unlock(&self->lock);
    return position;
}

bool
wsm_manager_skip(WsmManager *self)
{
    WsmRefList gone;

    wsm_reflist_init(&gone);
    wsm_lock(&self->lock);
    bool kept = self->journal.bytes != 0;
    wsm_journal_empty_locked(&self->journal, ++self->seq, &gone);
    wsm_unlock(&self->lock);
    wsm_reflist_drop(&gone);
    return kept;
}

bool
wsm_manager_is_near(WsmManager *self, int64_t now)
{
    const WsmSettings *settings = &self->state->settings;
    return self->left_at != 0 &&
           (double)(now - self->left_at) <= settings->journal_max_age * 1e9;
}

bool
wsm_manager_acknowledge(WsmManager *self, const WsmPosition *id)
{
    wsm_lock(&self->lock);
    WsmEvent *event = wsm_acks_take_locked(&self->acks, id);
    wsm_unlock(&self->lock);
    if (event == NULL) {
        return false;
    }
    bool open = wsm_event_acknowledge(event, true);
    Py_DECREF(event);
    return open;
}

static size_t
manager_bytes_locked(const WsmManager *self)
{
    return self->journal.bytes + self->acks.bytes + self->once_bytes;
}

size_t
wsm_manager_tell(WsmManager *self, size_t *before)
{
    *before = self->kept_bytes;
    wsm_lock(&self->lock);
    size_t bytes = manager_bytes_locked(self);
    while (*before != WSM_KEPT_OUT &&
           !wsm_shared_change(&self->kept_bytes, before, bytes)) {
    }
    wsm_unlock(&self->lock);
    return *before == WSM_KEPT_OUT ? WSM_KEPT_OUT : bytes;
}

bool
wsm_manager_keeps(WsmManager *self)
{
    wsm_lock(&self->lock);
    size_t bytes = manager_bytes_locked(self);
    wsm_unlock(&self->lock);
    return bytes != 0;
}

/* Whether its last key was asked for so long ago that none is good any more.
 * Those of a manager that is in use go one by one, at each claim. */
static bool
manager_keys_are_over_locked(const WsmManager *self, int64_t now)
{
    double window = self->state->settings.idempotency_window;
    return (double)(now - self->once_at) > window * 1e9;
}

void
wsm_manager_expire(WsmManager *self, bool all)
{
    const WsmSettings *settings = &self->state->settings;
    int64_t now = wsm_now_ns();
    WsmRefList gone, forgotten;
    PyObject *once = NULL;

    wsm_reflist_init(&gone);
    wsm_reflist_init(&forgotten);
    wsm_lock(&self->lock);
    if (all) {
        wsm_journal_empty_locked(&self->journal, self->seq, &gone);
        wsm_acks_empty_locked(&self->acks, &forgotten);
    }
    else {
        wsm_journal_expire_locked(&self->journal, settings, now, &gone);
        wsm_acks_expire_locked(&self->acks, settings, now, &forgotten);
    }
    if (all || manager_keys_are_over_locked(self, now)) {
        once = self->once;
        self->once = NULL;
        self->once_bytes = 0;
    }
    wsm_unlock(&self->lock);
    wsm_reflist_drop(&gone);
    wsm_acks_forget(&forgotten);
    Py_XDECREF(once);
}

WsmConnection *
wsm_manager_find(WsmManager *self, PyObject *id)
{
    WsmRoster *roster = wsm_manager_roster(self);
    WsmConnection *found = NULL;

    for (Py_ssize_t i = 0; roster != NULL && i < roster->count; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        if (PyUnicode_Compare(connection->id, id) == 0) {
            found = (WsmConnection *)Py_NewRef((PyObject *)connection);
            break;
        }
    }
    wsm_manager_release(self, roster);
    return found;
}

/* How many removals of that id are owed; -1 with an exception. */
static long
manager_owed(WsmManager *self, PyObject *id)
{
    PyObject *due = NULL;
    if (self->superseded == NULL ||
        PyDict_GetItemRef(self->superseded, id, &due) <= 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    long owed = PyLong_AsLong(due);
    Py_DECREF(due);
    return owed;
}

static int
manager_owe(WsmManager *self, PyObject *id, long owed)
{
    if (owed == 0) {
        return PyDict_DelItem(self->superseded, id);
    }
    PyObject *due = PyLong_FromLong(owed);
    if (due == NULL) {
        return -1;
    }
    int result = PyDict_SetItem(self->superseded, id, due);
    Py_DECREF(due);
    return result;
}

/* A private dict of str keys: nothing in these sections runs Python. */
int
wsm_manager_owe_removal(WsmManager *self, PyObject *id)
{
    int result = -1;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->superseded == NULL) {
        self->superseded = PyDict_New();
    }
    long owed = self->superseded == NULL ? -1 : manager_owed(self, id);
    if (owed >= 0) {
        result = manager_owe(self, id, owed + 1);
    }
    Py_END_CRITICAL_SECTION();
    return result;
}

int
wsm_manager_settle_removal(WsmManager *self, PyObject *id)
{
    int result;

    Py_BEGIN_CRITICAL_SECTION(self);
    long owed = manager_owed(self, id);
    result = owed > 0 ? 1 : (int)owed;
    if (owed > 0 && manager_owe(self, id, owed - 1) < 0) {
        result = -1;
    }
    Py_END_CRITICAL_SECTION();
    return result;
}

/* What the parent's threads held may be half-made: leave it all where it
 * is. Its memory is shared with the parent anyway. */
void
wsm_manager_forget(WsmManager *self)
{
    wsm_lock_reset(&self->lock);
    self->roster = NULL;
    self->superseded = NULL;
    self->waiters = NULL;
    self->once = NULL;
    self->once_bytes = 0;
    self->journal = (WsmJournal){.bytes = 0};
    self->acks = (WsmAcks){.bytes = 0};
    self->idle = (WsmLink){0};
    self->kept = (WsmLink){0};
    self->suspended = false;
    self->left_at = 0;
    self->kept_bytes = WSM_KEPT_OUT;
    self->epoch = manager_epoch(self->state);
    self->seq = 0;
    self->fork_generation = self->state->fork_generation;
}

int
wsm_manager_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmManager *self = (WsmManager *)op;
    WsmRoster *roster = self->roster;

    Py_VISIT(Py_TYPE(op));
#ifndef WSM_PLANT_NO_VISIT
    Py_VISIT(self->attributes);
    Py_VISIT(self->context);
#endif
    Py_VISIT(self->mode);
    Py_VISIT(self->waiters);
    Py_VISIT(self->superseded);
    Py_VISIT(self->once);
    int visited = wsm_journal_traverse(&self->journal, visit, arg);
    if (visited == 0) {
        visited = wsm_acks_traverse(&self->acks, visit, arg);
    }
    if (visited != 0) {
        return visited;
    }
    if (roster != NULL && roster->refs == 1) {
        for (Py_ssize_t i = 0; i < roster->count; i++) {
            Py_VISIT(roster->items[i]);
        }
    }
    return 0;
}

int
wsm_manager_clear(PyObject *op)
{
    WsmManager *self = (WsmManager *)op;
    WsmRoster *roster = self->roster;

    self->roster = NULL;
    if (roster != NULL && --roster->refs == 0) {
        wsm_roster_free(roster);
    }
    Py_CLEAR(self->attributes);
    Py_CLEAR(self->context);
    Py_CLEAR(self->mode);
    Py_CLEAR(self->waiters);
    Py_CLEAR(self->superseded);
    Py_CLEAR(self->once);
    wsm_journal_clear(&self->journal);
    wsm_acks_clear(&self->acks);
    return 0;
}

void
wsm_manager_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    if (WSM_HAS_WEAKREFS((WsmManager *)op)) {
        PyObject_ClearWeakRefs(op);
    }
    wsm_manager_clear(op);
    Py_CLEAR(((WsmManager *)op)->key);
    type->tp_free(op);
    Py_DECREF(type);
}
