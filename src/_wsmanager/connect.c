/* Connections come.
 * Invariant: a socket belongs to one user, and to one connection. */
#include "args.h"
#include "compat.h"
#include "counters.h"
#include "evict.h"
#include "identity.h"
#include "methods.h"
#include "record.h"
#include "registry.h"
#include "results.h"
#include "stray.h"
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

static PyObject *
connect_loop(WsmState *state, PyObject *given)
{
    PyObject *loop;
    if (given != NULL &&
        PyObject_HasAttr(given, state->names.call_soon_threadsafe)) {
        return given;
    }
    if (given != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "add_connection(): loop must be an event loop, not "
                     "%.100s",
                     Py_TYPE(given)->tp_name);
        return NULL;
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
    PyOS_snprintf(
        text, sizeof(text), "%08lx-%llu",
        (unsigned long)(state->epoch_seed[1] >> 32),
        (unsigned long long)wsm_shared_add(&state->next_connection, 1));
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
    if (!known->open) {
        Py_DECREF(known); /* just leaving, in another thread */
        return 0;
    }
    PyObject *closed =
        PyObject_CallMethodNoArgs(known->loop, state->names.is_closed);
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

    if (old == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int result = wsm_manager_owe_removal(self, id);
    if (result == 0) {
        wsm_remove(old, 0);
    }
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
            connection->loop, self->state->names.is_closed);
        if (closed == NULL) {
            wsm_unraisable(connection->loop);
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
connect_attach(WsmManager *self, WsmConnection *connection, WsmResume *resume)
{
    Py_ssize_t most = self->state->settings.max_connections_per_user;
    int attached = wsm_manager_attach(self, connection, most, resume);

    if (attached == 0 && connect_prune(self)) {
        attached = wsm_manager_attach(self, connection, most, resume);
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

static void
connect_refuse_channel(void)
{
    PyErr_SetString(PyExc_ValueError,
                    "this channel serves another connection");
}

/* Into the tables, or out of them again. */
static int
connect_enter(WsmManager *self, WsmConnection *connection, WsmResume *resume)
{
    if (connect_attach(self, connection, resume) < 0) {
        return -1;
    }
    if (wsm_registry_enter(self->state->registry, connection) < 0) {
        PyObject *saved = wsm_error_take();
        WsmRefList dropped;
        Py_ssize_t left;
        wsm_reflist_init(&dropped);
        if (wsm_manager_detach(self, connection, &dropped, &left) < 0) {
            wsm_unraisable((PyObject *)connection);
        }
        wsm_settle_pairs(&dropped, WSM_FAILED, "removed");
        wsm_error_restore(saved);
        return -1;
    }
    return 0;
}

static int
connect_register(WsmManager *self, WsmConnection *connection,
                 WsmResume *resume)
{
    WsmChannel *channel = connection->channel;

    if (channel != NULL &&
        !wsm_channel_bind(channel, (PyObject *)connection)) {
        connect_refuse_channel();
        return -1;
    }
    if (connect_enter(self, connection, resume) < 0) {
        if (channel != NULL) {
            wsm_channel_unbind(channel);
        }
        return -1;
    }
    if (channel != NULL) {
        wsm_channel_user_timeout(channel,
                                 self->state->settings.tcp_user_timeout);
    }
    if (wsm_stray_watch(connection->mailbox) < 0) {
        PyObject *saved = wsm_error_take();
        wsm_remove(connection, 0);
        wsm_error_restore(saved);
        return -1;
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
    PyObject *other = wsm_channel_connection((WsmChannel *)found);
    if (other != NULL) {
        connect_refuse_channel();
        Py_DECREF(other);
        Py_DECREF(found);
        return -1;
    }
    *channel = (WsmChannel *)found;
    return 0;
}

static WsmConnection *
connect_make(WsmManager *self, const WsmArrival *arrival, WsmResume *resume)
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
        WsmHome home = {self, mailbox, &self->lock, loop};
        connection = wsm_connection_new(state, &home, arrival->websocket, id,
                                        arrival->thread_id, channel);
    }
    if (connection != NULL) {
        connection->metadata = Py_XNewRef(arrival->metadata);
        connection->routed = arrival->routed;
        connection->busy = resume != NULL; /* until it was greeted */
        if (connect_supersede(self, id) < 0 ||
            connect_register(self, connection, resume) < 0) {
            Py_CLEAR(connection);
        }
    }
    Py_XDECREF(mailbox);
    Py_XDECREF(channel);
    Py_XDECREF(id);
    return connection;
}

/* What a client that comes back is told: an event outside the numbering. */
static WsmEvent *
connect_greeting(WsmState *state, const WsmResume *resume)
{
    char position[WSM_POSITION_MAX], reason[32], text[256];
    size_t size = wsm_position_write(&resume->position, position);

    PyOS_snprintf(reason, sizeof(reason),
                  resume->reason == NULL ? "null" : "\"%s\"", resume->reason);
    PyOS_snprintf(text, sizeof(text),
                  "{\"type\":\"resumed\",\"payload\":{\"recovered\":%s,"
                  "\"replayed\":%u,\"position\":\"%.*s\","
                  "\"reason\":%s}}",
                  resume->reason == NULL ? "true" : "false",
                  (unsigned)resume->replayed, (int)size, position, reason);
    PyObject *json = PyBytes_FromString(text);
    if (json == NULL) {
        return NULL;
    }
    WsmEvent *event = wsm_event_new(state, json);
    Py_DECREF(json);
    if (event != NULL) {
        event->critical = true;
        wsm_event_stamp_plain(event);
        wsm_event_count(event, WSM_QUEUED, 1);
    }
    return event;
}

/* Let its writer at it. */
static void
connect_start(WsmConnection *connection)
{
    WsmPost post = {NULL, NULL};
    PyObject *loop;

    if (wsm_running_loop(connection->state, &loop) < 0) {
        wsm_unraisable((PyObject *)connection);
        loop = NULL;
    }
    wsm_lock(connection->lock);
    connection->busy = false;
    connection->waking = connection->open;
    bool open = connection->open;
    wsm_unlock(connection->lock);
    if (open) {
        wsm_post_add(&post,
                     (WsmConnection *)Py_NewRef((PyObject *)connection));
        if (!wsm_mailbox_post(connection->mailbox, &post,
                              loop == connection->loop)) {
            wsm_evict_post(&post);
        }
    }
}

/* The greeting goes before what was missed, and that before what is new. */
static int
connect_resumed(WsmConnection *connection, const WsmResume *resume)
{
    WsmTotals *totals = wsm_totals(connection->state);
    WsmEvent *event = connect_greeting(connection->state, resume);
    bool first = false;

    if (event == NULL) {
        return -1;
    }
    wsm_lock(connection->lock);
    if (connection->open) {
        first = wsm_connection_unpop_locked(connection, event) == 0;
    }
    bool lost = connection->open && !first;
    wsm_unlock(connection->lock);
    if (!first) {
        Py_DECREF(event);
    }
    if (lost) {
        PyErr_NoMemory();
        return -1;
    }
    wsm_add(&totals->resumed, resume->reason == NULL);
    wsm_add(&totals->not_resumed, resume->reason != NULL && !resume->first);
    wsm_add(&totals->replayed, resume->replayed);
    connect_start(connection);
    return 0;
}

/* How far the client says that it got. */
static int
connect_position(PyObject *text, WsmResume *resume)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);

    if (data == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeError)) {
            return -1;
        }
        PyErr_Clear(); /* lone surrogates: no position of ours */
        return 0;
    }
    resume->first = size == 0;
    resume->understood = wsm_position_parse(data, (size_t)size, &resume->from);
    return 0;
}

