/* Invariant: "id" is never written here: it is the event's own. */
#include "envelope.h"

#include <time.h>

#include "compat.h"
#include "payload.h"

/* Days since 1970 to a date of the proleptic Gregorian calendar. */
static void
envelope_civil(int64_t days, int *year, int *month, int *day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

static char *
envelope_digits(char *at, int64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + digits;
}

/* ISO 8601 with microseconds and offset, as datetime.isoformat() writes. */
static PyObject *
envelope_timestamp(void)
{
    struct timespec now;
    int year, month, day;
    char text[32], *at = text;

    clock_gettime(CLOCK_REALTIME, &now);
    int64_t second = now.tv_sec % 86400;
    envelope_civil(now.tv_sec / 86400, &year, &month, &day);
    at = envelope_digits(at, year, 4);
    *at++ = '-';
    at = envelope_digits(at, month, 2);
    *at++ = '-';
    at = envelope_digits(at, day, 2);
    *at++ = 'T';
    at = envelope_digits(at, second / 3600, 2);
    *at++ = ':';
    at = envelope_digits(at, second / 60 % 60, 2);
    *at++ = ':';
    at = envelope_digits(at, second % 60, 2);
    *at++ = '.';
    at = envelope_digits(at, now.tv_nsec / 1000, 6);
    memcpy(at, "+00:00", 6);
    return PyUnicode_FromStringAndSize(text, at + 6 - text);
}

/* Set it unless it is there. */
static int
envelope_default(PyObject *root, PyObject *name, PyObject *value)
{
    PyObject *there;
    int result = PyDict_SetDefaultRef(root, name, value, &there);
    Py_XDECREF(there);
    return result < 0 ? -1 : 0;
}

/* A str of the data under that name, NULL without an error if none. */
static int
envelope_from_data(PyObject *data, PyObject *name, PyObject **value)
{
    *value = NULL;
    if (!PyDict_CheckExact(data)) {
        return 0;
    }
    if (PyDict_GetItemRef(data, name, value) < 0) {
        return -1;
    }
    if (*value != NULL && !PyUnicode_Check(*value)) {
        Py_CLEAR(*value);
    }
    return 0;
}

/* thread_id or run_id: as given, else as the root or the data says. */
static int
envelope_id_of(PyObject *root, PyObject *name, PyObject *given,
               PyObject *data)
{
    if (given != NULL) {
        return PyDict_SetItem(root, name, given);
    }
    PyObject *value;
    if (envelope_from_data(data, name, &value) < 0) {
        return -1;
    }
    int result =
        envelope_default(root, name, value == NULL ? Py_None : value);
    Py_XDECREF(value);
    return result;
}

/* agent_name and tool_name are always at the root as well. */
static int
envelope_lift(PyObject *root, PyObject *data, PyObject *name)
{
    PyObject *value;
    if (!PyDict_CheckExact(data) ||
        PyDict_GetItemRef(data, name, &value) == 0) {
        return 0;
    }
    if (value == NULL) {
        return -1;
    }
    int result = envelope_default(root, name, value);
    Py_DECREF(value);
    return result;
}

/* The data's own members at the root too, where the root has none. */
static int
envelope_spread(WsmState *state, PyObject *root, PyObject *data)
{
    if (!PyDict_CheckExact(data)) {
        return 0;
    }
    if (PyDict_Merge(root, data, 0) < 0) {
        return -1;
    }
    PyObject *id = NULL;
    int result = PyDict_Pop(root, state->names.id, &id);
    Py_XDECREF(id);
    return result < 0 ? -1 : 0;
}

static int
envelope_drop(PyObject *root, PyObject *name)
{
    PyObject *old = NULL;
    int result = PyDict_Pop(root, name, &old);
    Py_XDECREF(old);
    return result < 0 ? -1 : 0;
}

static int
envelope_shape(WsmState *state, PyObject *root, PyObject *data)
{
    const WsmNames *names = &state->names;

    switch (state->settings.envelope) {
    case WSM_ENVELOPE_MIXED:
        if (envelope_drop(root, names->data) < 0 ||
            envelope_spread(state, root, data) < 0 ||
            PyDict_SetItem(root, names->payload, data) < 0) {
            return -1;
        }
        return envelope_drop(root, names->data);
    case WSM_ENVELOPE_DATA:
        if (PyDict_SetItem(root, names->data, data) < 0) {
            return -1;
        }
        return envelope_drop(root, names->payload);
    case WSM_ENVELOPE_FLAT:
        if (envelope_drop(root, names->data) < 0 ||
            envelope_drop(root, names->payload) < 0) {
            return -1;
        }
        return envelope_spread(state, root, data);
    case WSM_ENVELOPE_PAYLOAD:
    case WSM_ENVELOPE_CALLABLE:
        break;
    }
    return 0;
}

/* The members in the order a reader expects them. */
static PyObject *
envelope_members(WsmState *state, const WsmLetter *letter)
{
    const WsmNames *names = &state->names;
    PyObject *root = PyDict_New();
    PyObject *timestamp = envelope_timestamp();

    if (root == NULL || timestamp == NULL ||
        PyDict_SetItem(root, names->type, letter->type) < 0 ||
        PyDict_SetItem(root, names->payload, letter->data) < 0 ||
        (letter->root != NULL && PyDict_Merge(root, letter->root, 0) < 0) ||
        envelope_default(root, names->user_id, letter->user_id) < 0 ||
        envelope_id_of(root, names->thread_id, letter->thread_id,
                       letter->data) < 0 ||
        envelope_id_of(root, names->run_id, letter->run_id, letter->data) <
            0 ||
        envelope_default(root, names->timestamp, timestamp) < 0 ||
        envelope_lift(root, letter->data, names->agent_name) < 0 ||
        envelope_lift(root, letter->data, names->tool_name) < 0 ||
        envelope_shape(state, root, letter->data) < 0) {
        Py_CLEAR(root);
    }
    Py_XDECREF(timestamp);
    return root;
}

/* A team's own envelope: a mapping of its making. */
static PyObject *
envelope_custom(WsmState *state, PyObject *members)
{
    PyObject *callable = Py_NewRef(state->settings.envelope_callable);
    PyObject *own = PyObject_CallOneArg(callable, members);
    Py_DECREF(callable);
    if (own == NULL || PyDict_CheckExact(own)) {
        return own;
    }
    PyObject *mapping = PyObject_CallOneArg(state->hooks.as_mapping, own);
    Py_DECREF(own);
    return mapping;
}

static PyObject *
envelope_bytes(WsmState *state, PyObject *members)
{
    bool plain;
    Py_ssize_t most = state->settings.max_event_bytes;

    if (state->hooks.encode == NULL || state->hooks.encode_any == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "no encoder is installed: import wsmanager, not its "
                        "C core alone");
        return NULL;
    }
    if (wsm_payload_examine(members, most, &plain) < 0) {
        PyErr_Format(state->errors.EventTooLarge,
                     "the event takes more than %zd bytes of JSON "
                     "(max_event_bytes): send a reference to the data "
                     "instead",
                     most);
        return NULL;
    }
    if (plain) {
        PyObject *json = PyObject_CallOneArg(state->hooks.encode, members);
        if (json != NULL || !PyErr_ExceptionMatches(PyExc_Exception) ||
            PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return json;
        }
        PyErr_Clear(); /* the careful encoder names what is wrong, and where */
    }
    return PyObject_CallFunction(state->hooks.encode_any, "Os", members, "");
}

PyObject *
wsm_envelope_encode(WsmState *state, const WsmLetter *letter)
{
    PyObject *members = envelope_members(state, letter);
    if (members == NULL) {
        return NULL;
    }
    if (state->settings.envelope == WSM_ENVELOPE_CALLABLE) {
        Py_SETREF(members, envelope_custom(state, members));
        if (members == NULL) {
            return NULL;
        }
        if (envelope_drop(members, state->names.id) < 0) {
            Py_DECREF(members);
            return NULL;
        }
    }
    PyObject *json = envelope_bytes(state, members);
    Py_DECREF(members);
    return json;
}
