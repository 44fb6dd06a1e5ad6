/* Invariant: a connection is in the roster exactly while it is open. */
#include "manager.h"

#include <string.h>

/* splitmix64: epochs differ, and tell nothing of the user. */
static uint64_t
manager_epoch(WsmState *state)
{
    uint64_t z = (state->epoch_seed[0] += 0x9e3779b97f4a7c15u);
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
    self->context = Py_NewRef(context);
    self->mode = Py_NewRef(mode);
    self->epoch = manager_epoch(state);
    self->fork_generation = state->fork_generation;
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

int
wsm_manager_attach(WsmManager *self, WsmConnection *connection,
                   Py_ssize_t limit)
{
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
            connection->generation = ++self->generation;
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

/* What the parent's threads held may be half-made: leave it all where it
 * is. Its memory is shared with the parent anyway. */
void
wsm_manager_forget(WsmManager *self)
{
    wsm_lock_reset(&self->lock);
    self->roster = NULL;
    self->superseded = NULL;
    self->waiters = NULL;
    self->idle_list = NULL;
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
