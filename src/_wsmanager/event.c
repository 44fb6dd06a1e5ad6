/* Invariant: once stamped, the bytes never change; tally[WSM_QUEUED] is the
 * number of connections that still have it in their outbox. */
#include "event.h"

#include <string.h>

#include "compat.h"
#include "counters.h"
#include "frame.h"
#include "position.h"
#include "waiters.h"

#define WSM_ID_PREFIX "{\"id\":\""
#define WSM_ID_PREFIX_SIZE 7
/* Header, prefix, position, closing quote, comma. */
#define WSM_SLACK \
    (WSM_FRAME_HEADER_MAX + WSM_ID_PREFIX_SIZE + WSM_POSITION_MAX + 2)

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
#ifdef WSM_PLANT_OOB
    event->buffer = PyMem_RawMalloc(WSM_SLACK + size - 1);
#else
    event->buffer = PyMem_RawMalloc(WSM_SLACK + size);
#endif
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
wsm_event_stamp(WsmEvent *event, uint64_t epoch, uint64_t seq, int64_t now)
{
    const WsmPosition position = {epoch, seq};
    char id[WSM_POSITION_MAX];
    size_t size = wsm_position_write(&position, id);
    unsigned char *at = event->buffer + WSM_SLACK + 1;

    if (*at != '}') {
        *--at = ',';
    }
    *--at = '"';
    at -= size;
    memcpy(at, id, size);
    at -= WSM_ID_PREFIX_SIZE;
    memcpy(at, WSM_ID_PREFIX, WSM_ID_PREFIX_SIZE);
    event->json_at = (size_t)(at - event->buffer);
    event->epoch = epoch;
    event->seq = seq;
    event->emitted_at = now;
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
    const char *end = memchr(id, '"', WSM_POSITION_MAX + 1);
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
#ifdef WSM_PLANT_RACE
    event->tally[outcome] += n;
    return;
#endif
    wsm_lock(&event->lock);
    event->tally[outcome] += n;
    wsm_unlock(&event->lock);
    if (outcome == WSM_FAILED) {
        wsm_add(&wsm_counters(event->state)->failed[event->kind], (uint64_t)n);
    }
}

static int
event_note(PyObject *dict, PyObject *connection_id, const char *text)
{
    PyObject *name = PyUnicode_InternFromString(text);
    int result = name == NULL ? -1 : PyDict_SetItem(dict, connection_id, name);
    Py_XDECREF(name);
    return result;
}

void
wsm_event_detail(WsmEvent *event, PyObject *connection_id, WsmOutcome outcome,
                 const char *reason)
{
    if (event->detail == NULL) {
        return;
    }
    PyObject *saved = wsm_error_take();
    if (event_note(event->detail, connection_id, outcome_names[outcome]) < 0 ||
        (reason != NULL &&
         event_note(event->reasons, connection_id, reason) < 0)) {
        wsm_unraisable((PyObject *)event);
    }
    wsm_error_restore(saved);
}

/* n of those that had it queued are done with it; gives (owned) who waits
 * for that, if they were the last. */
static PyObject *
event_move(WsmEvent *event, WsmOutcome outcome, int32_t n)
{
    PyObject *waiters = NULL, *text = NULL;

    wsm_lock(&event->lock);
    event->tally[WSM_QUEUED] -= n;
    event->tally[outcome] += n;
    if (event->tally[WSM_QUEUED] == 0) {
        waiters = event->waiters;
        event->waiters = NULL;
        text = event->text; /* who keeps the event keeps the bytes only */
        event->text = NULL;
    }
    wsm_unlock(&event->lock);
    Py_XDECREF(text);
    return waiters;
}

void
wsm_event_written(WsmEvent *event, uint32_t n, int64_t now, bool timed)
{
    WsmCounters *counters = wsm_counters(event->state);

    wsm_add(&counters->totals.sent, n);
    wsm_add(&counters->sent[event->kind], n);
    if (timed) {
        wsm_histogram_add(&counters->emit_to_write, now - event->emitted_at,
                          n);
    }
}

void
wsm_event_sent(WsmEvent *event, int32_t n)
{
    wsm_waiters_wake(event->state, event_move(event, WSM_SENT, n), Py_True);
}

