/* Connections come and go.
 * Invariant: a socket belongs to one user; removing an old connection never
 * removes its successor. */
#include "args.h"
#include "compat.h"
#include "evict.h"
#include "identity.h"
#include "methods.h"
#include "registry.h"
#include "results.h"
#include "verdict.h"
#include "waiters.h"

/* What is to be added, all borrowed; NULL where not given. */
typedef struct {
    PyObject *websocket;
    PyObject *id;
    PyObject *thread_id;
    PyObject *resume;
    PyObject *channel;
    PyObject *loop;
    PyObject *metadata;
    bool routed;
} WsmArrival;

/* -- WebSocketConnection records ----------------------------------------- */

/* A record names its websocket in its own fields; a socket (or a mock that
 * has every attribute) does not. */
static int
connect_is_record(WsmState *state, PyObject *op)
{
    PyObject *fields = NULL;
    int is;

    if (state->hooks.record_type != NULL) {
        is = PyObject_IsInstance(op, state->hooks.record_type);
        if (is != 0) {
            return is;
        }
    }
    if (PyObject_GetOptionalAttr((PyObject *)Py_TYPE(op),
                                 state->names.__dataclass_fields__,
                                 &fields) < 0) {
        return -1;
    }
    if (fields == NULL && PyObject_GetOptionalAttr(
                              op, state->names.__dict__, &fields) < 0) {
        return -1;
    }
    if (fields == NULL || !PyDict_Check(fields)) {
        Py_XDECREF(fields);
        return 0;
    }
    is = PyDict_Contains(fields, state->names.websocket);
    if (is > 0) {
        is = PyDict_Contains(fields, state->names.user_id) ||
             PyDict_Contains(fields, state->names.connection_id);
    }
    Py_DECREF(fields);
    return is;
}

/* -- adding -------------------------------------------------------------- */

static PyObject *
connect_loop(WsmState *state, PyObject *given)
{
    PyObject *loop;
    if (given != NULL) {
        return given;
    }
    int found = wsm_running_loop(state, &loop);
    if (found == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "add_connection() binds the connection to the "
                        "running event loop, and none is running in this "
                        "thread: call it in the handler that accepted the "
                        "socket, or pass loop=");
    }
    return loop;
}

static PyObject *
connect_new_id(WsmState *state)
{
    char text[48];
    PyOS_snprintf(text, sizeof(text), "%08lx-%llu",
                  (unsigned long)(state->epoch_seed[1] >> 32),
                  (unsigned long long)++state->next_connection);
    return PyUnicode_FromString(text);
}

/* The socket is registered already: the same again is fine, another user's
 * is not, unless that connection is over. 1: *id is the answer. */
