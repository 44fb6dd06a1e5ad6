/* Connections go.
 * Invariant: removing an old connection never removes its successor. */
#include "args.h"
#include "compat.h"
#include "evict.h"
#include "methods.h"
#include "record.h"
#include "registry.h"
#include "results.h"
#include "verdict.h"

/* May a plain id remove this connection, or does it come from the handler
 * of one that this has superseded? */
static int
disconnect_is_due(WsmManager *owner, WsmConnection *connection)
{
    int owed = wsm_manager_settle_removal(owner, connection->id);
    if (owed <= 0) {
        return owed < 0 ? -1 : 1;
    }
    return wsm_websocket_says_closed(owner->state, connection->websocket);
}

static WsmConnection *
disconnect_by_id(WsmManager *self, PyObject *id)
{
    uint64_t generation = wsm_connection_id_generation(self->state, id);
    WsmConnection *connection = wsm_manager_lookup(self, id);

    if (connection == NULL) {
        return NULL;
    }
    int due = generation != 0
                  ? generation == connection->generation
                  : disconnect_is_due(connection->manager, connection);
    if (due <= 0) {
        Py_CLEAR(connection);
    }
    return connection;
}

/* The connection somebody means, by id, record, Connection or socket. */
static WsmConnection *
disconnect_meant(WsmManager *self, PyObject *what)
{
    WsmState *state = self->state;
    PyObject *websocket = NULL;
    WsmConnection *found;

    if (PyUnicode_Check(what)) {
        return disconnect_by_id(self, what);
    }
    if (Py_IS_TYPE(what, state->types.Connection)) {
        return (WsmConnection *)Py_NewRef(what);
    }
    int record = wsm_record_is(state, what);
    if (record < 0 || (record && wsm_record_field(what, state->names.websocket,
                                                  &websocket) < 0)) {
        return NULL;
    }
    found = wsm_registry_by_socket(
        state->registry, record && websocket != NULL ? websocket : what);
    Py_XDECREF(websocket);
    return found;
}

/* Only a connection of this manager, or one it may route to. */
static bool
disconnect_may(WsmManager *self, WsmConnection *connection)
{
    if (connection->manager == self || self->key == Py_None) {
        return true;
    }
    PyErr_SetString(self->state->errors.UserIsolationError,
                    "that connection is another user's");
    return false;
}

WSM_METHOD(remove_connection)
{
    static const char *const names[] = {"connection_id", NULL};
    static const WsmArgs spec = {"remove_connection", names, 1, 1};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmConnection *connection = disconnect_meant(self, out[0]);
    if (connection == NULL) {
        return PyErr_Occurred()
                   ? NULL
                   : wsm_answer_new(self->state, Py_NewRef(Py_False));
    }
    PyObject *answer = NULL;
    if (disconnect_may(self, connection)) {
        bool was = wsm_remove(connection, 0);
        answer = wsm_answer_new(self->state, PyBool_FromLong(was));
    }
    Py_DECREF(connection);
    return answer;
}

/* Remove the target's connections (one socket's only, if given), closing
 * the sockets if code is not 0; how many, as an Answer. Steals target, which
 * is NULL where nobody is, or with an exception. */
static PyObject *
disconnect_remove_all(WsmManager *self, WsmManager *target,
                      PyObject *websocket, int code, PyObject *reason)
{
    if (target == NULL) {
        return PyErr_Occurred()
                   ? NULL
                   : wsm_answer_new(self->state, PyLong_FromLong(0));
    }
    WsmRoster *roster = wsm_manager_roster(target);
    long count = 0;

    for (Py_ssize_t i = 0; roster != NULL && i < roster->count; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        if (websocket != NULL && connection->websocket != websocket) {
            continue;
        }
        if (wsm_remove(connection, code)) {
            count++;
            if (code != 0) {
                wsm_close_socket(connection, code, reason);
            }
        }
    }
    wsm_manager_release(target, roster);
    Py_DECREF(target);
    return wsm_answer_new(self->state, PyLong_FromLong(count));
}

WSM_METHOD(remove_connection_by_user)
{
    static const char *const names[] = {"user_id", NULL};
    static const WsmArgs spec = {"remove_connection_by_user", names, 1, 0};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmManager *target = wsm_manager_route(self, out[0], false);
    return disconnect_remove_all(self, target, NULL, 0, NULL);
}

/* A close code a server may send (RFC 6455 section 7.4), and its reason. */
static int
disconnect_code(PyObject *code, PyObject *reason, int *number)
{
    *number = code == NULL ? 1000 : PyLong_AsInt(code);
    if (*number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*number < 1000 || *number > 4999 ||
        (*number >= 1004 && *number <= 1006) || *number == 1015) {
        PyErr_Format(PyExc_ValueError,
                     "%d is no close code that may be sent (RFC 6455 "
                     "section 7.4)",
                     *number);
        return -1;
    }
    if (reason != NULL && !PyUnicode_Check(reason)) {
        PyErr_SetString(PyExc_TypeError, "reason must be a str");
        return -1;
    }
    return 0;
}

/* The same, closing the sockets as code and reason say. */
static PyObject *
disconnect_close(WsmManager *self, WsmManager *target, PyObject *websocket,
                 PyObject *code, PyObject *reason)
{
    int number = 0;
    PyObject *text = NULL, *answer = NULL;

    if (target != NULL) {
        if (disconnect_code(code, reason, &number) < 0) {
            goto done;
        }
        text = reason == NULL ? PyUnicode_FromString("") : Py_NewRef(reason);
        if (text == NULL) {
            goto done;
        }
    }
    answer = disconnect_remove_all(self, target, websocket, number, text);
    target = NULL;
done:
    Py_XDECREF(target);
    Py_XDECREF(text);
    return answer;
}

WSM_METHOD(disconnect_user)
{
    static const char *const names[] = {"user_id", "websocket", "code",
                                        "reason", NULL};
    static const WsmArgs spec = {"disconnect_user", names, 4, 1};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmManager *target = wsm_manager_route(self, out[0], false);
    return disconnect_close(self, target,
                            out[1] == NULL ? NULL : wsm_arg_or_null(out[1]),
                            out[2], out[3]);
}

WSM_METHOD(close_all_connections)
{
    static const char *const names[] = {"code", "reason", NULL};
    static const WsmArgs spec = {"close_all_connections", names, 2, 0};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    return disconnect_close(self, (WsmManager *)Py_NewRef((PyObject *)self),
                            NULL, out[0], out[1]);
}

PyObject *
wsm_note_code(PyObject *module, PyObject *args)
{
    WsmState *state = wsm_state_of(module);
    PyObject *websocket;
    unsigned short code;

    if (!PyArg_ParseTuple(args, "OH:_closing", &websocket, &code)) {
        return NULL;
    }
    WsmConnection *connection =
        wsm_registry_by_socket(state->registry, websocket);
    if (connection == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (connection != NULL && connection->code == 0) {
        connection->code = code;
    }
    Py_XDECREF(connection);
    Py_RETURN_NONE;
}

PyObject *
wsm_flush_socket(PyObject *module, PyObject *args)
{
    WsmState *state = wsm_state_of(module);
    PyObject *websocket;
    int whole;

    if (!PyArg_ParseTuple(args, "Op:_flush", &websocket, &whole)) {
        return NULL;
    }
    WsmConnection *connection =
        wsm_registry_by_socket(state->registry, websocket);
    if (connection != NULL) {
        state->on_flush((PyObject *)connection, whole != 0);
        Py_DECREF(connection);
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}
