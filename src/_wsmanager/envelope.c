/* Invariant: "id" is never written here: it is the event's own. */
#include "envelope.h"

#include <time.h>

#include "compat.h"
#include "payload.h"
#include "settings.h"

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

#define WSM_TIMESTAMP_SIZE 32

/* ISO 8601 with microseconds and offset, as datetime.isoformat() writes. */
static void
envelope_now(char *text)
{
    struct timespec now;
    int year, month, day;
    char *at = text;

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
}

static PyObject *
envelope_timestamp(void)
{
    char text[WSM_TIMESTAMP_SIZE];
    envelope_now(text);
    return PyUnicode_FromStringAndSize(text, WSM_TIMESTAMP_SIZE);
}

/* Set it unless it is there. */
static int
envelope_default(PyObject *root, PyObject *name, PyObject *value)
{
    PyObject *there;
    int result = wsm_dict_claim(root, name, value, &there);
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
envelope_id_of(PyObject *root, PyObject *name, PyObject *given, PyObject *data)
{
    if (given != NULL) {
        return PyDict_SetItem(root, name, given);
    }
    PyObject *value;
    if (envelope_from_data(data, name, &value) < 0) {
        return -1;
    }
    int result = envelope_default(root, name, value == NULL ? Py_None : value);
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
    const WsmEnvelope envelope = state->settings.envelope;

    switch (envelope) {
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
        if (!PyDict_CheckExact(data)) {
            return 0; /* nothing to lay flat: it stays the payload */
        }
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
        (letter->ack && PyDict_SetItem(root, names->ack, Py_True) < 0) ||
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
    PyObject *callable =
        wsm_settings_object(state, &state->settings.envelope_callable);
    if (callable == NULL) {
        return Py_NewRef(members); /* no longer set, since just now */
    }
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

static PyObject *
envelope_encode(WsmState *state, const WsmLetter *letter)
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

/* -- the common case, put together from parts ---------------------------- */

typedef struct {
    const char *data;
    size_t size;
} WsmPart;

#define WSM_PARTS 24

typedef struct {
    WsmPart parts[WSM_PARTS];
    int count;
    size_t size;
} WsmParts;

static void
parts_add(WsmParts *parts, const char *data, size_t size)
{
    parts->parts[parts->count++] = (WsmPart){data, size};
    parts->size += size;
}

#define WSM_PART(parts, literal) \
    parts_add(parts, literal, sizeof(literal) - 1)

/* Add a str as it is, if JSON writes it so too: ASCII, nothing to escape. */
static bool
parts_add_text(WsmParts *parts, PyObject *text)
{
    if (text == NULL || text == Py_None) {
        WSM_PART(parts, "null");
        return true;
    }
    if (!PyUnicode_CheckExact(text) || !PyUnicode_IS_COMPACT_ASCII(text)) {
        return false;
    }
    const char *data = (const char *)PyUnicode_1BYTE_DATA(text);
    size_t size = (size_t)PyUnicode_GET_LENGTH(text);
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)data[i] < 0x20 || data[i] == '"' ||
            data[i] == '\\') {
            return false;
        }
    }
    WSM_PART(parts, "\"");
    parts_add(parts, data, size);
    WSM_PART(parts, "\"");
    return true;
}

/* A str of the data, borrowed from it; *plain is false if it is no str. */
static PyObject *
parts_peek(PyObject *data, PyObject *name, bool *plain)
{
    PyObject *value = NULL;
    if (PyDict_GetItemRef(data, name, &value) <= 0) {
        return NULL;
    }
    *plain = *plain && PyUnicode_CheckExact(value);
    Py_DECREF(value); /* the data keeps it, and nothing runs meanwhile */
    return value;
}

