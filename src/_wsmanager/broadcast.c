/* Invariant: a message that cannot be sent reaches nobody; an interrupt that
 * strikes in one user's sockets keeps it from no other user. */
#include "broadcast.h"

#include "compat.h"
#include "methods.h"
#include "registry.h"
#include "trace.h"

/* It is not sent to who has no connection. Of who has just left, true: it is
 * kept like any event; of others their stream says that it is not whole. */
static bool
broadcast_keeps(WsmManager *manager, int64_t now)
{
    if (wsm_manager_is_near(manager, now)) {
        return true;
    }
    if (wsm_manager_skip(manager)) {
        wsm_kept_count(&manager->state->registry->kept, manager, now);
    }
    return false;
}

/* To each user's connections; how many users, or -1 with an exception. */
static long
broadcast_to(PyObject *managers, PyObject *message)
{
    const int64_t now = wsm_now_ns();
    PyObject *fatal = NULL;
    long users = 0;

    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(managers); i++) {
        WsmManager *manager = (WsmManager *)PyList_GET_ITEM(managers, i);
        bool there = wsm_manager_count(manager) > 0;
        if (!there && !broadcast_keeps(manager, now)) {
            continue;
        }
        PyObject *delivery = wsm_emit_message(manager, message, false);
        if (delivery == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
            Py_XDECREF(fatal);
            return -1;
        }
        if (delivery == NULL) {
            Py_XSETREF(fatal, wsm_error_take());
        }
        Py_XDECREF(delivery);
        users += there;
    }
    if (fatal != NULL) {
        wsm_error_restore(fatal);
        return -1;
    }
    return users;
}

/* All of it is one emit to who traces it, not one a user. */
PyObject *
wsm_broadcast(PyObject *module, PyObject *message)
{
    WsmState *state = wsm_state_of(module);
    PyObject *managers = wsm_registry_managers(state->registry);
    PyObject *type = NULL, *root = NULL, *result = NULL;
    WsmTrace trace;

    if (managers != NULL) {
        root = wsm_message_root(state, message, &type);
    }
    if (root != NULL) {
        WsmLetter letter = {.type = type, .root = root};
        wsm_trace_begin(state, "users", &letter, &trace);
        long users = broadcast_to(managers, letter.root);
        result = users < 0 ? NULL : PyLong_FromLong(users);
        wsm_trace_end(&trace, result);
    }
    Py_XDECREF(type);
    Py_XDECREF(root);
    Py_XDECREF(managers);
    return result;
}
