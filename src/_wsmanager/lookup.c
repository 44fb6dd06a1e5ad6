/* Questions about a manager's connections; nothing here changes them, but
 * for the thread a connection shows. */
#include "args.h"
#include "methods.h"
#include "registry.h"
#include "results.h"
#include "verdict.h"
#include "waiters.h"

static const char *const user_names[] = {"user_id", NULL};

PyObject *
wsm_manager_connections(WsmManager *self)
{
    WsmRoster *roster = wsm_manager_roster(self);
    PyObject *dict = PyDict_New();

    for (Py_ssize_t i = 0; dict != NULL && roster != NULL && i < roster->count;
         i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        if (PyDict_SetItem(dict, connection->id, (PyObject *)connection) < 0) {
            Py_CLEAR(dict);
        }
    }
    wsm_manager_release(self, roster);
    return dict;
}

WSM_METHOD(get_connection)
{
    static const char *const names[] = {"connection_id", NULL};
    static const WsmArgs spec = {"get_connection", names, 1, 1};
    PyObject *out[WSM_ARGS_MAX];

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (!PyUnicode_Check(out[0])) {
        Py_RETURN_NONE;
    }
    WsmConnection *found = wsm_manager_lookup(wsm_manager_here(op), out[0]);
    if (found == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return (PyObject *)found;
}

WSM_METHOD(get_user_connections)
{
    static const WsmArgs spec = {"get_user_connections", user_names, 1, 0};
    PyObject *out[WSM_ARGS_MAX];

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmManager *target =
        wsm_manager_route(wsm_manager_here(op), out[0], false);
    if (target == NULL) {
        return PyErr_Occurred() ? NULL : PySet_New(NULL);
    }
    PyObject *dict = wsm_manager_connections(target);
    PyObject *set = dict == NULL ? NULL : PySet_New(dict);
    Py_XDECREF(dict);
    Py_DECREF(target);
    return set;
}

WSM_METHOD(get_connection_id_by_websocket)
{
    static const char *const names[] = {"websocket", NULL};
    static const WsmArgs spec = {"get_connection_id_by_websocket", names, 1,
                                 1};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmConnection *found =
        wsm_registry_by_socket(self->state->registry, out[0]);
    PyObject *id = NULL;
    if (found != NULL && (found->manager == self || self->key == Py_None)) {
        id = wsm_connection_id_new(self->state, found->id, found->generation);
    }
    else if (!PyErr_Occurred()) {
        id = Py_NewRef(Py_None);
    }
    Py_XDECREF(found);
    return id;
}

WSM_METHOD(update_connection_thread)
{
    static const char *const names[] = {"connection_id", "thread_id", NULL};
    static const WsmArgs spec = {"update_connection_thread", names, 2, 2};
    PyObject *out[WSM_ARGS_MAX];

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0 ||
        wsm_arg_str("update_connection_thread", "thread_id", out[1]) < 0) {
        return NULL;
    }
    if (!PyUnicode_Check(out[0])) {
        Py_RETURN_FALSE;
    }
    WsmConnection *found = wsm_manager_lookup(wsm_manager_here(op), out[0]);
    if (found == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    PyObject *thread = Py_XNewRef(wsm_arg_or_null(out[1]));
    wsm_lock(found->lock);
    PyObject *old = found->thread_id;
    found->thread_id = thread;
    wsm_unlock(found->lock);
    Py_XDECREF(old);
    Py_DECREF(found);
    Py_RETURN_TRUE;
}

static bool
lookup_is_active(WsmConnection *connection)
{
    return connection->open && !wsm_websocket_says_closed(
                                   connection->state, connection->websocket);
}

static bool
lookup_any_active(WsmManager *manager)
{
    bool active = false;
    WsmRoster *roster = wsm_manager_roster(manager);

    for (Py_ssize_t i = 0; roster != NULL && !active && i < roster->count;
         i++) {
        active = lookup_is_active((WsmConnection *)roster->items[i]);
    }
    wsm_manager_release(manager, roster);
    return active;
}

WSM_METHOD(is_connection_active)
{
    static const WsmArgs spec = {"is_connection_active", user_names, 1, 0};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);
    bool active = false;

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (out[0] != NULL && PyUnicode_Check(out[0])) {
        WsmConnection *found = wsm_manager_lookup(self, out[0]);
        if (found != NULL) {
            active = lookup_is_active(found);
            Py_DECREF(found);
            return PyBool_FromLong(active);
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
        if (wsm_connection_id_generation(self->state, out[0]) != 0) {
            Py_RETURN_FALSE; /* a connection's id, and it has left */
        }
    }
    WsmManager *target = wsm_manager_route(self, out[0], false);
    if (target == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    active = lookup_any_active(target);
    Py_DECREF(target);
    return PyBool_FromLong(active);
}

static PyObject *
lookup_row(WsmConnection *connection)
{
    WsmManager *manager = connection->manager;
    PyObject *thread;

    wsm_lock(&manager->lock);
    unsigned events = connection->outbox.count;
    Py_ssize_t bytes = (Py_ssize_t)connection->outbox_bytes;
    bool blocked = connection->blocked;
    bool busy = connection->busy;
    thread = Py_XNewRef(connection->thread_id);
    wsm_unlock(&manager->lock);
    if (thread == NULL) {
        thread = Py_NewRef(Py_None);
    }
    return Py_BuildValue(
        "{s:O,s:N,s:s,s:O,s:I,s:n,s:O,s:O,s:I,s:d}", "connection_id",
        connection->id, "thread_id", thread, "channel",
        wsm_connection_channel_name(connection), "active",
        lookup_is_active(connection) ? Py_True : Py_False, "queued_events",
        events, "queued_bytes", bytes, "blocked", blocked ? Py_True : Py_False,
        "writing", busy ? Py_True : Py_False, "errors",
        (unsigned)connection->errors, "connected_at",
        connection->connected_at);
}

/* Rows of all connections; how many of them are active. */
static PyObject *
lookup_rows(WsmManager *target, Py_ssize_t *active)
{
    PyObject *rows = PyList_New(0);
    WsmRoster *roster = wsm_manager_roster(target);

    *active = 0;
    for (Py_ssize_t i = 0; rows != NULL && roster != NULL && i < roster->count;
         i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        PyObject *row = lookup_row(connection);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
        *active += lookup_is_active(connection);
    }
    wsm_manager_release(target, roster);
    return rows;
}

WSM_METHOD(get_connection_health)
{
    static const WsmArgs spec = {"get_connection_health", user_names, 1, 0};
    PyObject *out[WSM_ARGS_MAX], *rows;
    WsmManager *self = wsm_manager_here(op), *target = NULL;
    Py_ssize_t active = 0;

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (out[0] != NULL && PyUnicode_Check(out[0])) {
        WsmConnection *found = wsm_manager_lookup(self, out[0]);
        if (found != NULL) {
            PyObject *row = lookup_row(found);
            Py_DECREF(found);
            return row;
        }
    }
    if (!PyErr_Occurred()) {
        target = wsm_manager_route(self, out[0], false);
    }
    if (target == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        rows = PyList_New(0);
    }
    else {
        rows = lookup_rows(target, &active);
        Py_DECREF(target);
    }
    if (rows == NULL) {
        return NULL;
    }
    Py_ssize_t total = PyList_GET_SIZE(rows);
    return Py_BuildValue("{s:n,s:n,s:O,s:O,s:N}", "total_connections", total,
                         "active_connections", active, "healthy",
                         active == total ? Py_True : Py_False,
                         "has_active_connections",
                         active > 0 ? Py_True : Py_False, "connections", rows);
}

static PyObject *
lookup_left(PyObject *wait, PyObject *future)
{
    WsmManager *self = (WsmManager *)PyTuple_GET_ITEM(wait, 0);
    return wsm_waiters_left(self->state, &self->lock, &self->waiters, wait,
                            future);
}

WSM_METHOD(wait_for_connection)
{
    static const char *const names[] = {"timeout", NULL};
    static const WsmArgs spec = {"wait_for_connection", names, 1, 0};
    static PyMethodDef left = {"left", lookup_left, METH_O, NULL};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (wsm_manager_count(self) > 0) {
        return wsm_waiters_done(self->state, Py_True);
    }
    const WsmWaiters where = {op, &self->waiters, &self->lock, &left};
    PyObject *future = wsm_waiters_add(self->state, &where, out[0]);
    if (future != NULL && wsm_manager_count(self) > 0) {
        wsm_waiters_wake(self->state,
                         wsm_waiters_take(&self->lock, &self->waiters),
                         Py_True); /* it came between the two looks */
    }
    return future;
}

WSM_METHOD(get_stats)
{
    static const char *const names[] = {NULL};
    static const WsmArgs spec = {"get_stats", names, 0, 0};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);
    Py_ssize_t events = 0, bytes = 0, direct = 0, count = 0;

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmRoster *roster = wsm_manager_roster(self);
    wsm_lock(&self->lock);
    for (Py_ssize_t i = 0; roster != NULL && i < roster->count; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        count++;
        events += connection->outbox.count;
        bytes += (Py_ssize_t)connection->outbox_bytes;
        direct += connection->channel != NULL;
    }
    uint64_t emitted = self->emitted;
    unsigned kept = self->journal.ring.count, unacked = self->acks.ring.count;
    Py_ssize_t kept_bytes = (Py_ssize_t)self->journal.bytes;
    wsm_unlock(&self->lock);
    wsm_manager_release(self, roster);
    return Py_BuildValue(
        "{s:n,s:n,s:n,s:n,s:K,s:n,s:n,s:I,s:n,s:I,s:O,s:O}",
        "total_connections", count, "active_connections", count,
        "direct_connections", direct, "generic_connections", count - direct,
        "events_emitted", (unsigned long long)emitted, "queued_events", events,
        "queued_bytes", bytes, "journal_events", kept, "journal_bytes",
        kept_bytes, "unacknowledged_events", unacked, "service_available",
        self->service_available ? Py_True : Py_False, "mode", self->mode);
}
