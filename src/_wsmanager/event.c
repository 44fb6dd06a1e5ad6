/* Invariant: once stamped, the bytes never change; tally[WSM_QUEUED] is the
 * number of connections that still have it in their outbox. */
#include "event.h"

#include <string.h>

#include "compat.h"
#include "frame.h"
#include "waiters.h"

#define WSM_ID_PREFIX "{\"id\":\""
#define WSM_ID_PREFIX_SIZE 7
#define WSM_EPOCH_DIGITS 16
#define WSM_SEQ_DIGITS 20
/* Header, prefix, epoch, colon, digits, closing quote, comma. */
#define WSM_SLACK                                                       \
    (WSM_FRAME_HEADER_MAX + WSM_ID_PREFIX_SIZE + WSM_EPOCH_DIGITS + 1 + \
     WSM_SEQ_DIGITS + 2)

static const char *const outcome_names[WSM_OUTCOMES] = {
    "sent", "queued", "dropped", "failed", "stored"};

WsmEvent *
wsm_event_alloc(WsmState *state, size_t size, unsigned char **json)
{
    if (size > (size_t)state->settings.max_event_bytes) {
        PyErr_Format(state->errors.EventTooLarge,
                     "the event takes %zu bytes of JSON, max_event_bytes is "
                     "%zd: send a reference to the data instead",
                     size, state->settings.max_event_bytes);
        return NULL;
    }
    WsmEvent *event = PyObject_GC_New(WsmEvent, state->types.Event);
    if (event == NULL) {
        return NULL;
    }
    memset((char *)event + sizeof(PyObject), 0,
           sizeof(WsmEvent) - sizeof(PyObject));
    event->state = state;
    event->buffer = PyMem_RawMalloc(WSM_SLACK + size);
#ifndef WSM_PLANT_NOMEM_UNCHECKED
    if (event->buffer == NULL) {
        Py_DECREF(event);
        PyErr_NoMemory();
        return NULL;
    }
#endif
    event->json_at = WSM_SLACK;
    event->frame_at = WSM_SLACK;
    event->end = WSM_SLACK + size;
    *json = event->buffer + WSM_SLACK;
    return event;
}