static PyObject *
connect_add(WsmManager *self, const WsmArrival *arrival)
{
    WsmState *state = self->state;
    WsmResume resume = {.understood = false};
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
    if (arrival->id != NULL && PyUnicode_GET_LENGTH(arrival->id) == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "connection_id is empty: leave it out, and one is "
                        "made");
        return NULL;
    }
    int known = connect_known(self, arrival, &id);
    if (known != 0) {
        return known < 0 ? NULL : id;
    }
    if (state->draining) {
        PyErr_SetString(state->errors.ServerDraining,
                        "this process is draining and takes no connection "
                        "any more: close the socket with 1012, and the "
                        "client finds another");
        return NULL;
    }
    if (arrival->resume != NULL &&
        connect_position(arrival->resume, &resume) < 0) {
        return NULL;
    }
    WsmConnection *connection =
        connect_make(self, arrival, arrival->resume == NULL ? NULL : &resume);
    if (connection == NULL) {
        return NULL;
    }
    id = wsm_connection_id_new(state, connection->id, connection->generation);
    if (id != NULL && arrival->resume != NULL &&
        connect_resumed(connection, &resume) < 0) {
        Py_CLEAR(id);
    }
    if (id == NULL) {
        PyObject *saved = wsm_error_take();
        wsm_remove(connection, 0);
        wsm_error_restore(saved);
    }
    else {
        wsm_waiters_wake(state, wsm_waiters_take(&self->lock, &self->waiters),
                         Py_True);
    }
    Py_DECREF(connection);
    return id;
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

    if (wsm_record_field(record, names->websocket, &websocket) < 0 ||
        wsm_record_field(record, names->user_id, &user) < 0 ||
        wsm_record_field(record, names->connection_id, &id) < 0 ||
        wsm_record_field(record, names->thread_id, &thread) < 0 ||
        wsm_record_field(record, names->metadata, &metadata) < 0) {
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
    int record = wsm_record_is(self->state, arrival->websocket);
    if (record < 0) {
        return NULL;
    }
    return record ? connect_add_record(self, arrival)
                  : connect_add(self, arrival);
}

WSM_METHOD(add_connection)
{
    static const char *const names[] = {
        "websocket", "connection_id", "thread_id", "resume",
        "channel",   "loop",          NULL};
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