/* What stands around the payload, before and after it. */
static bool
parts_of(WsmState *state, const WsmLetter *letter, const char *timestamp,
         WsmParts *head, WsmParts *tail)
{
    const WsmNames *names = &state->names;
    bool plain = true;
    PyObject *thread = letter->thread_id, *run = letter->run_id;
    PyObject *agent = parts_peek(letter->data, names->agent_name, &plain);
    PyObject *tool = parts_peek(letter->data, names->tool_name, &plain);

    if (thread == NULL) {
        thread = parts_peek(letter->data, names->thread_id, &plain);
    }
    if (run == NULL) {
        run = parts_peek(letter->data, names->run_id, &plain);
    }
    WSM_PART(head, "{\"type\":");
    plain = plain && parts_add_text(head, letter->type);
    WSM_PART(head, ",\"payload\":");
    WSM_PART(tail, ",\"user_id\":");
    plain = plain && parts_add_text(tail, letter->user_id);
    WSM_PART(tail, ",\"thread_id\":");
    plain = plain && parts_add_text(tail, thread);
    WSM_PART(tail, ",\"run_id\":");
    plain = plain && parts_add_text(tail, run);
    WSM_PART(tail, ",\"timestamp\":\"");
    parts_add(tail, timestamp, WSM_TIMESTAMP_SIZE);
    WSM_PART(tail, "\"");
    if (agent != NULL) {
        WSM_PART(tail, ",\"agent_name\":");
        plain = plain && parts_add_text(tail, agent);
    }
    if (tool != NULL) {
        WSM_PART(tail, ",\"tool_name\":");
        plain = plain && parts_add_text(tail, tool);
    }
    if (letter->ack) {
        WSM_PART(tail, ",\"ack\":true");
    }
    WSM_PART(tail, "}");
    return plain;
}

static unsigned char *
parts_write(const WsmParts *parts, unsigned char *at)
{
    for (int i = 0; i < parts->count; i++) {
        memcpy(at, parts->parts[i].data, parts->parts[i].size);
        at += parts->parts[i].size;
    }
    return at;
}

/* The default envelope of an event with nothing unusual in it: the same
 * bytes, without a dict. NULL without an exception if it is not one. */
static WsmEvent *
envelope_common(WsmState *state, const WsmLetter *letter)
{
    WsmParts head = {.count = 0}, tail = {.count = 0};
    char timestamp[WSM_TIMESTAMP_SIZE];
    unsigned char *at;
    bool plain;

    if (state->settings.envelope != WSM_ENVELOPE_PAYLOAD ||
        letter->root != NULL || !PyDict_CheckExact(letter->data) ||
        state->hooks.encode == NULL ||
        wsm_payload_examine(letter->data, state->settings.max_event_bytes,
                            &plain) < 0 ||
        !plain) {
        return NULL;
    }
    PyObject *payload = PyObject_CallOneArg(state->hooks.encode, letter->data);
    if (payload == NULL || !PyBytes_Check(payload)) {
        Py_XDECREF(payload);
        if (!PyErr_ExceptionMatches(PyExc_MemoryError)) {
            PyErr_Clear(); /* the careful way names what is wrong, and where */
        }
        return NULL;
    }
    WsmEvent *event = NULL;
    envelope_now(timestamp);
    if (parts_of(state, letter, timestamp, &head, &tail)) {
        size_t size = (size_t)PyBytes_GET_SIZE(payload);
        event = wsm_event_alloc(state, head.size + size + tail.size, &at);
        if (event != NULL) {
            at = parts_write(&head, at);
            memcpy(at, PyBytes_AS_STRING(payload), size);
            parts_write(&tail, at + size);
        }
    }
#ifndef WSM_PLANT_REFLEAK
    Py_DECREF(payload);
#endif
    return event;
}

WsmEvent *
wsm_envelope_event(WsmState *state, const WsmLetter *letter)
{
    WsmEvent *event = envelope_common(state, letter);
    if (event != NULL || PyErr_Occurred()) {
        return event;
    }
    PyObject *json = envelope_encode(state, letter);
    if (json != NULL) {
        event = wsm_event_new(state, json);
        Py_DECREF(json);
    }
    return event;
}
