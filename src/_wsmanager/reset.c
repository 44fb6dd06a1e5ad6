/* The registry begins anew: in the child of a fork, and for tests.
 * Invariant: in a child nothing of the parent's is dropped. */
#include "compat.h"
#include "registry.h"

/* All in limbo that somebody holds are in the table again, if no more. */
static int
registry_recall(WsmRegistry *self)
{
    PyObject *keys = PyDict_Keys(self->limbo.managers);
    int result = keys == NULL ? -1 : 0;

    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        PyObject *manager = (PyObject *)wsm_limbo_take(&self->limbo, key);
        if (manager != NULL) {
            result = PyDict_SetItem(self->managers, key, manager);
            Py_DECREF(manager);
        }
    }
    Py_XDECREF(keys);
    return result;
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
    int kept = self->ancestors == NULL
                   ? 0
                   : PyDict_Merge(self->managers, self->ancestors, 0);
    if (kept < 0 || registry_recall(self) < 0) {
        Py_FatalError("wsmanager: no memory for the managers before a fork");
    }
    self->ancestors = self->managers;
    if (self->none != NULL) {
        wsm_manager_forget(self->none);
    }
    if (wsm_registry_make_tables(self) < 0) {
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

/* The table's managers are in its lists no more. */
static void
table_forsake(WsmRegistry *self)
{
    PyObject *key, *manager;
    Py_ssize_t at = 0;

    while (PyDict_Next(self->managers, &at, &key, &manager)) {
        wsm_kept_leave(&self->kept, (WsmManager *)manager);
        wsm_chain_unlink(&((WsmManager *)manager)->idle);
    }
}

/* Who is in limbo is held, and forgotten all the same. */
static void
table_abandon(WsmRegistry *self, WsmRefList *old)
{
    PyObject *key, *weak;
    Py_ssize_t at = 0;

    while (PyDict_Next(self->limbo.managers, &at, &key, &weak)) {
        WsmManager *manager = wsm_limbo_peek(&self->limbo, key);
        if (manager != NULL) {
            manager->suspended = false;
            wsm_reflist_park(old, (PyObject *)manager);
        }
    }
    table_empty(self->limbo.managers, old);
}

void
wsm_registry_reset(WsmRegistry *self)
{
    WsmRefList old;

    wsm_reflist_init(&old);
    wsm_lock(&self->lock);
    table_forsake(self);
    table_empty(self->managers, &old);
    table_abandon(self, &old);
    table_empty(self->sockets, &old);
    table_empty(self->routed, &old);
    wsm_reflist_park(&old, self->ancestors);
    wsm_reflist_park(&old, (PyObject *)self->none);
    self->ancestors = NULL;
    self->none = NULL;
    wsm_unlock(&self->lock);
    wsm_front_clear(&self->front);
    PyDict_Clear(self->mailboxes);
    wsm_reflist_drop(&old);
}