static int
connect_known(WsmManager *self, const WsmArrival *arrival, PyObject **id)
{
    WsmState *state = self->state;
    int result = 0;
    WsmConnection *known =
        wsm_registry_by_socket(state->registry, arrival->websocket);

    if (known == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *closed =
        PyObject_CallMethodNoArgs(known->mailbox->loop,
                                  state->names.is_closed);
    if (closed == NULL) {
        result = -1;
    }
    else if (closed == Py_True) {
        wsm_evict(known, "loop closed");
    }
    else if (known->manager != self) {
        PyErr_SetString(state->errors.UserIsolationError,
                        "this socket is connected for another user: a "
                        "socket shows one user's events only");
        result = -1;
    }
    else if (arrival->id == NULL ||
             PyUnicode_Compare(arrival->id, known->id) == 0) {
        *id = wsm_connection_id_new(state, known->id, known->generation);
        result = *id == NULL ? -1 : 1;
    }
    else {
        PyErr_Format(PyExc_ValueError,
                     "this socket is connected already, as %R: remove that "
                     "connection first",
                     known->id);
        result = -1;
    }
    Py_XDECREF(closed);
    Py_DECREF(known);
    return result;
}

/* The id comes again with another socket: that one takes over, and the
 * removal that its predecessor's handler still owes must not hit it. */
static int
connect_supersede(WsmManager *self, PyObject *id)
{
    WsmConnection *old = wsm_manager_find(self, id);
    int result = 0;

    if (old == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (self->superseded == NULL) {
        self->superseded = PyDict_New();
    }
    PyObject *due = NULL, *more = NULL;
    if (self->superseded == NULL ||
        PyDict_GetItemRef(self->superseded, id, &due) < 0) {
        result = -1;
    }
    else {
        more = PyLong_FromLong(1 + (due == NULL ? 0 : PyLong_AsLong(due)));
        if (more == NULL ||
            PyDict_SetItem(self->superseded, id, more) < 0) {
            result = -1;
        }
    }
    if (result == 0) {
        wsm_remove(old);
    }
    Py_XDECREF(more);
    Py_XDECREF(due);
    Py_DECREF(old);
    return result;
}

/* Make room by letting go of connections that are over already. */
static bool
connect_prune(WsmManager *self)
{
    bool freed = false;
    WsmRoster *roster = wsm_manager_roster(self);

    for (Py_ssize_t i = 0; roster != NULL && i < roster->count; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        PyObject *closed = PyObject_CallMethodNoArgs(
            connection->mailbox->loop, self->state->names.is_closed);
        if (closed == NULL) {
            PyErr_WriteUnraisable(connection->mailbox->loop);
        }
        if (closed == Py_True ||
            wsm_websocket_says_closed(self->state, connection->websocket)) {
            freed = wsm_evict(connection, "gone") || freed;
        }
        Py_XDECREF(closed);
    }
    wsm_manager_release(self, roster);
    return freed;
}

static int
connect_attach(WsmManager *self, WsmConnection *connection)
{
    Py_ssize_t most = self->state->settings.max_connections_per_user;
    int attached = wsm_manager_attach(self, connection, most);

    if (attached == 0 && connect_prune(self)) {
        attached = wsm_manager_attach(self, connection, most);
    }
    if (attached == 0) {
        PyErr_Format(self->state->errors.ConnectionLimitError,
                     "the user has %zd connections, "
                     "max_connections_per_user is %zd: close one, or raise "
                     "it with configure()",
                     wsm_manager_count(self), most);
    }
    return attached > 0 ? 0 : -1;
}

/* Into the tables, or out of everything again. */
static int
connect_register(WsmManager *self, WsmConnection *connection, bool routed)
{
    WsmState *state = self->state;

    if (connect_attach(self, connection) < 0) {
        return -1;
    }
    connection->routed = routed;
    if ((routed && PyDict_SetItem(state->registry->routed, connection->id,
                                  self->key) < 0) ||
        wsm_registry_enter(state->registry, connection) < 0) {
        PyObject *saved = wsm_error_take();
        WsmRefList dropped;
        Py_ssize_t left;
        wsm_reflist_init(&dropped);
        if (wsm_manager_detach(self, connection, &dropped, &left) < 0) {
            PyErr_WriteUnraisable((PyObject *)connection);
        }
        wsm_settle_pairs(&dropped, WSM_FAILED);
        wsm_error_restore(saved);
        return -1;
    }
    if (connection->channel != NULL) {
        Py_XSETREF(connection->channel->connection,
                   Py_NewRef((PyObject *)connection));
        wsm_channel_user_timeout(connection->channel,
                                 state->settings.tcp_user_timeout);
    }
    return 0;
}

/* The channel as given, else as the adapters find one; *channel owned. */
static int
connect_channel(WsmState *state, const WsmArrival *arrival,
                WsmChannel **channel)
{
    PyObject *found = NULL;

    *channel = NULL;
    if (arrival->channel != NULL) {
        found = Py_NewRef(arrival->channel);
    }
    else if (state->hooks.resolve != NULL) {
        found = PyObject_CallOneArg(state->hooks.resolve, arrival->websocket);
        if (found == NULL) {
            return -1;
        }
    }
    if (found == NULL || found == Py_None) {
        Py_XDECREF(found);
        return 0;
    }
    if (!Py_IS_TYPE(found, state->types.Channel)) {
        PyErr_Format(PyExc_TypeError, "channel must be a Channel, not %.100s",
                     Py_TYPE(found)->tp_name);
        Py_DECREF(found);
        return -1;
    }
    *channel = (WsmChannel *)found;
    return 0;
}

static WsmConnection *
connect_make(WsmManager *self, const WsmArrival *arrival)
{
    WsmState *state = self->state;
    WsmConnection *connection = NULL;
    WsmChannel *channel = NULL;
    WsmMailbox *mailbox = NULL;
    PyObject *id = NULL;
    PyObject *loop = connect_loop(state, arrival->loop);

    if (loop == NULL || connect_channel(state, arrival, &channel) < 0) {
        return NULL;
    }
    id = arrival->id == NULL ? connect_new_id(state)
                             : PyUnicode_FromObject(arrival->id);
    if (id != NULL) {
        mailbox = wsm_mailbox_of(state, state->registry->mailboxes, loop);
    }
    if (mailbox != NULL) {
        connection =
            wsm_connection_new(self, mailbox, arrival->websocket, id,
                               arrival->thread_id, channel);
    }
    if (connection != NULL) {
        connection->metadata = Py_XNewRef(arrival->metadata);
        if (connect_supersede(self, id) < 0 ||
            connect_register(self, connection, arrival->routed) < 0) {
            Py_CLEAR(connection);
        }
    }
    Py_XDECREF(mailbox);
    Py_XDECREF(channel);
    Py_XDECREF(id);
    return connection;
}

/* A client that comes back is told what it can count on. Nothing older is
 * kept here, so it never is "recovered". */
static int
connect_resumed(WsmConnection *connection)
{
    PyObject *message = Py_BuildValue("{s:s,s:{s:O}}", "type", "resumed",
                                      "payload", "recovered", Py_False);
    if (message == NULL) {
        return -1;
    }
    PyObject *delivery = wsm_emit_only(connection, message);
    Py_DECREF(message);
    Py_XDECREF(delivery);
    return delivery == NULL ? -1 : 0;
}

static PyObject *
connect_add(WsmManager *self, const WsmArrival *arrival)
{
    WsmState *state = self->state;
    PyObject *id = NULL;

    if (arrival->websocket == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "websocket is None: an accepted socket is expected");
        return NULL;
    }
    if (wsm_arg_str("add_connection", "connection_id", arrival->id) < 0 ||
        wsm_arg_str("add_connection", "thread_id", arrival->thread_id) < 0 ||
        wsm_arg_str("add_connection", "resume", arrival->resume) < 0) {
        return NULL;
    }
    int known = connect_known(self, arrival, &id);
    if (known != 0) {
        return known < 0 ? NULL : id;
    }
    WsmConnection *connection = connect_make(self, arrival);
    if (connection == NULL) {
        return NULL;
    }
    id = wsm_connection_id_new(state, connection->id, connection->generation);
    if (arrival->resume != NULL && connect_resumed(connection) < 0) {
        Py_CLEAR(id);
    }
    if (id == NULL) {
        PyObject *saved = wsm_error_take();
        wsm_remove(connection);
        wsm_error_restore(saved);
    }
    else {
        PyObject *waiters = self->waiters;
        self->waiters = NULL;
        wsm_waiters_wake(state, waiters, Py_True);
    }
    Py_DECREF(connection);
    return id;
}

/* A field of a record: *value owned, NULL where absent or None. */
static int
connect_field(PyObject *record, PyObject *name, PyObject **value)
{
    if (PyObject_GetOptionalAttr(record, name, value) < 0) {
        return -1;
    }
    if (*value == Py_None) {
        Py_CLEAR(*value);
    }
    return 0;
}

/* Unpack a WebSocketConnection; what the call itself says goes first. */
static PyObject *
connect_add_record(WsmManager *self, WsmArrival *arrival)
{
    const WsmNames *names = &self->state->names;
    PyObject *record = arrival->websocket, *result = NULL;
    PyObject *websocket = NULL, *user = NULL, *id = NULL, *thread = NULL;
    PyObject *metadata = NULL;
    WsmManager *target = NULL;

    if (connect_field(record, names->websocket, &websocket) < 0 ||
        connect_field(record, names->user_id, &user) < 0 ||
        connect_field(record, names->connection_id, &id) < 0 ||
        connect_field(record, names->thread_id, &thread) < 0 ||
        connect_field(record, names->metadata, &metadata) < 0) {
        goto done;
    }
    target = wsm_manager_route(self, user, true);
    if (target == NULL) {
        goto done;
    }
    arrival->websocket = websocket;
    arrival->metadata = metadata;
    arrival->id = arrival->id == NULL ? id : arrival->id;
    arrival->thread_id =
        arrival->thread_id == NULL ? thread : arrival->thread_id;
    arrival->routed = target != self;
    result = connect_add(target, arrival);
done:
    Py_XDECREF(target);
    Py_XDECREF(metadata);
    Py_XDECREF(thread);
    Py_XDECREF(id);
    Py_XDECREF(user);
    Py_XDECREF(websocket);
    return result;
}

static PyObject *
connect_add_any(WsmManager *self, WsmArrival *arrival)
{
    if (arrival->websocket == NULL) {
        return connect_add(self, arrival);
    }
    int record = connect_is_record(self->state, arrival->websocket);
    if (record < 0) {
        return NULL;
    }
    return record ? connect_add_record(self, arrival)
                  : connect_add(self, arrival);
}

WSM_METHOD(add_connection)
{
    static const char *const names[] = {"websocket", "connection_id",
                                        "thread_id", "resume", "channel",
                                        "loop", NULL};
    static const WsmArgs spec = {"add_connection", names, 6, 1};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmArrival arrival = {.websocket = wsm_arg_or_null(out[0]),
                          .id = wsm_arg_or_null(out[1]),
                          .thread_id = wsm_arg_or_null(out[2]),
                          .resume = wsm_arg_or_null(out[3]),
                          .channel = wsm_arg_or_null(out[4]),
                          .loop = wsm_arg_or_null(out[5])};
    return connect_add_any(self, &arrival);
}

WSM_METHOD(connect_user)
{
    static const char *const names[] = {"user_id", "websocket",
                                        "connection_id", "thread_id", NULL};
    static const WsmArgs spec = {"connect_user", names, 4, 2};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmManager *target = wsm_manager_route(self, out[0], true);
    if (target == NULL) {
        return NULL;
    }
    WsmArrival arrival = {.websocket = wsm_arg_or_null(out[1]),
                          .id = wsm_arg_or_null(out[2]),
                          .thread_id = wsm_arg_or_null(out[3]),
                          .routed = target != self};
    PyObject *id = connect_add_any(target, &arrival);
    Py_DECREF(target);
    return id;
}

/* -- removing ------------------------------------------------------------ */

/* May a plain id remove this connection, or does it come from the handler
 * of one that this has superseded? */
static int
connect_is_due(WsmManager *owner, WsmConnection *connection)
{
    PyObject *due = NULL;

    if (owner->superseded == NULL ||
        PyDict_GetItemRef(owner->superseded, connection->id, &due) <= 0) {
        return PyErr_Occurred() ? -1 : 1;
    }
    long left = PyLong_AsLong(due) - 1;
    Py_DECREF(due);
    int result;
    if (left > 0) {
        PyObject *less = PyLong_FromLong(left);
        result = less == NULL
                     ? -1
                     : PyDict_SetItem(owner->superseded, connection->id,
                                      less);
        Py_XDECREF(less);
    }
    else {
        result = PyDict_DelItem(owner->superseded, connection->id);
    }
    if (result < 0) {
        return -1;
    }
    return wsm_websocket_says_closed(owner->state, connection->websocket);
}

static WsmConnection *
connect_by_id(WsmManager *self, PyObject *id)
{
    uint64_t generation = wsm_connection_id_generation(self->state, id);
    WsmConnection *connection = wsm_manager_lookup(self, id);

    if (connection == NULL) {
        return NULL;
    }
    int due = generation != 0
                  ? generation == connection->generation
                  : connect_is_due(connection->manager, connection);
    if (due <= 0) {
        Py_CLEAR(connection);
    }
    return connection;
}

/* The connection somebody means, by id, record, Connection or socket. */
static WsmConnection *
connect_meant(WsmManager *self, PyObject *what)
{
    WsmState *state = self->state;
    PyObject *websocket = NULL;
    WsmConnection *found;

    if (PyUnicode_Check(what)) {
        return connect_by_id(self, what);
    }
    if (Py_IS_TYPE(what, state->types.Connection)) {
        return (WsmConnection *)Py_NewRef(what);
    }
    int record = connect_is_record(state, what);
    if (record < 0 ||
        (record &&
         connect_field(what, state->names.websocket, &websocket) < 0)) {
        return NULL;
    }
    found = wsm_registry_by_socket(state->registry,
                                   record && websocket != NULL ? websocket
                                                               : what);
    Py_XDECREF(websocket);
    return found;
}

/* Only a connection of this manager, or one it may route to. */
static bool
connect_may(WsmManager *self, WsmConnection *connection)
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
    WsmConnection *connection = connect_meant(self, out[0]);
    if (connection == NULL) {
        return PyErr_Occurred()
                   ? NULL
                   : wsm_answer_new(self->state, Py_NewRef(Py_False));
    }
    PyObject *answer = NULL;
    if (connect_may(self, connection)) {
        bool was = wsm_remove(connection);
        answer = wsm_answer_new(self->state, PyBool_FromLong(was));
    }
    Py_DECREF(connection);
    return answer;
}

