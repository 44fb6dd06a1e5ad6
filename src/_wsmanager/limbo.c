/* Invariant: who lives in here knows it (suspended), and is in no table. */
#include "limbo.h"

#include "compat.h"

bool
wsm_limbo_put(WsmLimbo *self, WsmManager *manager, PyObject *weak)
{
    if (PyDict_SetItem(self->managers, manager->key, weak) < 0) {
        PyErr_Clear(); /* no memory: it stays where it is */
        return false;
    }
    manager->suspended = true;
    return true;
}

/* What a weak reference of ours (or NULL) refers to. */
static WsmManager *
limbo_manager(PyObject *weak)
{
    PyObject *manager = NULL;

    if (weak != NULL && PyWeakref_GetRef(weak, &manager) < 0) {
        PyErr_Clear(); /* only for what is no weak reference */
    }
    return (WsmManager *)manager;
}

WsmManager *
wsm_limbo_peek(const WsmLimbo *self, PyObject *key)
{
    PyObject *weak = NULL;

    if (PyDict_GetItemRef(self->managers, key, &weak) < 0) {
        PyErr_Clear(); /* not for an exact str */
    }
    WsmManager *manager = limbo_manager(weak);
    Py_XDECREF(weak);
    return manager;
}

WsmManager *
wsm_limbo_take(WsmLimbo *self, PyObject *key)
{
    PyObject *weak = NULL;

    if (PyDict_Pop(self->managers, key, &weak) < 0) {
        PyErr_Clear(); /* as above */
    }
    WsmManager *manager = limbo_manager(weak);
    Py_XDECREF(weak);
    if (manager != NULL) {
        manager->suspended = false;
    }
    return manager;
}

PyObject *
wsm_limbo_look(WsmLimbo *self)
{
    PyObject *key, *weak, *left = NULL;

    if (!PyDict_Next(self->managers, &self->looked, &key, &weak)) {
        self->looked = 0;
        return NULL;
    }
    WsmManager *manager = limbo_manager(weak);
    if (manager == NULL && PyDict_Pop(self->managers, key, &left) < 0) {
        PyErr_Clear(); /* as above */
    }
    return manager == NULL ? left : (PyObject *)manager;
}
