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
wsm_registry_make_tables(WsmRegistry *self)
{
    self->managers = PyDict_New();
    self->sockets = PyDict_New();
    self->mailboxes = PyDict_New();
    self->routed = PyDict_New();
    self->limbo.managers = PyDict_New();
    return self->managers == NULL || self->sockets == NULL ||
                   self->mailboxes == NULL || self->routed == NULL ||
                   self->limbo.managers == NULL
               ? -1
               : 0;
}

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
    return wsm_registry_make_tables(self);
}

int
wsm_registry_traverse(WsmRegistry *self, visitproc visit, void *arg)
{
    Py_VISIT(self->managers);
    Py_VISIT(self->sockets);
    Py_VISIT(self->mailboxes);
    Py_VISIT(self->routed);
    Py_VISIT(self->ancestors);
    Py_VISIT(self->limbo.managers);
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
    Py_CLEAR(self->limbo.managers);
    Py_CLEAR(self->none);
}

/* -- idle managers, under the lock --------------------------------------- */

/* Out of the table and its lists; the caller owns it then, and drops it
 * outside the lock. NULL if it stays, for want of memory. */
static PyObject *
table_remove(WsmRegistry *self, WsmManager *manager)
{
    PyObject *victim = NULL;

    if (PyDict_Pop(self->managers, manager->key, &victim) <= 0) {
        return NULL;
    }
    wsm_front_forget(&self->front, victim);
    wsm_chain_unlink(&manager->idle);
    wsm_kept_leave(&self->kept, manager);
    return victim;
}

/* If only the table holds the manager, and it keeps no events or there are
 * too many such, take it out. *held (owned): others may hold it, and it may go
 * to limbo; whether they do is certain only where counts are exact. */
static PyObject *
table_release(WsmRegistry *self, WsmManager *manager, bool many, int64_t now,
              WsmManager **held)
{
    if (!many &&
        wsm_journal_is_live(&manager->journal, &self->state->settings, now)) {
        return NULL;
    }
    if (WSM_COUNTS_ARE_EXACT &&
        PyUnstable_Object_IsUniquelyReferenced((PyObject *)manager)) {
        return table_remove(self, manager);
    }
    /* What who holds it keeps is in the account of what is in the table. */
    if (manager->kept_bytes == 0 ||
        (!WSM_COUNTS_ARE_EXACT && Py_REFCNT(manager) <= 1)) {
        *held = (WsmManager *)Py_NewRef((PyObject *)manager);
    }
    return NULL;
}

/* To limbo, with a weak reference that was made outside the lock. */
static PyObject *
table_suspend(WsmRegistry *self, WsmManager *manager, PyObject *weak)
{
    if (manager->idle.chain == NULL || manager->roster != NULL ||
        !wsm_limbo_put(&self->limbo, manager, weak)) {
        return NULL; /* it has come to life meanwhile */
    }
    PyObject *victim = table_remove(self, manager);
    if (victim == NULL) {
        Py_XDECREF(wsm_limbo_take(&self->limbo, manager->key));
    }
    return victim;
}

/* In the table now: in its lists as well. */
static void
table_enlist(WsmRegistry *self, WsmManager *manager)
{
    wsm_kept_enter(manager);
    if (manager->roster == NULL) {
        wsm_idle_append(&self->fresh, manager);
    }
}

/* The manager of a key that is in limbo, if somebody holds it: back in the
 * table, a new reference. NULL, and out of limbo, if it has gone. */
static PyObject *
table_return(WsmRegistry *self, PyObject *key)
{
    if (PyDict_GET_SIZE(self->limbo.managers) == 0) {
        return NULL;
    }
    WsmManager *back = wsm_limbo_take(&self->limbo, key);
    if (back != NULL) {
        if (PyDict_SetItem(self->managers, key, (PyObject *)back) == 0) {
            table_enlist(self, back);
        }
        else {
            PyErr_Clear(); /* no memory: then it lives for who holds it */
        }
    }
    return (PyObject *)back;
}

/* Who holds the manager of the key, if it went to limbo, may have used it
 * while it went. */
static void
sweep_recall(WsmRegistry *self, PyObject *key)
{
    PyObject *back = NULL;

    wsm_lock(&self->lock);
    WsmManager *manager = wsm_limbo_peek(&self->limbo, key);
    if (manager == NULL) {
        manager = wsm_limbo_take(&self->limbo, key); /* nobody did */
    }
    wsm_unlock(&self->lock);
    if (manager != NULL &&
        (manager->roster != NULL || wsm_manager_keeps(manager))) {
        wsm_lock(&self->lock);
        back = table_return(self, key);
        wsm_unlock(&self->lock);
    }
    Py_XDECREF(manager);
    Py_XDECREF(back);
}

/* Drop what was taken out of the table; never under the lock. many: there is
 * no room for what it keeps, even if somebody holds it after all. */
static void
sweep_drop(WsmRegistry *self, PyObject *victim, bool many)
{
    if (victim == NULL) {
        return;
    }
    bool suspended = ((WsmManager *)victim)->suspended;
    PyObject *key = Py_NewRef(((WsmManager *)victim)->key);
    wsm_manager_expire((WsmManager *)victim, many || !suspended);
    Py_DECREF(victim);
    if (suspended) {
        sweep_recall(self, key);
    }
    Py_DECREF(key);
}

