/* Invariant: "id" is never written here: it is the event's own. Nothing that
 * is the caller's is changed. */
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

static inline char *
envelope_two(char *at, uint32_t value)
{
    at[0] = (char)('0' + value / 10);
    at[1] = (char)('0' + value % 10);
    return at + 2;
}

#define WSM_TIMESTAMP_SIZE 32

/* ISO 8601 with microseconds and offset, as datetime.isoformat() writes. */
static void
envelope_now(char *at)
{
    struct timespec now;
    int year, month, day;

    clock_gettime(CLOCK_REALTIME, &now);
    uint32_t second = (uint32_t)(now.tv_sec % 86400);
    uint32_t micro = (uint32_t)(now.tv_nsec / 1000);
    envelope_civil(now.tv_sec / 86400, &year, &month, &day);
    at = envelope_two(at, (uint32_t)year / 100);
    at = envelope_two(at, (uint32_t)year % 100);
    *at++ = '-';
    at = envelope_two(at, (uint32_t)month);
    *at++ = '-';
    at = envelope_two(at, (uint32_t)day);
    *at++ = 'T';
    at = envelope_two(at, second / 3600);
    *at++ = ':';
    at = envelope_two(at, second / 60 % 60);
    *at++ = ':';
    at = envelope_two(at, second % 60);
    *at++ = '.';
    at = envelope_two(at, micro / 10000);
    at = envelope_two(at, micro / 100 % 100);
    at = envelope_two(at, micro % 100);
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

/* The user an event goes to, whatever the message says; where there is none,
 * it may say. */
static int
envelope_user(PyObject *root, PyObject *name, PyObject *user_id)
{
    return user_id == Py_None ? envelope_default(root, name, user_id)
                              : PyDict_SetItem(root, name, user_id);
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

/* The data, and what else its message had. */
static PyObject *
envelope_whole(const WsmLetter *letter)
{
    if (letter->rest == NULL || !PyDict_CheckExact(letter->data)) {
        return Py_NewRef(letter->data);
    }
    PyObject *whole = PyDict_Copy(letter->data);
    if (whole != NULL && PyDict_Merge(whole, letter->rest, 0) < 0) {
        Py_CLEAR(whole);
    }
    return whole;
}

static int
envelope_mixed(WsmState *state, PyObject *root, const WsmLetter *letter)
{
    const WsmNames *names = &state->names;

    if (envelope_drop(root, names->data) < 0 ||
        envelope_spread(state, root, letter->data) < 0) {
        return -1;
    }
    PyObject *whole = envelope_whole(letter);
    int result =
        whole == NULL ? -1 : PyDict_SetItem(root, names->payload, whole);
    Py_XDECREF(whole);
    return result < 0 ? -1 : envelope_drop(root, names->data);
}

static int
envelope_shape(WsmState *state, PyObject *root, const WsmLetter *letter)
{
    const WsmNames *names = &state->names;
    PyObject *data = letter->data;
    const WsmEnvelope envelope = state->settings.envelope;

    switch (envelope) {
    case WSM_ENVELOPE_MIXED:
        return envelope_mixed(state, root, letter);
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
        envelope_user(root, names->user_id, letter->user_id) < 0 ||
        envelope_id_of(root, names->thread_id, letter->thread_id,
                       letter->data) < 0 ||
        envelope_id_of(root, names->run_id, letter->run_id, letter->data) <
            0 ||
        envelope_default(root, names->timestamp, timestamp) < 0 ||
        envelope_lift(root, letter->data, names->agent_name) < 0 ||
        envelope_lift(root, letter->data, names->tool_name) < 0 ||
        (letter->ack && PyDict_SetItem(root, names->ack, Py_True) < 0) ||
        envelope_shape(state, root, letter) < 0) {
        Py_CLEAR(root);
    }
    Py_XDECREF(timestamp);
    return root;
}

/* A team's own envelope: what its function makes of the members, in a dict
 * that is ours. */
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
    if (own == NULL) {
        return NULL;
    }
    PyObject *mapping =
        PyDict_CheckExact(own)
            ? PyDict_Copy(own)
            : PyObject_CallOneArg(state->hooks.as_mapping, own);
    Py_DECREF(own);
    return mapping;
}

static PyObject *
envelope_bytes(WsmState *state, PyObject *members)
{
    WsmPayload seen;
    Py_ssize_t most = state->settings.max_event_bytes;

    if (state->hooks.encode == NULL || state->hooks.encode_any == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "no encoder is installed: import wsmanager, not its "
                        "C core alone");
        return NULL;
    }
    if (wsm_payload_examine(members, most, &seen) < 0) {
        PyErr_Format(state->errors.EventTooLarge,
                     "the event takes more than %zd bytes of JSON "
                     "(max_event_bytes): send a reference to the data "
                     "instead",
                     most);
        return NULL;
    }
    if (seen.plain) {
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

/* -- the common case, written in one go ----------------------------------- */

/* What stands between the values of the default envelope. */
#define WSM_TYPE "{\"type\":"
#define WSM_PAYLOAD ",\"payload\":"
#define WSM_USER_ID ",\"user_id\":"
#define WSM_THREAD_ID ",\"thread_id\":"
#define WSM_RUN_ID ",\"run_id\":"
#define WSM_TIMESTAMP ",\"timestamp\":\""
#define WSM_AGENT_NAME ",\"agent_name\":"
#define WSM_TOOL_NAME ",\"tool_name\":"
#define WSM_ACK ",\"ack\":true"
#define WSM_ALWAYS                                              \
    WSM_TYPE WSM_PAYLOAD WSM_USER_ID WSM_THREAD_ID WSM_RUN_ID   \
        WSM_TIMESTAMP "\"}"

#define WSM_SIZE(literal) (sizeof(literal) - 1)
#define WSM_PUT(at, literal) \
    (memcpy(at, literal, WSM_SIZE(literal)), (at) + WSM_SIZE(literal))

/* A str that JSON writes as it is. */
typedef struct {
    const char *data; /* borrowed; NULL: null */
    size_t size;
} WsmText;

typedef struct {
    WsmText type, user, thread, run, agent, tool;
    PyObject *kept[4]; /* owned or NULL: what some of them are of */
} WsmTexts;

#define WSM_EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether one of the eight ASCII characters must be escaped (RFC 8259 section
 * 7): a quotation mark, a backslash, a control character. A byte that is zero
 * or, in the last case, too small borrows from its highest bit. */
static bool
text_escapes(const char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    uint64_t quote = word ^ WSM_EACH_BYTE('"');
    uint64_t backslash = word ^ WSM_EACH_BYTE('\\');
    return (((quote - WSM_EACH_BYTE(1)) | (backslash - WSM_EACH_BYTE(1)) |
             (word - WSM_EACH_BYTE(0x20))) &
            WSM_EACH_BYTE(0x80)) != 0;
}

/* False if op is anything but a str that JSON writes as it is, or none. */
static bool
text_of(WsmText *text, PyObject *op)
{
    *text = (WsmText){NULL, 0};
    if (op == NULL || op == Py_None) {
        return true;
    }
    if (!PyUnicode_CheckExact(op) || !PyUnicode_IS_COMPACT_ASCII(op)) {
        return false;
    }
    const char *data = (const char *)PyUnicode_1BYTE_DATA(op);
    size_t size = (size_t)PyUnicode_GET_LENGTH(op), i = 0;
    *text = (WsmText){data, size};
    for (; i + 8 <= size; i += 8) {
        if (text_escapes(data + i)) {
            return false;
        }
    }
    if (i < size) {
        char rest[8] = "        ";
        for (size_t k = 0; i + k < size; k++) {
            rest[k] = data[i + k];
        }
        return !text_escapes(rest);
    }
    return true;
}

static inline size_t
text_size(const WsmText *text)
{
    return text->data == NULL ? WSM_SIZE("null") : text->size + 2;
}

static inline unsigned char *
text_put(unsigned char *at, const WsmText *text)
{
    if (text->data == NULL) {
        return WSM_PUT(at, "null");
    }
    *at++ = '"';
    memcpy(at, text->data, text->size);
    at += text->size;
    *at++ = '"';
    return at;
}

/* What the data says under that name, kept; false if that is no such str. */
static bool
texts_look(WsmText *text, PyObject **kept, const WsmPayload *seen,
           PyObject *data, PyObject *name)
{
    if (!wsm_payload_may_have(seen, name)) {
        return true;
    }
    return PyDict_GetItemRef(data, name, kept) >= 0 && *kept != Py_None &&
           text_of(text, *kept);
}

static bool
texts_of(WsmTexts *self, WsmState *state, const WsmLetter *letter,
         const WsmPayload *seen)
{
    const WsmNames *names = &state->names;
    PyObject *data = letter->data;

    *self = (WsmTexts){.kept = {NULL}};
    return text_of(&self->type, letter->type) &&
           text_of(&self->user, letter->user_id) &&
           (letter->thread_id != NULL
                ? text_of(&self->thread, letter->thread_id)
                : texts_look(&self->thread, &self->kept[0], seen, data,
                             names->thread_id)) &&
           (letter->run_id != NULL ? text_of(&self->run, letter->run_id)
                                   : texts_look(&self->run, &self->kept[1],
                                                seen, data, names->run_id)) &&
           texts_look(&self->agent, &self->kept[2], seen, data,
                      names->agent_name) &&
           texts_look(&self->tool, &self->kept[3], seen, data,
                      names->tool_name);
}

static void
texts_drop(WsmTexts *self)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(self->kept); i++) {
        Py_XDECREF(self->kept[i]);
    }
}

