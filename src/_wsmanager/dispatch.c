/* Invariant: an event is encoded before anything of it is sent, so what
 * cannot be written is refused with nobody having got a part. */
#include "dispatch.h"

#include "compat.h"
#include "counters.h"
#include "fanout.h"
#include "methods.h"
#include "registry.h"
#include "results.h"
#include "settings.h"
#include "trace.h"

void
wsm_target_drop(WsmTarget *target)
{
    Py_CLEAR(target->manager);
    Py_CLEAR(target->only);
}

PyObject *
wsm_dispatch_type(const char *function, PyObject *type)
{
    if (type == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s() needs an event type: %s(type, data)", function,
                     function);
        return NULL;
    }
    if (!PyUnicode_Check(type)) {
        PyErr_Format(PyExc_TypeError,
                     "%s(): the event type must be a str, not %.100s",
                     function, Py_TYPE(type)->tp_name);
        return NULL;
    }
    if (PyUnicode_GET_LENGTH(type) == 0) {
        PyErr_Format(PyExc_ValueError, "%s(): the event type is empty",
                     function);
        return NULL;
    }
    return PyUnicode_FromObject(type);
}

/* The key under which a newer event replaces an older one. */
static int
dispatch_coalesce(WsmState *state, WsmEvent *event, const WsmLetter *letter)
{
    if (state->settings.slow_policy != WSM_SLOW_COALESCE) {
        return 0;
    }
    PyObject *callable =
        wsm_settings_object(state, &state->settings.coalesce_key);
    if (callable == NULL) {
        return 0;
    }
    PyObject *key = PyObject_CallFunctionObjArgs(callable, letter->type,
                                                 letter->data, NULL);
    Py_DECREF(callable);
    if (key == NULL) {
        return -1;
    }
    if (key == Py_None) {
        Py_DECREF(key);
        return 0;
    }
    if (!PyUnicode_Check(key)) {
        PyErr_Format(PyExc_TypeError,
                     "coalesce_key must give a str or None, not %.100s",
                     Py_TYPE(key)->tp_name);
        Py_DECREF(key);
        return -1;
    }
    event->key = PyUnicode_FromObject(key);
    Py_DECREF(key);
    return event->key == NULL ? -1 : 0;
}

static PyObject *
dispatch_now(const WsmTarget *target, WsmLetter *letter)
{
    WsmState *state = target->manager->state;

    letter->user_id = target->manager->key;
    letter->ack = target->ack;
    WsmEvent *event = wsm_envelope_event(state, letter);
    if (event == NULL) {
        return NULL;
    }
    /* The events counted apart are those a page cannot do without. */
    event->kind = (uint8_t)wsm_kind_of(letter->type);
    event->critical =
        target->critical || event->kind != WSM_KIND_other ||
        PyUnicode_CompareWithASCIIString(letter->type, "agent_error") == 0;
    event->ack = target->ack;
    event->only = Py_XNewRef((PyObject *)target->only);
    event->single = target->only != NULL;
    event->thread_id = Py_XNewRef(target->thread_id);
    if ((target->detail && ((event->detail = PyDict_New()) == NULL ||
                            (event->reasons = PyDict_New()) == NULL)) ||
        dispatch_coalesce(state, event, letter) < 0) {
        Py_DECREF(event);
        return NULL;
    }
    Py_INCREF(event);
    PyObject *delivery = wsm_fanout(target->manager, event, target->once);
    /* It has its places. Who keeps it from now on, the manager among them,
     * does not keep a connection that has left, and what leads back from it. */
    Py_CLEAR(event->only);
    Py_DECREF(event);
    return delivery;
}

PyObject *
wsm_dispatch(const WsmTarget *target, WsmLetter *letter)
{
    WsmState *state = target->manager->state;
    WsmTrace trace;

    if (state->hooks.trace == NULL || target->untraced) {
        return dispatch_now(target, letter);
    }
    wsm_trace_begin(state, "user", letter, &trace);
    PyObject *delivery = dispatch_now(target, letter);
    wsm_trace_end(&trace, delivery);
    return delivery;
}

PyObject *
wsm_dispatch_data(WsmState *state, PyObject *data)
{
    if (PyDict_CheckExact(data) || PyUnicode_Check(data) ||
        PyLong_Check(data) || PyFloat_Check(data) || PyList_Check(data) ||
        PyTuple_Check(data) || state->hooks.as_mapping == NULL) {
        return Py_NewRef(data);
    }
    PyObject *mapping = PyObject_CallOneArg(state->hooks.as_mapping, data);
    if (mapping == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear(); /* no mapping of any kind */
        return Py_NewRef(data);
    }
    return mapping;
}

/* Through the manager of None an id may be that of one user's connection and
 * another user's own: which is meant is not ours to guess. 0, or -1. */
static int
target_is_plain(WsmManager *self, const WsmConnection *found, PyObject *id)
{
    WsmState *state = self->state;

    if (self->key != Py_None || wsm_connection_id_generation(state, id) != 0) {
        return 0;
    }
    PyObject *key = PyUnicode_FromObject(id);
    WsmManager *other =
        key == NULL ? NULL : wsm_registry_find(state->registry, key);
    Py_XDECREF(key);
    if (other != NULL && other != found->manager) {
        PyErr_Format(state->errors.UserIsolationError,
                     "%R is a connection of one user and the id of another: "
                     "send through the user's own manager",
                     id);
    }
    Py_XDECREF(other);
    return PyErr_Occurred() ? -1 : 0;
}

int
wsm_target_resolve(WsmManager *self, PyObject *id, WsmTarget *target)
{
    if (!PyUnicode_Check(id)) {
        PyErr_Format(PyExc_TypeError,
                     "a connection id must be a str, not %.100s",
                     Py_TYPE(id)->tp_name);
        return -1;
    }
    target->only = wsm_manager_lookup(self, id);
    if (target->only != NULL) {
        target->manager =
            (WsmManager *)Py_NewRef((PyObject *)target->only->manager);
        return target_is_plain(self, target->only, id);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (self->key == Py_None) {
        target->manager = wsm_manager_route(self, id, false);
    }
    else if (PyUnicode_Compare(self->key, id) == 0) {
        target->manager = (WsmManager *)Py_NewRef((PyObject *)self);
    }
    if (target->manager == NULL && !PyErr_Occurred()) {
        PyErr_Format(self->state->errors.ConnectionNotFound,
                     "the user has no connection %R: it has left, or its id "
                     "is another user's",
                     id);
    }
    return target->manager == NULL ? -1 : 0;
}
