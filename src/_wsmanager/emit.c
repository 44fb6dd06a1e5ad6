/* Events of a manager: a type and its data. */
#include "args.h"
#include "counters.h"
#include "dispatch.h"
#include "methods.h"
#include "results.h"

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
                                           : wsm_dispatch_data(state, data);
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
    EMIT_ACK,
    EMIT_ONCE,
};

static const char *const emit_names[] = {
    "event_type",    "data",      "event_data",      "user_id",
    "connection_id", "thread_id", "run_id",          "critical",
    "detail",        "ack",       "idempotency_key", NULL};

#define WSM_ONCE_KEY_MAX 256

static int
emit_check_once(const char *function, PyObject *key)
{
    if (key == NULL) {
        return 0;
    }
    if (!PyUnicode_Check(key)) {
        PyErr_Format(PyExc_TypeError,
                     "%s(): idempotency_key must be a str, not %.100s",
                     function, Py_TYPE(key)->tp_name);
        return -1;
    }
    Py_ssize_t length = PyUnicode_GET_LENGTH(key);
    if (length == 0 || length > WSM_ONCE_KEY_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "%s(): idempotency_key must have 1 to %d characters, "
                     "not %zd",
                     function, WSM_ONCE_KEY_MAX, length);
        return -1;
    }
    return 0;
}

static int
emit_target(WsmManager *self, const char *function, PyObject **out,
            WsmTarget *target)
{
    PyObject *id = out[EMIT_CONNECTION_ID];

    if (wsm_arg_str(function, "thread_id", out[EMIT_THREAD_ID]) < 0 ||
        wsm_arg_str(function, "run_id", out[EMIT_RUN_ID]) < 0 ||
        emit_truth(out[EMIT_CRITICAL], &target->critical) < 0 ||
        emit_truth(out[EMIT_DETAIL], &target->detail) < 0 ||
        emit_truth(out[EMIT_ACK], &target->ack) < 0 ||
        emit_check_once(function, wsm_arg_or_null(out[EMIT_ONCE])) < 0) {
        return -1;
    }
    if (id != NULL && id != Py_None) {
        return wsm_target_resolve(self, id, target);
    }
    target->manager = wsm_manager_route(self, out[EMIT_USER_ID], true);
    return target->manager == NULL ? -1 : 0;
}

static bool
emit_has_keyword(PyObject *kwnames, int which)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t k = 0; k < count; k++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, k),
                                             emit_names[which]) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the first positional is whom it is for: with a third it is. Of an
 * event for a user also where a keyword has what it would be otherwise. */
static bool
emit_is_addressed(int kind, Py_ssize_t nargs, PyObject *kwnames)
{
    if (kind == EMIT_USER_ID && nargs == 2) {
        return emit_has_keyword(kwnames, EMIT_DATA) ||
               emit_has_keyword(kwnames, EMIT_EVENT_DATA);
    }
    if (kind == EMIT_USER_ID && nargs == 1) {
        return emit_has_keyword(kwnames, EMIT_TYPE);
    }
    return nargs == 3;
}

/* The one it is for is what kind says. */
static PyObject *
emit_any(WsmManager *self, const char *function, int kind,
         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    const WsmArgs spec = {function, emit_names, 2, 0};
    PyObject *out[WSM_ARGS_MAX], *first = NULL, *result = NULL, *once = NULL;
    WsmTarget target = {.manager = NULL};

    if (emit_is_addressed(kind, nargs, kwnames)) {
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
    PyObject *type = wsm_dispatch_type(function, out[EMIT_TYPE]);
    PyObject *data = type == NULL
                         ? NULL
                         : emit_data(self->state, function, out[EMIT_DATA],
                                     out[EMIT_EVENT_DATA]);
    int fine = data != NULL && emit_target(self, function, out, &target) == 0;
    if (fine && wsm_arg_or_null(out[EMIT_ONCE]) != NULL) {
        once = PyUnicode_FromObject(out[EMIT_ONCE]);
        fine = once != NULL;
    }
    if (fine) {
        WsmLetter letter = {
            .type = type,
            .data = data,
            .thread_id = wsm_arg_or_null(out[EMIT_THREAD_ID]),
            .run_id = wsm_arg_or_null(out[EMIT_RUN_ID]),
        };
        target.critical = target.critical || kind == EMIT_USER_ID;
        target.once = once;
        result = wsm_dispatch(&target, &letter);
    }
    wsm_target_drop(&target);
    Py_XDECREF(once);
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

WSM_METHOD(acknowledge)
{
    static const char *const names[] = {"event_id", NULL};
    static const WsmArgs spec = {"acknowledge", names, 1, 1};
    PyObject *out[WSM_ARGS_MAX];
    WsmManager *self = wsm_manager_here(op);
    WsmPosition id;
    Py_ssize_t size;

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (!PyUnicode_Check(out[0])) {
        PyErr_Format(PyExc_TypeError,
                     "acknowledge(): event_id must be a str, not %.100s",
                     Py_TYPE(out[0])->tp_name);
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8AndSize(out[0], &size);
    if (text == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeError)) {
        return NULL;
    }
    PyErr_Clear(); /* lone surrogates: no id of ours */
    bool known = text != NULL && wsm_position_parse(text, (size_t)size, &id) &&
                 wsm_manager_acknowledge(self, &id);
    wsm_add(&wsm_totals(self->state)->acked, known);
    return wsm_answer_new(self->state, PyBool_FromLong(known));
}
