/* Invariant: a manager is in managers (or is none) exactly once per key; it
 * is in at most one idle list, and only while it is in managers. */
#include "registry.h"

#include "compat.h"
#include "counters.h"
#include "identity.h"

/* Each new user looks at so many idle ones, so that more go than come. What
 * another thread made goes at the second try only where counts are in two
 * parts: at the first that thread is asked to put them together. */
#define WSM_SWEEP_STEPS (WSM_COUNTS_ARE_EXACT ? 2 : 6)
/* Of users that were connected and have left, so many are kept at most. */
#define WSM_DEPARTED_MAX 65536

int
wsm_registry_init(WsmState *state)
{
    WsmRegistry *self = PyMem_RawCalloc(1, sizeof(WsmRegistry));
    if (self == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->state = state;
    state->registry = self;
    self->kept.lock = &self->lock;
    self->managers = PyDict_New();
    self->sockets = PyDict_New();
    self->mailboxes = PyDict_New();
    self->routed = PyDict_New();
    self->limbo = PyDict_New();
    return self->managers == NULL || self->sockets == NULL ||
                   self->mailboxes == NULL || self->routed == NULL ||
                   self->limbo == NULL
               ? -1
               : 0;
}

int
wsm_registry_traverse(WsmRegistry *self, visitproc visit, void *arg)
{
    Py_VISIT(self->managers);
    Py_VISIT(self->sockets);
    Py_VISIT(self->mailboxes);
    Py_VISIT(self->routed);
    Py_VISIT(self->ancestors);
    Py_VISIT(self->limbo);
    Py_VISIT(self->none);
    return 0;
}

void
wsm_registry_clear(WsmRegistry *self)
{
    self->fresh = (WsmChain){0};
    self->departed = (WsmChain){0};
    self->kept = (WsmKept){.lock = &self->lock};
    wsm_front_clear(&self->front);
    Py_CLEAR(self->managers);
    Py_CLEAR(self->sockets);
    Py_CLEAR(self->mailboxes);
    Py_CLEAR(self->routed);
    Py_CLEAR(self->ancestors);
    Py_CLEAR(self->limbo);
    Py_CLEAR(self->none);
}

/* -- idle managers, under the lock --------------------------------------- */

/* Where a count does not tell, the manager goes to limbo: out of the table,
 * with a weak reference that finds it again if somebody does hold it. */
static bool
table_suspend(WsmRegistry *self, WsmManager *manager)
{
    if (Py_REFCNT(manager) > 1) {
        return false; /* as good as certain, and asked again later */
    }
    PyObject *weak = PyWeakref_NewRef((PyObject *)manager, NULL);
    bool done =
        weak != NULL && PyDict_SetItem(self->limbo, manager->key, weak) == 0;
    if (!done) {
        PyErr_Clear(); /* no memory: it stays where it is */
    }
    Py_XDECREF(weak);
    return done;
}

/* If only the table holds the manager, and it keeps no events or there are
 * too many such, take it out: the caller owns it then and drops it outside
 * the lock. NULL if it stays. */
static PyObject *
table_release(WsmRegistry *self, WsmManager *manager, bool many, int64_t now)
{
    PyObject *victim = NULL;

    if (!many &&
        wsm_journal_is_live(&manager->journal, &self->state->settings, now)) {
        return NULL;
    }
    bool alone =
        WSM_COUNTS_ARE_EXACT
            ? PyUnstable_Object_IsUniquelyReferenced((PyObject *)manager)
            : table_suspend(self, manager);

    if (!alone || PyDict_Pop(self->managers, manager->key, &victim) <= 0) {
        return NULL;
    }
    wsm_front_forget(&self->front, victim);
    wsm_chain_unlink(&manager->idle);
    wsm_kept_leave(&self->kept, manager);
    return victim;
}

/* The manager of a key that is in limbo, if somebody holds it: back in the
 * table, a new reference. NULL, and out of limbo, if it has gone. */
static PyObject *
table_return(WsmRegistry *self, PyObject *key)
{
    PyObject *weak = NULL, *back = NULL;

    if (PyDict_Pop(self->limbo, key, &weak) > 0 &&
        PyWeakref_GetRef(weak, &back) > 0) {
        if (PyDict_SetItem(self->managers, key, back) == 0) {
            wsm_idle_append(&self->fresh, (WsmManager *)back);
            wsm_kept_enter((WsmManager *)back);
        }
        else {
            PyErr_Clear(); /* no memory: then it lives for who holds it */
            Py_CLEAR(back);
        }
    }
    Py_XDECREF(weak);
    return back;
}

/* Drop what was taken out of the table; never under the lock. many: there is
 * no room for what it keeps, even if somebody holds it after all. */
static void
sweep_drop(WsmRegistry *self, PyObject *victim, bool many)
{
    if (victim == NULL) {
        return;
    }
    wsm_manager_expire((WsmManager *)victim, WSM_COUNTS_ARE_EXACT || many);
    if (WSM_COUNTS_ARE_EXACT) {
        Py_DECREF(victim);
        return;
    }
    PyObject *key = Py_NewRef(((WsmManager *)victim)->key);
    Py_DECREF(victim);
    wsm_lock(&self->lock);
    PyObject *back = table_return(self, key);
    wsm_unlock(&self->lock);
    Py_XDECREF(back);
    Py_DECREF(key);
}

/* One look at the head of a list. -1: nothing due. */
static int
sweep_step(WsmRegistry *self, WsmChain *list, Py_ssize_t most, int64_t now)
{
    PyObject *victim = NULL;
    int looked = -1;

    wsm_lock(&self->lock);
    WsmManager *manager = wsm_idle_first(list);
    bool many = list->count > most;
    if (manager != NULL && (many || manager->idle_deadline <= now)) {
        looked = 0;
        if (!manager->touched || many) {
            victim = table_release(self, manager, many, now);
        }
        if (victim == NULL) {
            wsm_idle_append(&self->fresh, manager);
        }
    }
    wsm_unlock(&self->lock);
    sweep_drop(self, victim, many);
    return looked;
}

void
wsm_registry_sweep(WsmRegistry *self, int steps)
{
    int64_t now = wsm_now_ns();
    Py_ssize_t most = self->state->settings.max_idle_users;

    for (int i = 0; i < steps; i++) {
        int a =
            sweep_step(self, &self->departed,
                       most < WSM_DEPARTED_MAX ? most : WSM_DEPARTED_MAX, now);
        int b = sweep_step(self, &self->fresh, most, now);
        if (a < 0 && b < 0) {
            return;
        }
    }
}

void
wsm_registry_departed(WsmRegistry *self, WsmManager *manager)
{
    PyObject *saved = wsm_error_take();
    wsm_lock(&self->lock);
    if (manager->idle.chain != NULL) {
        wsm_idle_append(&self->departed, manager);
    }
    wsm_unlock(&self->lock);
    wsm_registry_sweep(self, WSM_SWEEP_STEPS);
    wsm_error_restore(saved);
}

/* -- managers ------------------------------------------------------------ */

/* What the table has, past the front. */
static WSM_OUTLINE WsmManager *
registry_look_up(WsmRegistry *self, PyObject *key)
{
    PyObject *found = NULL;

    if (key == Py_None) {
        wsm_lock(&self->lock);
        found = Py_XNewRef((PyObject *)self->none);
        wsm_unlock(&self->lock);
    }
    else if (PyDict_GetItemRef(self->managers, key, &found) > 0) {
        /* Written once, not each time: other threads read what is near. */
        if (!((WsmManager *)found)->touched) {
            ((WsmManager *)found)->touched = true;
        }
        wsm_front_put(&self->front, key, found);
    }
    return (WsmManager *)found;
}

WsmManager *
wsm_registry_find(WsmRegistry *self, PyObject *key)
{
    PyObject *found = wsm_front_find(&self->front, key);

    if (found == NULL) {
        return registry_look_up(self, key);
    }
    ((WsmManager *)found)->touched = true;
    return (WsmManager *)Py_NewRef(found);
}

/* A manager this process had before it was forked, made its own. */
static WsmManager *
registry_ancestor(WsmRegistry *self, PyObject *key)
{
    PyObject *found = NULL;

    /* Held: a reset in another thread lets go of the table meanwhile. */
    wsm_lock(&self->lock);
    PyObject *ancestors = Py_XNewRef(self->ancestors);
    wsm_unlock(&self->lock);
    if (ancestors != NULL && PyDict_Pop(ancestors, key, &found) > 0) {
        wsm_manager_forget((WsmManager *)found);
    }
    Py_XDECREF(ancestors);
    return (WsmManager *)found;
}

static int
registry_admit(WsmRegistry *self, PyObject *key)
{
    Py_ssize_t most = self->state->settings.max_users;

    if (key == Py_None) {
        return 0;
    }
    if (wsm_identity_validate(self->state, key) < 0) {
        return -1;
    }
    wsm_registry_sweep(self, WSM_SWEEP_STEPS);
    if (PyDict_GET_SIZE(self->managers) >= most) {
        wsm_registry_sweep(self, 64);
    }
    if (PyDict_GET_SIZE(self->managers) >= most) {
        PyErr_Format(self->state->errors.UserLimitError,
                     "the registry holds %zd users, max_users is %zd: raise "
                     "it with configure(max_users=...), or let users go",
                     PyDict_GET_SIZE(self->managers), most);
        return -1;
    }
    return 0;
}

/* The manager of ours's key in the table, a new reference: ours, unless
 * somebody was faster. A private dict of exact str keys: no Python runs. */
static PyObject *
table_claim(WsmRegistry *self, WsmManager *ours)
{
    PyObject *winner =
        WSM_COUNTS_ARE_EXACT ? NULL : table_return(self, ours->key);
    if (winner != NULL) {
        return winner;
    }
    if (wsm_dict_claim(self->managers, ours->key, (PyObject *)ours, &winner) <
        0) {
        return NULL;
    }
    return winner;
}

/* Put ours in, unless somebody was faster: then theirs. A new reference. */
static WsmManager *
registry_insert(WsmRegistry *self, WsmManager *ours)
{
    PyObject *winner;

    wsm_lock(&self->lock);
    if (ours->key == Py_None) {
        if (self->none == NULL) {
            self->none = (WsmManager *)Py_NewRef((PyObject *)ours);
        }
        winner = Py_NewRef((PyObject *)self->none);
    }
    else {
        winner = table_claim(self, ours);
        if (winner == (PyObject *)ours) {
            wsm_idle_append(&self->fresh, ours);
            wsm_kept_enter(ours);
        }
    }
    wsm_unlock(&self->lock);
    return (WsmManager *)winner;
}

WsmManager *
wsm_registry_get(WsmRegistry *self, PyObject *key, PyObject *context,
                 PyObject *mode, bool service_available)
{
    WsmManager *manager = wsm_registry_find(self, key);
    if (manager != NULL || PyErr_Occurred()) {
        return manager;
    }
    if (registry_admit(self, key) < 0) {
        return NULL;
    }
    manager = registry_ancestor(self, key);
    if (manager == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        manager = wsm_manager_new(self->state, key, context, mode,
                                  service_available);
    }
    if (manager == NULL) {
        return NULL;
    }
    WsmManager *winner = registry_insert(self, manager);
    Py_DECREF(manager);
    return winner;
}

void
wsm_registry_adopt(WsmRegistry *self, WsmManager *manager)
{
    PyObject *saved = wsm_error_take();
    PyObject *spare = (PyObject *)registry_ancestor(self, manager->key);
    if (manager->fork_generation != self->state->fork_generation) {
        wsm_manager_forget(manager);
    }
    Py_XDECREF(spare);
    WsmManager *winner = registry_insert(self, manager);
    if (winner == NULL) {
        wsm_unraisable((PyObject *)manager);
    }
    Py_XDECREF(winner);
    wsm_error_restore(saved);
}

/* -- sockets ------------------------------------------------------------- */

WsmConnection *
wsm_registry_by_socket(WsmRegistry *self, PyObject *socket)
{
    PyObject *found = NULL;
    PyObject *address = PyLong_FromVoidPtr(socket);
    if (address == NULL) {
        return NULL;
    }
    if (PyDict_GetItemRef(self->sockets, address, &found) < 0) {
        found = NULL;
    }
    Py_DECREF(address);
    return (WsmConnection *)found;
}

/* In place of a connection that is leaving, if there is one: whoever removes
 * it still holds it, so it does not die here. */
static int
table_enter(WsmRegistry *self, PyObject *address, WsmConnection *connection)
{
    return PyDict_SetItem(self->sockets, address, (PyObject *)connection);
}

/* Out of the table, if it is still this one that is in it; *gone is the
 * caller's to drop. -1 with an exception. */
static int
table_leave(WsmRegistry *self, PyObject *address, WsmConnection *connection,
            PyObject **gone)
{
    int result = PyDict_Pop(self->sockets, address, gone);
    if (result > 0 && *gone != (PyObject *)connection) {
        result = PyDict_SetItem(self->sockets, address, *gone);
    }
    return result < 0 ? -1 : 0;
}

int
wsm_registry_enter(WsmRegistry *self, WsmConnection *connection)
{
    PyObject *address = PyLong_FromVoidPtr(connection->websocket);
    if (address == NULL) {
        return -1;
    }
    wsm_lock(&self->lock);
    int result = table_enter(self, address, connection);
    wsm_unlock(&self->lock);
    Py_DECREF(address);
    if (result == 0) {
        wsm_add(&wsm_totals(self->state)->opened, 1);
        wsm_lock(&connection->mailbox->lock);
        connection->mailbox->connections++;
        wsm_unlock(&connection->mailbox->lock);
    }
    return result;
}

void
wsm_registry_rest(WsmRegistry *self, WsmMailbox *mailbox)
{
    PyObject *gone = NULL;

    wsm_lock(&mailbox->lock);
    bool rests = mailbox->connections == 0 && !mailbox->stray_due;
    wsm_unlock(&mailbox->lock);
    if (!rests) {
        return;
    }
    PyObject *address = PyLong_FromVoidPtr(mailbox->loop);
    if (address == NULL || PyDict_Pop(self->mailboxes, address, &gone) < 0) {
        wsm_unraisable((PyObject *)mailbox);
    }
    Py_XDECREF(address);
    Py_XDECREF(gone);
}

static void
registry_leave_mailbox(WsmRegistry *self, WsmMailbox *mailbox)
{
    wsm_lock(&mailbox->lock);
    mailbox->connections--;
    wsm_unlock(&mailbox->lock);
    wsm_registry_rest(self, mailbox);
}

void
wsm_registry_leave(WsmRegistry *self, WsmConnection *connection)
{
    PyObject *saved = wsm_error_take();
    PyObject *gone = NULL, *routed = NULL;
    PyObject *address = PyLong_FromVoidPtr(connection->websocket);
    int left = -1;

    if (address != NULL) {
        wsm_lock(&self->lock);
        left = table_leave(self, address, connection, &gone);
        wsm_unlock(&self->lock);
    }
    if (left < 0 || (connection->routed &&
                     PyDict_Pop(self->routed, connection->id, &routed) < 0)) {
        wsm_unraisable((PyObject *)connection);
    }
    Py_XDECREF(routed);
    Py_XDECREF(gone);
    Py_XDECREF(address);
    wsm_add(&wsm_totals(self->state)->closed, 1);
    registry_leave_mailbox(self, connection->mailbox);
    wsm_error_restore(saved);
}

/* -- the whole ----------------------------------------------------------- */

PyObject *
wsm_registry_managers(WsmRegistry *self)
{
    PyObject *list = PyDict_Values(self->managers);
    PyObject *none = (PyObject *)wsm_registry_find(self, Py_None);
    if (list != NULL && none != NULL && PyList_Append(list, none) < 0) {
        Py_CLEAR(list);
    }
    Py_XDECREF(none);
    return list;
}

void
wsm_registry_forget(WsmRegistry *self)
{
    wsm_lock_reset(&self->lock);
    self->state->fork_generation++;
    self->fresh = (WsmChain){0};
    self->departed = (WsmChain){0};
    self->kept = (WsmKept){.lock = &self->lock};
    wsm_front_clear(&self->front);
    /* Not dropped: a transport's finalizer would touch the selector that is
     * still shared with the parent. */
    self->ancestors = self->managers;
    if (self->none != NULL) {
        wsm_manager_forget(self->none);
    }
    self->managers = PyDict_New();
    self->sockets = PyDict_New();
    self->mailboxes = PyDict_New();
    self->routed = PyDict_New();
    self->limbo = PyDict_New();
    if (self->managers == NULL || self->sockets == NULL ||
        self->mailboxes == NULL || self->routed == NULL ||
        self->limbo == NULL) {
        Py_FatalError("wsmanager: no memory for an empty registry");
    }
}

/* Take everything out of a private table: what was in it is parked. Nothing
 * dies of the clearing itself. */
static void
table_empty(PyObject *table, WsmRefList *old)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (PyDict_Next(table, &at, &key, &value)) {
        wsm_reflist_park(old, Py_NewRef(key));
        wsm_reflist_park(old, Py_NewRef(value));
    }
    PyDict_Clear(table);
}

static void
table_forsake(WsmRegistry *self, WsmChain *list)
{
    WsmManager *manager;

    while ((manager = wsm_idle_first(list)) != NULL) {
        wsm_kept_leave(&self->kept, manager);
        wsm_chain_unlink(&manager->idle);
    }
}

void
wsm_registry_reset(WsmRegistry *self)
{
    WsmRefList old;

    wsm_reflist_init(&old);
    wsm_lock(&self->lock);
    table_forsake(self, &self->fresh);
    table_forsake(self, &self->departed);
    table_empty(self->managers, &old);
    table_empty(self->limbo, &old);
    wsm_reflist_park(&old, self->ancestors);
    wsm_reflist_park(&old, (PyObject *)self->none);
    self->ancestors = NULL;
    self->none = NULL;
    wsm_unlock(&self->lock);
    PyDict_Clear(self->sockets);
    PyDict_Clear(self->mailboxes);
    PyDict_Clear(self->routed);
    wsm_front_clear(&self->front);
    wsm_reflist_drop(&old);
}