/* Somebody holds it (owned), or that is not certain. */
static void
sweep_suspend(WsmRegistry *self, WsmManager *held, bool many)
{
    PyObject *victim = NULL;
    PyObject *weak = PyWeakref_NewRef((PyObject *)held, NULL);

    if (weak == NULL) {
        PyErr_Clear(); /* no memory: it stays where it is */
    }
    else {
        wsm_lock(&self->lock);
        victim = table_suspend(self, held, weak);
        wsm_unlock(&self->lock);
        Py_DECREF(weak);
    }
    Py_DECREF(held);
    sweep_drop(self, victim, many);
}

/* One look at the head of a list. -1: nothing due. */
static int
sweep_step(WsmRegistry *self, WsmChain *list, Py_ssize_t most, int64_t now)
{
    PyObject *victim = NULL;
    WsmManager *held = NULL;
    int looked = -1;

    wsm_lock(&self->lock);
    WsmManager *manager = wsm_idle_first(list);
    bool many = list->count > most;
    if (manager != NULL && (many || wsm_idle_is_due(manager, now))) {
        looked = 0;
        if (manager->roster != NULL) {
            wsm_chain_unlink(&manager->idle); /* until that is empty again */
        }
        else {
            if (!manager->touched || many) {
                victim = table_release(self, manager, many, now, &held);
            }
            if (victim == NULL) {
                wsm_idle_append(&self->fresh, manager);
            }
        }
    }
    wsm_unlock(&self->lock);
    sweep_drop(self, victim, many);
    if (held != NULL) {
        sweep_suspend(self, held, many);
    }
    return looked;
}

/* One look at who is in limbo. -1: none, or a round is over. */
static int
sweep_limbo(WsmRegistry *self)
{
    wsm_lock(&self->lock);
    PyObject *looked = wsm_limbo_look(&self->limbo);
    wsm_unlock(&self->lock);
    Py_XDECREF(looked);
    return looked == NULL ? -1 : 0;
}

void
wsm_registry_sweep(WsmRegistry *self, Py_ssize_t steps)
{
    int64_t now = wsm_now_ns();
    Py_ssize_t most = self->state->settings.max_idle_users;

    for (Py_ssize_t i = 0; i < steps; i++) {
        int a =
            sweep_step(self, &self->departed,
                       most < WSM_DEPARTED_MAX ? most : WSM_DEPARTED_MAX, now);
        int b = sweep_step(self, &self->fresh, most, now);
        int c = sweep_limbo(self);
        if (a < 0 && b < 0 && c < 0) {
            return;
        }
    }
}

void
wsm_registry_departed(WsmRegistry *self, WsmManager *manager)
{
    PyObject *saved = wsm_error_take();
    wsm_lock(&self->lock);
    if (manager->kept_bytes != WSM_KEPT_OUT && manager->roster == NULL) {
        wsm_idle_append(&self->departed, manager);
        manager->left_at = manager->idle_since;
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
    if (wsm_registry_users(self) >= most) {
        wsm_registry_sweep(self, wsm_registry_users(self)); /* once each */
    }
    if (wsm_registry_users(self) >= most) {
        PyErr_Format(self->state->errors.UserLimitError,
                     "the registry holds %zd users, max_users is %zd: raise "
                     "it with configure(max_users=...), or let users go",
                     wsm_registry_users(self), most);
        return -1;
    }
    return 0;
}

/* The manager of ours's key in the table, a new reference: ours, unless
 * somebody was faster. A private dict of exact str keys: no Python runs. */
static PyObject *
table_claim(WsmRegistry *self, WsmManager *ours)
{
    PyObject *winner = table_return(self, ours->key);
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
        if (winner == (PyObject *)ours && ours->kept_bytes == WSM_KEPT_OUT) {
            table_enlist(self, ours);
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
    if (manager == NULL && !PyErr_Occurred()) {
        wsm_lock(&self->lock);
        manager = (WsmManager *)table_return(self, key);
        wsm_unlock(&self->lock);
    }
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
    if (manager->fork_generation != self->state->fork_generation) {
        PyObject *spare = (PyObject *)registry_ancestor(self, manager->key);
        if (manager->fork_generation != self->state->fork_generation) {
            wsm_manager_forget(manager);
        }
        Py_XDECREF(spare);
    }
    WsmManager *winner = registry_insert(self, manager);
    if (winner == NULL) {
        wsm_unraisable((PyObject *)manager);
    }
    Py_XDECREF(winner);
    manager->suspended = false; /* nor where a finalizer brought it back */
    wsm_error_restore(saved);
}

Py_ssize_t
wsm_registry_users(WsmRegistry *self)
{
    return PyDict_GET_SIZE(self->managers) +
           PyDict_GET_SIZE(self->limbo.managers);
}

/* -- the whole ----------------------------------------------------------- */

/* Add those in limbo that live to a list. */
static int
limbo_values(WsmRegistry *self, PyObject *list)
{
    PyObject *keys = PyDict_Keys(self->limbo.managers);
    int result = keys == NULL ? -1 : 0;

    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        wsm_lock(&self->lock);
        WsmManager *manager = wsm_limbo_peek(&self->limbo, key);
        wsm_unlock(&self->lock);
        if (manager != NULL) {
            result = PyList_Append(list, (PyObject *)manager);
            Py_DECREF(manager);
        }
    }
    Py_XDECREF(keys);
    return result;
}

PyObject *
wsm_registry_managers(WsmRegistry *self)
{
    PyObject *list = PyDict_Values(self->managers);
    PyObject *none = (PyObject *)wsm_registry_find(self, Py_None);
    if (list != NULL && (limbo_values(self, list) < 0 ||
                         (none != NULL && PyList_Append(list, none) < 0))) {
        Py_CLEAR(list);
    }
    Py_XDECREF(none);
    return list;
}