/* Remove the manager's connections (one socket's only, if given), closing
 * the sockets if code is not 0; how many, as an Answer. */
static PyObject *
connect_remove_all(WsmManager *target, PyObject *websocket, int code,
                   PyObject *reason)
{
    WsmRoster *roster = wsm_manager_roster(target);
    long count = 0;

    for (Py_ssize_t i = 0; roster != NULL && i < roster->count; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        if (websocket != NULL && connection->websocket != websocket) {
            continue;
        }
        if (wsm_remove(connection)) {
            count++;
            if (code != 0) {
                wsm_close_socket(connection, code, reason);
            }
        }
    }
    wsm_manager_release(target, roster);
    return wsm_answer_new(target->state, PyLong_FromLong(count));
}

WSM_METHOD(remove_connection_by_user)
{
    static const char *const names[] = {"user_id", NULL};
    static const WsmArgs spec = {"remove_connection_by_user", names, 1, 0};
    PyObject *out[WSM_ARGS_MAX], *answer = NULL;
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmManager *target = wsm_manager_route(self, out[0], false);
    if (target != NULL) {
        answer = connect_remove_all(target, NULL, 0, NULL);
        Py_DECREF(target);
    }
    else if (!PyErr_Occurred()) {
        answer = wsm_answer_new(self->state, PyLong_FromLong(0));
    }
    return answer;
}

