/* Messages of a manager: mappings with a type, in every shape they are sent. */
#include "args.h"
#include "compat.h"
#include "dispatch.h"
#include "methods.h"

/* Members that a message's root may say for itself. */
static int
message_is_envelope_name(const WsmNames *names, PyObject *name)
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

/* All members of a message that are not the envelope's: its data, if it has
 * neither payload nor data. */
static PyObject *
message_rest(const WsmNames *names, PyObject *message)
{
    PyObject *rest = PyDict_New();
    PyObject *items = PyDict_Items(message);

    for (Py_ssize_t i = 0;
         rest != NULL && items != NULL && i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        int own = message_is_envelope_name(names, PyTuple_GET_ITEM(pair, 0));
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

/* The data of a message: under payload, or data, or all the rest; owned. */
static PyObject *
message_data(WsmState *state, PyObject *message)
{
    const WsmNames *names = &state->names;
    PyObject *data;
    if (PyDict_GetItemRef(message, names->payload, &data) == 0 &&
        PyDict_GetItemRef(message, names->data, &data) == 0) {
        return message_rest(names, message);
    }
    if (data == NULL) {
        return NULL;
    }
    Py_SETREF(data, wsm_dispatch_data(state, data));
    return data;
}

static PyObject *
message_type(const WsmNames *names, const char *function, PyObject *message)
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
    PyObject *exact = wsm_dispatch_type(function, type);
    Py_DECREF(type);
    return exact;
}

static PyObject *
message_as_dict(WsmState *state, const char *function, PyObject *message)
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

/* A message may ask to be acknowledged by "ack": true at its root. */
static bool
message_asks_ack(const WsmNames *names, PyObject *root)
{
    PyObject *ack = NULL;
    bool asks =
        PyDict_GetItemRef(root, names->ack, &ack) > 0 && ack == Py_True;
    Py_XDECREF(ack);
    return asks;
}

static PyObject *
message_letter(const WsmTarget *target, PyObject *root, PyObject *type,
               PyObject *data)
{
    WsmState *state = target->manager->state;
    WsmLetter letter = {.type = type,
                        .data = data,
                        .root = root,
                        .thread_id = target->thread_id};

    if (state->settings.envelope == WSM_ENVELOPE_MIXED) {
        letter.rest = message_rest(&state->names, root);
        if (letter.rest == NULL) {
            return NULL;
        }
    }
    PyObject *result = wsm_dispatch(target, &letter);
    Py_XDECREF(letter.rest);
    return result;
}

static PyObject *
message_send(const WsmTarget *target, PyObject *message)
{
    WsmState *state = target->manager->state;
    const WsmNames *names = &state->names;
    PyObject *type = NULL, *data = NULL, *id = NULL, *result = NULL;
    PyObject *root = message_as_dict(state, target->function, message);

    if (root == NULL) {
        return NULL;
    }
    if (PyDict_Pop(root, names->id, &id) < 0) {
        goto done;
    }
    WsmTarget asked = *target;
    asked.ack = asked.ack || message_asks_ack(names, root);
    type = message_type(names, target->function, root);
    data = type == NULL ? NULL : message_data(state, root);
    if (data != NULL) {
        result = message_letter(&asked, root, type, data);
    }
done:
    Py_XDECREF(id);
    Py_XDECREF(data);
    Py_XDECREF(type);
    Py_DECREF(root);
    return result;
}

PyObject *
wsm_message_root(WsmState *state, PyObject *message, PyObject **type)
{
    PyObject *root = message_as_dict(state, "broadcast", message);
    if (root != NULL) {
        *type = message_type(&state->names, "broadcast", root);
        if (*type == NULL) {
            Py_CLEAR(root);
        }
    }
    return root;
}

PyObject *
wsm_emit_message(WsmManager *manager, PyObject *message, bool traced)
{
    WsmTarget target = {
        .manager = manager, .function = "broadcast", .untraced = !traced};
    return message_send(&target, message);
}

/* (message) or (user_id, message): one positional is the message. */
static int
message_args(const char *function, const char *second, PyObject *const *args,
             Py_ssize_t nargs, PyObject *kwnames, PyObject **user,
             PyObject **message)
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

    if (message_args("send_to_user", "message", args, nargs, kwnames, &user,
                     &message) < 0) {
        return NULL;
    }
    WsmTarget target = {.manager = wsm_manager_route(self, user, true),
                        .function = "send_to_user"};
    PyObject *result =
        target.manager == NULL ? NULL : message_send(&target, message);
    wsm_target_drop(&target);
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
    PyObject *result = message_send(&target, message);
    wsm_target_drop(&target);
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
    if (wsm_target_resolve(wsm_manager_here(op), out[0], &target) == 0) {
        result = message_send(&target, out[1]);
    }
    wsm_target_drop(&target);
    return result;
}

/* A text becomes an error message; a message of create_error_message() is
 * one already. */
static PyObject *
message_of_error(WsmState *state, PyObject *error)
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

    if (message_args("send_error", "error_message", args, nargs, kwnames,
                     &user, &error) < 0) {
        return NULL;
    }
    PyObject *message = message_of_error(self->state, error);
    if (message == NULL) {
        return NULL;
    }
    WsmTarget target = {.manager = wsm_manager_route(self, user, true),
                        .function = "send_error"};
    if (target.manager != NULL) {
        result = message_send(&target, message);
    }
    wsm_target_drop(&target);
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
    return wsm_emit_message(wsm_manager_here(op), out[0], true);
}
