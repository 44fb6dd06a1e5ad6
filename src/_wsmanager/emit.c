/* Events and messages of a manager, in every shape they are called with.
 * Invariant: an event is encoded before anything of it is sent, so what
 * cannot be written is refused with nobody having got a part. */
#include "args.h"
#include "compat.h"
#include "envelope.h"
#include "fanout.h"
#include "identity.h"
#include "methods.h"
#include "registry.h"

/* Where an event goes. */
typedef struct {
    WsmManager *manager; /* owned */
    WsmConnection *only; /* owned or NULL */
    const char *function; /* the call, for its errors */
    PyObject *thread_id; /* borrowed or NULL: that thread's connections */
    bool critical;
    bool detail;
} WsmTarget;

static void
target_drop(WsmTarget *target)
{
    Py_CLEAR(target->manager);
    Py_CLEAR(target->only);
}

/* The events a page cannot do without (see the package's AGENT_EVENTS). */
static bool
emit_is_critical(PyObject *type)
{
    static const char *const critical[] = {"agent_started", "agent_thinking",
                                           "tool_executing", "tool_completed",
                                           "agent_completed"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(critical); i++) {
        if (PyUnicode_CompareWithASCIIString(type, critical[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The exact str of an event's type. */
static PyObject *
emit_type(const char *function, PyObject *type)
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
emit_coalesce(WsmState *state, WsmEvent *event, const WsmLetter *letter)
{
    PyObject *callable = state->settings.coalesce_key;
    if (callable == NULL || state->settings.slow_policy != WSM_SLOW_COALESCE) {
        return 0;
    }
    PyObject *key = PyObject_CallFunctionObjArgs(callable, letter->type,
                                                 letter->data, NULL);
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

/* Encode and send. The target is the caller's. */
static PyObject *
emit_letter(const WsmTarget *target, WsmLetter *letter)
{
    WsmState *state = target->manager->state;

    letter->user_id = target->manager->key;
    WsmEvent *event = wsm_envelope_event(state, letter);
    if (event == NULL) {
        return NULL;
    }
    event->critical = target->critical || emit_is_critical(letter->type);
    event->only = Py_XNewRef((PyObject *)target->only);
    event->thread_id = Py_XNewRef(target->thread_id);
    if ((target->detail && (event->detail = PyDict_New()) == NULL) ||
        emit_coalesce(state, event, letter) < 0) {
        Py_DECREF(event);
        return NULL;
    }
    return wsm_fanout(target->manager, event);
}

/* -- messages ------------------------------------------------------------ */

/* Members that a message's root may say for itself. */
static int
emit_is_envelope_name(const WsmNames *names, PyObject *name)
{
    PyObject *const own[] = {names->type,   names->payload,  names->data,
                             names->id,     names->user_id,  names->thread_id,
                             names->run_id, names->timestamp};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(own); i++) {
        int same = PyObject_RichCompareBool(name, own[i], Py_EQ);
        if (same != 0) {
            return same;
        }
    }
    return 0;
}

/* A message without payload and data: all its other members are the data. */
static PyObject *
emit_rest(const WsmNames *names, PyObject *message)
{
    PyObject *rest = PyDict_New();
    PyObject *items = PyDict_Items(message);

    for (Py_ssize_t i = 0;
         rest != NULL && items != NULL && i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        int own = emit_is_envelope_name(names, PyTuple_GET_ITEM(pair, 0));
        if (own < 0 ||
            (own == 0 && PyDict_SetItem(rest, PyTuple_GET_ITEM(pair, 0),
                                        PyTuple_GET_ITEM(pair, 1)) < 0)) {
            Py_CLEAR(rest);
        }
    }
    if (items == NULL) {
        Py_CLEAR(rest);
    }
    Py_XDECREF(items);
    return rest;
}

/* A mapping, dataclass, model or the like as a plain dict, so that every
 * envelope can look into it; what is none of them stays what it is, and the
 * encoder judges it. */
static PyObject *
emit_plain_data(WsmState *state, PyObject *data)
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

/* The data of a message: under payload, or data, or all the rest; owned. */
static PyObject *
emit_message_data(WsmState *state, PyObject *message)
{
    const WsmNames *names = &state->names;
    PyObject *data;
    if (PyDict_GetItemRef(message, names->payload, &data) == 0 &&
        PyDict_GetItemRef(message, names->data, &data) == 0) {
        return emit_rest(names, message);
    }
    if (data == NULL) {
        return NULL;
    }
    Py_SETREF(data, emit_plain_data(state, data));
    return data;
}

static PyObject *
emit_message_type(const WsmNames *names, const char *function,
                  PyObject *message)
{
    PyObject *type;
    if (PyDict_GetItemRef(message, names->type, &type) < 0) {
        return NULL;
    }
    if (type == NULL) {
        PyErr_Format(PyExc_ValueError,
                     "%s(): the message has no \"type\": a mapping such as "
                     "{\"type\": \"notice\", \"payload\": {...}} is "
                     "expected",
                     function);
        return NULL;
    }
    PyObject *exact = emit_type(function, type);
    Py_DECREF(type);
    return exact;
}

static PyObject *
emit_as_dict(WsmState *state, const char *function, PyObject *message)
{
    if (PyUnicode_Check(message) || message == Py_None) {
        PyErr_Format(PyExc_TypeError,
                     "%s() needs a message: a mapping such as {\"type\": "
                     "\"notice\", \"payload\": {...}}, not %.100s",
                     function, Py_TYPE(message)->tp_name);
        return NULL;
    }
    if (PyDict_CheckExact(message)) {
        return PyDict_Copy(message);
    }
    if (state->hooks.as_mapping == NULL) {
        PyErr_SetString(PyExc_TypeError, "a message must be a dict");
        return NULL;
    }
    PyObject *mapping = PyObject_CallOneArg(state->hooks.as_mapping, message);
    if (mapping != NULL && !PyDict_CheckExact(mapping)) {
        Py_SETREF(mapping,
                  PyObject_CallOneArg((PyObject *)&PyDict_Type, mapping));
    }
    return mapping;
}

static PyObject *
emit_message(const WsmTarget *target, PyObject *message)
{
    WsmState *state = target->manager->state;
    const WsmNames *names = &state->names;
    PyObject *type = NULL, *data = NULL, *id = NULL, *result = NULL;
    PyObject *root = emit_as_dict(state, target->function, message);

    if (root == NULL) {
        return NULL;
    }
    if (PyDict_Pop(root, names->id, &id) < 0) {
        goto done;
    }
    type = emit_message_type(names, target->function, root);
    data = type == NULL ? NULL : emit_message_data(state, root);
    if (data != NULL) {
        WsmLetter letter = {.type = type, .data = data, .root = root};
        result = emit_letter(target, &letter);
    }
done:
    Py_XDECREF(id);
    Py_XDECREF(data);
    Py_XDECREF(type);
    Py_DECREF(root);
    return result;
}

int
wsm_check_message(WsmState *state, PyObject *message)
{
    PyObject *root = emit_as_dict(state, "broadcast", message);
    if (root == NULL) {
        return -1;
    }
    PyObject *type = emit_message_type(&state->names, "broadcast", root);
    Py_DECREF(root);
    Py_XDECREF(type);
    return type == NULL ? -1 : 0;
}

PyObject *
wsm_emit_message(WsmManager *manager, PyObject *message)
{
    WsmTarget target = {.manager = manager, .function = "broadcast"};
    return emit_message(&target, message);
}

PyObject *
wsm_emit_only(WsmConnection *connection, PyObject *message)
{
    WsmTarget target = {.manager = connection->manager,
                        .only = connection,
                        .function = "send_message"};
    return emit_message(&target, message);
}

/* -- whom it is for ------------------------------------------------------ */

/* An id that may be a connection's, or the user's own: all of theirs. */
static int
emit_resolve(WsmManager *self, PyObject *id, WsmTarget *target)
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
        return 0;
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

static int
emit_truth(PyObject *flag, bool *value)
{
    int is = flag == NULL ? 0 : PyObject_IsTrue(flag);
    *value = is > 0;
    return is < 0 ? -1 : 0;
}

/* data and event_data are one; None is an empty object. */
static PyObject *
emit_data(WsmState *state, const char *function, PyObject *data,
          PyObject *event_data)
{
    if (data != NULL && event_data != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s() got both data and event_data: they are the same",
                     function);
        return NULL;
    }
    data = data == NULL ? event_data : data;
    return data == NULL || data == Py_None ? PyDict_New()
                                           : emit_plain_data(state, data);
}

enum {
    EMIT_TYPE,
    EMIT_DATA,
    EMIT_EVENT_DATA,
    EMIT_USER_ID,
    EMIT_CONNECTION_ID,
    EMIT_THREAD_ID,
    EMIT_RUN_ID,
    EMIT_CRITICAL,
    EMIT_DETAIL,
};

static const char *const emit_names[] = {
    "event_type", "data",   "event_data", "user_id", "connection_id",
    "thread_id",  "run_id", "critical",   "detail",  NULL};

static int
emit_target(WsmManager *self, const char *function, PyObject **out,
            WsmTarget *target)
{
    PyObject *id = out[EMIT_CONNECTION_ID];

    if (wsm_arg_str(function, "thread_id", out[EMIT_THREAD_ID]) < 0 ||
        wsm_arg_str(function, "run_id", out[EMIT_RUN_ID]) < 0 ||
        emit_truth(out[EMIT_CRITICAL], &target->critical) < 0 ||
        emit_truth(out[EMIT_DETAIL], &target->detail) < 0) {
        return -1;
    }
    if (id != NULL && id != Py_None) {
        return emit_resolve(self, id, target);
    }
    target->manager = wsm_manager_route(self, out[EMIT_USER_ID], true);
    return target->manager == NULL ? -1 : 0;
}

/* With a third positional the first is whom it is for: kind says what. */
static PyObject *
emit_any(WsmManager *self, const char *function, int kind,
         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    const WsmArgs spec = {function, emit_names, 2, 0};
    PyObject *out[WSM_ARGS_MAX], *first = NULL, *result = NULL;
    WsmTarget target = {.manager = NULL};

    if (nargs == 3) {
        first = args[0];
        args++;
        nargs--;
    }
    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (first != NULL) {
        if (out[kind] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got multiple values for argument '%s'",
                         function, emit_names[kind]);
            return NULL;
        }
        out[kind] = first;
    }
    PyObject *type = emit_type(function, out[EMIT_TYPE]);
    PyObject *data = type == NULL
                         ? NULL
                         : emit_data(self->state, function, out[EMIT_DATA],
                                     out[EMIT_EVENT_DATA]);
    if (data != NULL && emit_target(self, function, out, &target) == 0) {
        WsmLetter letter = {
            .type = type,
            .data = data,
            .thread_id = wsm_arg_or_null(out[EMIT_THREAD_ID]),
            .run_id = wsm_arg_or_null(out[EMIT_RUN_ID]),
        };
        target.critical = target.critical || kind == EMIT_USER_ID;
        result = emit_letter(&target, &letter);
    }
    target_drop(&target);
    Py_XDECREF(data);
    Py_XDECREF(type);
    return result;
}

WSM_METHOD(emit_event)
{
    return emit_any(wsm_manager_here(op), "emit_event", EMIT_CONNECTION_ID,
                    args, nargs, kwnames);
}

WSM_METHOD(emit_critical_event)
{
    return emit_any(wsm_manager_here(op), "emit_critical_event", EMIT_USER_ID,
                    args, nargs, kwnames);
}

/* (message) or (user_id, message): one positional is the message. */
static int
emit_user_and_message(const char *function, const char *second,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames, PyObject **user, PyObject **message)
{
    const char *const names[] = {"user_id", second, NULL};
    const WsmArgs spec = {function, names, 2, 0};
    PyObject *out[WSM_ARGS_MAX];

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return -1;
    }
    if (nargs == 1 && out[1] == NULL) {
        out[1] = out[0];
        out[0] = NULL;
    }
    if (out[1] == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s() needs a %s: %s(%s) or %s(user_id, %s)", function,
                     second, function, second, function, second);
        return -1;
    }
    *user = out[0];
    *message = out[1];
    return 0;
}

WSM_METHOD(send_to_user)
{
    PyObject *user, *message;
    WsmManager *self = wsm_manager_here(op);

    if (emit_user_and_message("send_to_user", "message", args, nargs, kwnames,
                              &user, &message) < 0) {
        return NULL;
    }
    WsmTarget target = {.manager = wsm_manager_route(self, user, true),
                        .function = "send_to_user"};
    PyObject *result =
        target.manager == NULL ? NULL : emit_message(&target, message);
    target_drop(&target);
    return result;
}

WSM_METHOD(send_to_thread)
{
    static const char *const names[] = {"thread_id", "message", "message_data",
                                        NULL};
    static const WsmArgs spec = {"send_to_thread", names, 2, 1};
    PyObject *out[WSM_ARGS_MAX];

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    PyObject *message = out[1] == NULL ? out[2] : out[1];
    if (message == NULL || (out[1] != NULL && out[2] != NULL)) {
        PyErr_SetString(PyExc_TypeError, "send_to_thread() needs one message: "
                                         "send_to_thread(thread_id, message)");
        return NULL;
    }
    if (!PyUnicode_Check(out[0])) {
        PyErr_Format(PyExc_TypeError,
                     "send_to_thread(): thread_id must be a str, not %.100s",
                     Py_TYPE(out[0])->tp_name);
        return NULL;
    }
    WsmTarget target = {
        .manager = (WsmManager *)Py_NewRef((PyObject *)wsm_manager_here(op)),
        .function = "send_to_thread",
        .thread_id = out[0]};
    PyObject *result = emit_message(&target, message);
    target_drop(&target);
    return result;
}

WSM_METHOD(send_message)
{
    static const char *const names[] = {"connection_id", "message", NULL};
    static const WsmArgs spec = {"send_message", names, 2, 2};
    PyObject *out[WSM_ARGS_MAX], *result = NULL;
    WsmTarget target = {.function = "send_message"};

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (emit_resolve(wsm_manager_here(op), out[0], &target) == 0) {
        result = emit_message(&target, out[1]);
    }
    target_drop(&target);
    return result;
}

/* A text becomes an error message; a message of create_error_message() is
 * one already. */
static PyObject *
emit_error_message(WsmState *state, PyObject *error)
{
    if (!PyUnicode_Check(error)) {
        return Py_NewRef(error);
    }
    return Py_BuildValue("{O:O,O:O}", state->names.type,
                         state->names.error_message,
                         state->names.error_message, error);
}

WSM_METHOD(send_error)
{
    PyObject *user, *error, *result = NULL;
    WsmManager *self = wsm_manager_here(op);

    if (emit_user_and_message("send_error", "error_message", args, nargs,
                              kwnames, &user, &error) < 0) {
        return NULL;
    }
    PyObject *message = emit_error_message(self->state, error);
    if (message == NULL) {
        return NULL;
    }
    WsmTarget target = {.manager = wsm_manager_route(self, user, true),
                        .function = "send_error"};
    if (target.manager != NULL) {
        result = emit_message(&target, message);
    }
    target_drop(&target);
    Py_DECREF(message);
    return result;
}

WSM_METHOD(broadcast_to_user)
{
    static const char *const names[] = {"message", NULL};
    static const WsmArgs spec = {"broadcast", names, 1, 1};
    PyObject *out[WSM_ARGS_MAX];

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    return wsm_emit_message(wsm_manager_here(op), out[0]);
}