/* A close code a server may send (RFC 6455 section 7.4), and its reason. */
static int
connect_code(PyObject *code, PyObject *reason, int *number)
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

static PyObject *
connect_close(WsmManager *target, PyObject *websocket, PyObject *code,
              PyObject *reason)
{
    int number;
    if (connect_code(code, reason, &number) < 0) {
        return NULL;
    }
    PyObject *text =
        reason == NULL ? PyUnicode_FromString("") : Py_NewRef(reason);
    if (text == NULL) {
        return NULL;
    }
    PyObject *answer = connect_remove_all(target, websocket, number, text);
    Py_DECREF(text);
    return answer;
}

WSM_METHOD(disconnect_user)
{
    static const char *const names[] = {"user_id", "websocket", "code",
                                        "reason", NULL};
    static const WsmArgs spec = {"disconnect_user", names, 4, 1};
    PyObject *out[WSM_ARGS_MAX], *answer = NULL;
    WsmManager *self = wsm_manager_here(op);

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    WsmManager *target = wsm_manager_route(self, out[0], false);
    if (target != NULL) {
        answer = connect_close(target,
                               out[1] == NULL ? NULL : wsm_arg_or_null(out[1]),
                               out[2], out[3]);
        Py_DECREF(target);
    }
    else if (!PyErr_Occurred()) {
        answer = wsm_answer_new(self->state, PyLong_FromLong(0));
    }
    return answer;
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
    return connect_close(self, NULL, out[0], out[1]);
}