static size_t
texts_size(const WsmTexts *self, bool ack)
{
    size_t size = WSM_SIZE(WSM_ALWAYS) + WSM_TIMESTAMP_SIZE +
                  text_size(&self->type) + text_size(&self->user) +
                  text_size(&self->thread) + text_size(&self->run);
    if (self->agent.data != NULL) {
        size += WSM_SIZE(WSM_AGENT_NAME) + text_size(&self->agent);
    }
    if (self->tool.data != NULL) {
        size += WSM_SIZE(WSM_TOOL_NAME) + text_size(&self->tool);
    }
    return size + (ack ? WSM_SIZE(WSM_ACK) : 0);
}

static void
texts_put(const WsmTexts *self, unsigned char *at, PyObject *payload, bool ack)
{
    size_t size = (size_t)PyBytes_GET_SIZE(payload);

    at = text_put(WSM_PUT(at, WSM_TYPE), &self->type);
    at = WSM_PUT(at, WSM_PAYLOAD);
    memcpy(at, PyBytes_AS_STRING(payload), size);
    at = text_put(WSM_PUT(at + size, WSM_USER_ID), &self->user);
    at = text_put(WSM_PUT(at, WSM_THREAD_ID), &self->thread);
    at = text_put(WSM_PUT(at, WSM_RUN_ID), &self->run);
    at = WSM_PUT(at, WSM_TIMESTAMP);
    envelope_now((char *)at);
    at = WSM_PUT(at + WSM_TIMESTAMP_SIZE, "\"");
    if (self->agent.data != NULL) {
        at = text_put(WSM_PUT(at, WSM_AGENT_NAME), &self->agent);
    }
    if (self->tool.data != NULL) {
        at = text_put(WSM_PUT(at, WSM_TOOL_NAME), &self->tool);
    }
    if (ack) {
        at = WSM_PUT(at, WSM_ACK);
    }
    *at = '}';
}

