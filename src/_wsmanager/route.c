/* Whom a call on a manager reaches.
 * Invariant: a named user's manager reaches that user and no other. */
#include "identity.h"
#include "methods.h"
#include "registry.h"

WsmManager *
wsm_manager_here(PyObject *op)
{
    WsmManager *self = (WsmManager *)op;
    if (self->fork_generation != self->state->fork_generation ||
        self->suspended) {
        wsm_registry_adopt(self->state->registry, self);
    }
    return self;
}

static WsmManager *
route_to(WsmManager *self, PyObject *key, PyObject *id, bool make)
{
    WsmState *state = self->state;
    if (!make) {
        return wsm_registry_find(state->registry, key);
    }
    return wsm_registry_get(state->registry, key, id, self->mode, true);
}

WsmManager *
wsm_manager_route(WsmManager *self, PyObject *id, bool make)
{
    WsmState *state = self->state;
    WsmManager *target = NULL;

    if (id == NULL || id == Py_None) {
        return (WsmManager *)Py_NewRef((PyObject *)self);
    }
    PyObject *key = wsm_identity_id(state, id);
    if (key == NULL) {
        return NULL;
    }
    if (self->key == Py_None) {
        if (wsm_identity_validate(state, key) == 0) {
            target = route_to(self, key, key, make);
        }
    }
    else if (PyUnicode_Compare(self->key, key) == 0) {
        target = (WsmManager *)Py_NewRef((PyObject *)self);
    }
    else {
        PyErr_SetString(state->errors.UserIsolationError,
                        "this manager reaches its own user only, and "
                        "another user's id was given: take that user's own "
                        "manager with get_websocket_manager(context)");
    }
    Py_DECREF(key);
    return target;
}

WsmConnection *
wsm_manager_lookup(WsmManager *self, PyObject *id)
{
    WsmConnection *found = wsm_manager_find(self, id);

    if (found != NULL || self->key != Py_None) {
        return found;
    }
    PyObject *text = PyUnicode_FromObject(id);
    if (text != NULL) {
        found = wsm_registry_routed(self->state->registry, text);
        Py_DECREF(text);
    }
    return found;
}