void
wsm_event_settle(WsmEvent *event, PyObject *connection_id, WsmOutcome outcome,
                 const char *reason)
{
    PyObject *waiters = event_move(event, outcome, 1);

    if (outcome == WSM_FAILED) {
        wsm_add(&wsm_counters(event->state)->failed[event->kind], 1);
    }
    wsm_event_detail(event, connection_id, outcome, reason);
    wsm_waiters_wake(event->state, waiters, Py_True);
}

static bool
event_is_flushed(WsmEvent *event)
{
    wsm_lock(&event->lock);
    bool queued = event->tally[WSM_QUEUED] > 0;
    wsm_unlock(&event->lock);
    return !queued;
}

static bool
event_is_answered(WsmEvent *event)
{
    wsm_lock(&event->lock);
    bool answered = event->acked || event->forgotten || !event->ack;
    wsm_unlock(&event->lock);
    return answered;
}

/* A future of the application leads anywhere, back to the event too; before
 * there was one nothing did. Of two threads one tracks it. */
static void
event_track(WsmEvent *event)
{
    wsm_lock(&event->lock);
    bool tracked = event->tracked;
    event->tracked = true;
    wsm_unlock(&event->lock);
    if (!tracked) {
        PyObject_GC_Track(event);
    }
}

static PyObject *
event_left(PyObject *wait, PyObject *future)
{
    WsmEvent *event = (WsmEvent *)PyTuple_GET_ITEM(wait, 0);
    return wsm_waiters_left(event->state, &event->lock, &event->waiters, wait,
                            future);
}

static PyObject *
event_ack_left(PyObject *wait, PyObject *future)
{
    WsmEvent *event = (WsmEvent *)PyTuple_GET_ITEM(wait, 0);
    return wsm_waiters_left(event->state, &event->lock, &event->ack_waiters,
                            wait, future);
}

/* A future in a list, which is woken when over() has become true. */
static PyObject *
event_wait(WsmEvent *event, PyObject **list, PyMethodDef *left,
           PyObject *timeout, bool (*over)(WsmEvent *), const bool *value)
{
    if (over(event)) {
        return wsm_waiters_done(event->state, *value ? Py_True : Py_False);
    }
    const WsmWaiters where = {(PyObject *)event, list, &event->lock, left};
    PyObject *future = wsm_waiters_add(event->state, &where, timeout);
    if (future == NULL) {
        return NULL;
    }
    event_track(event);
    if (over(event)) { /* it came between the two looks */
        wsm_waiters_wake(event->state, wsm_waiters_take(&event->lock, list),
                         *value ? Py_True : Py_False);
    }
    return future;
}

PyObject *
wsm_event_flushed(WsmEvent *event, PyObject *timeout)
{
    static const bool yes = true;
    static PyMethodDef left = {"left", event_left, METH_O, NULL};
    return event_wait(event, &event->waiters, &left, timeout, event_is_flushed,
                      &yes);
}

PyObject *
wsm_event_acked(WsmEvent *event, PyObject *timeout)
{
    static PyMethodDef left = {"left", event_ack_left, METH_O, NULL};
    return event_wait(event, &event->ack_waiters, &left, timeout,
                      event_is_answered, &event->acked);
}

bool
wsm_event_acknowledge(WsmEvent *event, bool acked)
{
    wsm_lock(&event->lock);
    bool open = event->ack && !event->acked && !event->forgotten;
    PyObject *waiters = open ? event->ack_waiters : NULL;
    if (open) {
        event->ack_waiters = NULL;
        event->acked = acked;
        event->forgotten = !acked;
    }
    wsm_unlock(&event->lock);
    wsm_waiters_wake(event->state, waiters, acked ? Py_True : Py_False);
    return open;
}

static int
event_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmEvent *self = (WsmEvent *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->only);
    Py_VISIT(self->detail);
    Py_VISIT(self->reasons);
    Py_VISIT(self->waiters);
    Py_VISIT(self->ack_waiters);
    return 0;
}

static int
event_clear(PyObject *op)
{
    WsmEvent *self = (WsmEvent *)op;
    Py_CLEAR(self->only);
    Py_CLEAR(self->detail);
    Py_CLEAR(self->reasons);
    Py_CLEAR(self->waiters);
    Py_CLEAR(self->ack_waiters);
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
#ifndef WSM_PLANT_LEAK
    PyMem_RawFree(self->buffer);
#endif
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