/* The default envelope of an event with nothing unusual in it: the same
 * bytes, without a dict. NULL without an exception if it is not one. */
static WsmEvent *
envelope_common(WsmState *state, const WsmLetter *letter)
{
    unsigned char *at;
    WsmPayload seen;
    WsmTexts texts;

    if (state->settings.envelope != WSM_ENVELOPE_PAYLOAD ||
        letter->root != NULL || !PyDict_CheckExact(letter->data) ||
        state->hooks.encode == NULL ||
        wsm_payload_examine(letter->data, state->settings.max_event_bytes,
                            &seen) < 0 ||
        !seen.plain) {
        return NULL;
    }
    PyObject *payload = PyObject_CallOneArg(state->hooks.encode, letter->data);
    if (payload == NULL || !PyBytes_Check(payload)) {
        Py_XDECREF(payload);
        if (PyErr_ExceptionMatches(PyExc_Exception) &&
            !PyErr_ExceptionMatches(PyExc_MemoryError)) {
            PyErr_Clear(); /* the careful way names what is wrong, and where */
        }
        return NULL;
    }
    WsmEvent *event = NULL;
    if (texts_of(&texts, state, letter, &seen)) {
        size_t size = texts_size(&texts, letter->ack) +
                      (size_t)PyBytes_GET_SIZE(payload);
        event = wsm_event_alloc(state, size, &at);
        if (event != NULL) {
            texts_put(&texts, at, payload, letter->ack);
        }
    }
    texts_drop(&texts);
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