WsmEvent *
wsm_event_new(WsmState *state, PyObject *json)
{
    if (!PyBytes_Check(json)) {
        PyErr_Format(PyExc_TypeError,
                     "the encoder must give bytes, not %.100s",
                     Py_TYPE(json)->tp_name);
        return NULL;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(json);
    const char *data = PyBytes_AS_STRING(json);
    if (size < 2 || data[0] != '{' || data[size - 1] != '}') {
        PyErr_SetString(state->errors.EncodeError,
                        "an event must be a JSON object (RFC 8259 "
                        "section 4)");
        return NULL;
    }
    unsigned char *body;
    WsmEvent *event = wsm_event_alloc(state, size, &body);
    if (event != NULL) {
        memcpy(body, data, size);
    }
    return event;
}

static void
event_header(WsmEvent *event)
{
    uint64_t length = event->end - event->json_at;
    event->frame_at = event->json_at - wsm_frame_header_size(length);
    wsm_frame_header(event->buffer + event->frame_at, WSM_OPCODE_TEXT, length);
}

void
wsm_event_stamp_plain(WsmEvent *event)
{
    event_header(event);
}

/* Backwards from the first member of the JSON, which loses its brace. */
void
wsm_event_stamp(WsmEvent *event, uint64_t epoch, uint64_t seq)
{
    unsigned char *at = event->buffer + WSM_SLACK + 1;
    uint64_t rest = seq;

    if (*at != '}') {
        *--at = ',';
    }
    *--at = '"';
    do {
        *--at = (unsigned char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    *--at = ':';
    for (int i = 0; i < WSM_EPOCH_DIGITS; i++) {
        *--at = (unsigned char)"0123456789abcdef"[(epoch >> (4 * i)) & 15];
    }
    at -= WSM_ID_PREFIX_SIZE;
    memcpy(at, WSM_ID_PREFIX, WSM_ID_PREFIX_SIZE);
    event->json_at = (size_t)(at - event->buffer);
    event->epoch = epoch;
    event->seq = seq;
    event->numbered = true;
    event_header(event);
}

PyObject *
wsm_event_text(WsmEvent *event)
{
    wsm_lock(&event->lock);
    PyObject *text = Py_XNewRef(event->text);
    wsm_unlock(&event->lock);
    if (text != NULL) {
        return text;
    }
    text = PyUnicode_DecodeUTF8((const char *)event->buffer + event->json_at,
                                (Py_ssize_t)(event->end - event->json_at),
                                "strict");
    if (text == NULL) {
        return NULL;
    }
    wsm_lock(&event->lock);
    if (event->text == NULL) {
        event->text = Py_NewRef(text);
    }
    wsm_unlock(&event->lock);
    return text;
}

PyObject *
wsm_event_id(WsmEvent *event)
{
    if (!event->numbered) {
        return Py_NewRef(Py_None);
    }
    const char *id =
        (const char *)event->buffer + event->json_at + WSM_ID_PREFIX_SIZE;
    const char *end = memchr(id, '"', WSM_EPOCH_DIGITS + 1 + WSM_SEQ_DIGITS);
    return PyUnicode_FromStringAndSize(id, end - id);
}

const unsigned char *
wsm_event_frame(const WsmEvent *event, size_t *size)
{
    *size = event->end - event->frame_at;
    return event->buffer + event->frame_at;
}

void
wsm_event_count(WsmEvent *event, WsmOutcome outcome, int32_t n)
{
    wsm_lock(&event->lock);
    event->tally[outcome] += n;
    wsm_unlock(&event->lock);
}

void
wsm_event_detail(WsmEvent *event, PyObject *connection_id, WsmOutcome outcome)
{
    if (event->detail == NULL) {
        return;
    }
    PyObject *saved = wsm_error_take();
    PyObject *name = PyUnicode_InternFromString(outcome_names[outcome]);
    if (name == NULL ||
        PyDict_SetItem(event->detail, connection_id, name) < 0) {
        wsm_unraisable((PyObject *)event);
    }
    Py_XDECREF(name);
    wsm_error_restore(saved);
}

void
wsm_event_settle(WsmEvent *event, PyObject *connection_id, WsmOutcome outcome)
{
    PyObject *waiters = NULL;

    wsm_lock(&event->lock);
    event->tally[WSM_QUEUED]--;
    event->tally[outcome]++;
    if (event->tally[WSM_QUEUED] == 0) {
        waiters = event->waiters;
        event->waiters = NULL;
    }
    wsm_unlock(&event->lock);
    wsm_event_detail(event, connection_id, outcome);
    wsm_waiters_wake(event->state, waiters, Py_True);
}

PyObject *
wsm_event_flushed(WsmEvent *event, PyObject *timeout)
{
    wsm_lock(&event->lock);
    bool queued = event->tally[WSM_QUEUED] > 0;
    wsm_unlock(&event->lock);
    if (!queued) {
        return wsm_waiters_done(event->state, Py_True);
    }
    PyObject *future = wsm_waiters_add(event->state, &event->waiters, timeout);
    if (future == NULL) {
        return NULL;
    }
    if (!PyObject_GC_IsTracked((PyObject *)event)) {
        PyObject_GC_Track(event);
    }
    wsm_lock(&event->lock);
    queued = event->tally[WSM_QUEUED] > 0;
    wsm_unlock(&event->lock);
    if (!queued) { /* it went between the two looks */
        PyObject *alone = PyList_New(1);
        if (alone == NULL) {
            Py_DECREF(future);
            return NULL;
        }
        PyList_SET_ITEM(alone, 0, Py_NewRef(future));
        wsm_waiters_wake(event->state, alone, Py_True);
    }
    return future;
}

static int
event_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmEvent *self = (WsmEvent *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->only);
    Py_VISIT(self->detail);
    Py_VISIT(self->waiters);
    return 0;
}

static int
event_clear(PyObject *op)
{
    WsmEvent *self = (WsmEvent *)op;
    Py_CLEAR(self->only);
    Py_CLEAR(self->detail);
    Py_CLEAR(self->waiters);
    return 0;
}

static void
event_dealloc(PyObject *op)
{
    WsmEvent *self = (WsmEvent *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    event_clear(op);
    Py_CLEAR(self->text);
    Py_CLEAR(self->thread_id);
    Py_CLEAR(self->key);
    PyMem_RawFree(self->buffer);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyType_Slot event_slots[] = {
    {Py_tp_dealloc, event_dealloc},
    {Py_tp_traverse, event_traverse},
    {Py_tp_clear, event_clear},
    {0, NULL},
};

PyType_Spec wsm_event_spec = {
    .name = "wsmanager._wsmanager.Event",
    .basicsize = sizeof(WsmEvent),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = event_slots,
};
