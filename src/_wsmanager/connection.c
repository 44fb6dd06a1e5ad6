/* Invariant: an event is in the outbox at most once, in the order of its
 * seq; outbox_bytes is the sum of their sizes. */
#include "connection.h"

#include <string.h>
#include <time.h>

#include "compat.h"
#include "counters.h"

/* What inspect.iscoroutinefunction() says. */
static int
connection_is_async(PyObject *method)
{
    PyObject *inspect = PyImport_ImportModule("inspect"), *answer = NULL;
    if (inspect != NULL) {
        answer =
            PyObject_CallMethod(inspect, "iscoroutinefunction", "O", method);
        Py_DECREF(inspect);
    }
    int is = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return is;
}

/* The first usable method of those that are looked at; 0: none is. */
static int
connection_first_method(WsmState *state, PyObject *websocket, bool only_async)
{
    for (int i = WSM_SEND_TEXT; i <= WSM_SEND_JSON; i++) {
        PyObject *method;
        if (PyObject_GetOptionalAttr(websocket, wsm_send_name(state, i),
                                     &method) < 0) {
            return -1;
        }
        int usable = method != NULL && PyCallable_Check(method);
        if (usable && only_async) {
            usable = connection_is_async(method);
        }
        Py_XDECREF(method);
        if (usable != 0) {
            return usable < 0 ? -1 : i;
        }
    }
    return 0;
}

/* A mock has every method: the one meant is the one that can be awaited. */
static int
connection_mock_method(WsmState *state, PyObject *websocket)
{
    PyTypeObject *mock = wsm_loaded_type("unittest.mock", "NonCallableMock");
    int method = PyErr_Occurred() ? -1 : 0;
    if (mock != NULL && PyObject_TypeCheck(websocket, mock)) {
        method = connection_first_method(state, websocket, true);
    }
    Py_XDECREF(mock);
    return method;
}

static int
connection_method(WsmState *state, PyObject *websocket)
{
    int method = connection_mock_method(state, websocket);
    if (method == 0) {
        method = connection_first_method(state, websocket, false);
    }
    if (method != 0) {
        return method;
    }
    if (PyCallable_Check(websocket)) {
        return WSM_SEND_CALL;
    }
    PyErr_Format(PyExc_TypeError,
                 "%.100s cannot be a connection: an object with send_text, "
                 "send_str, send or send_json is expected (FastAPI, "
                 "Starlette, websockets and aiohttp sockets have one)",
                 Py_TYPE(websocket)->tp_name);
    return -1;
}

static double
connection_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A copy of the caller's contextvars; NULL if there are none. */
static int
connection_context(PyObject **context)
{
    *context = PyContext_CopyCurrent();
    Py_ssize_t count = *context == NULL ? -1 : PyObject_Size(*context);
    if (count <= 0) {
        Py_CLEAR(*context);
    }
    return count < 0 ? -1 : 0;
}

WsmConnection *
wsm_connection_new(WsmState *state, const WsmHome *home, PyObject *websocket,
                   PyObject *id, PyObject *thread_id, WsmChannel *channel)
{
    int method = connection_method(state, websocket);
    if (method < 0) {
        return NULL;
    }
    /* Other threads copy the id: its hash is not left for them to fill in. */
    if (PyObject_Hash(id) == -1) {
        return NULL;
    }
    PyObject *context;
    if (connection_context(&context) < 0) {
        return NULL;
    }
    PyTypeObject *type = state->types.Connection;
    WsmConnection *self = (WsmConnection *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(context);
        return NULL;
    }
    self->state = state;
    self->manager = (struct WsmManager *)Py_NewRef((PyObject *)home->manager);
    self->mailbox = (struct WsmMailbox *)Py_NewRef((PyObject *)home->mailbox);
    self->lock = home->lock;
    self->loop = home->loop;
    self->websocket = Py_NewRef(websocket);
    self->id = Py_NewRef(id);
    self->thread_id = Py_XNewRef(thread_id);
    self->context = context;
    self->channel = (WsmChannel *)Py_XNewRef((PyObject *)channel);
    self->method = (uint8_t)method;
    self->connected_at = connection_clock();
    return self;
}

bool
wsm_connection_wants_locked(const WsmConnection *self, const WsmEvent *event)
{
    if (!self->open) {
        return false;
    }
    if (event->single) {
        return event->only == (PyObject *)self;
    }
    if (event->thread_id != NULL) {
        return self->thread_id != NULL &&
               PyUnicode_Compare(self->thread_id, event->thread_id) == 0;
    }
    return true;
}

/* With no memory for the note the peer is told nothing; it has the numbers
 * of the events to see by. */
static void
connection_note_gap(WsmConnection *self, const WsmEvent *event)
{
    WsmGap *gap = self->gap;

    if (!event->numbered) {
        return;
    }
    if (gap == NULL) {
        gap = PyMem_RawCalloc(1, sizeof(WsmGap));
        if (gap == NULL) {
            return;
        }
        self->gap = gap;
    }
    if (gap->count == 0 || event->seq < gap->first) {
        gap->first = event->seq;
    }
    if (event->seq > gap->last) {
        gap->last = event->seq;
    }
    gap->epoch = event->epoch;
    gap->count++;
}

static void
connection_count_drop(WsmConnection *self, const WsmEvent *event,
                      WsmAction action)
{
    wsm_add(&wsm_counters(self->state)->dropped[action][event->kind], 1);
}

static void
connection_displace(WsmConnection *self, uint32_t at, WsmRefList *dropped,
                    WsmAction action)
{
    WsmEvent *event = (WsmEvent *)wsm_ring_take(&self->outbox, at);
    connection_count_drop(self, event, action);
    self->outbox_bytes -= wsm_event_size(event);
    connection_note_gap(self, event);
    wsm_reflist_park_pair(dropped, (PyObject *)self, (PyObject *)event);
}

static bool
connection_fits(const WsmConnection *self, size_t size)
{
    const WsmSettings *settings = &self->state->settings;
#ifdef WSM_PLANT_NO_LIMIT
    return settings != NULL || size > 0;
#endif
    return self->outbox.count == 0 ||
           ((Py_ssize_t)self->outbox.count < settings->outbox_max_events &&
            self->outbox_bytes + size <= (size_t)settings->outbox_max_bytes);
}

/* Make room by dropping the oldest events that may be dropped. */
static bool
connection_make_room(WsmConnection *self, size_t size, WsmRefList *dropped)
{
    uint32_t at = 0;
    while (at < self->outbox.count && !connection_fits(self, size)) {
        WsmEvent *event = (WsmEvent *)wsm_ring_peek(&self->outbox, at);
        if (event->critical) {
            at++;
        }
        else {
            connection_displace(self, at, dropped, WSM_ACTION_drop_oldest);
        }
    }
    return connection_fits(self, size);
}

/* An older event of the same key gives way: the latest state wins. */
static void
connection_coalesce(WsmConnection *self, const WsmEvent *event,
                    WsmRefList *dropped)
{
    for (uint32_t i = 0; i < self->outbox.count; i++) {
        WsmEvent *old = (WsmEvent *)wsm_ring_peek(&self->outbox, i);
        if (old->key != NULL && !old->critical &&
            PyUnicode_Compare(old->key, event->key) == 0) {
            connection_displace(self, i, dropped, WSM_ACTION_coalesce);
            wsm_add(&wsm_counters(self->state)->slow[WSM_ACTION_coalesce], 1);
            return;
        }
    }
}

static WsmOutcome
connection_drop_newest(WsmConnection *self, const WsmEvent *event)
{
    connection_note_gap(self, event);
    connection_count_drop(self, event, WSM_ACTION_drop_newest);
    wsm_add(&wsm_counters(self->state)->slow[WSM_ACTION_drop_newest], 1);
    return WSM_DROPPED;
}

WsmOutcome
wsm_connection_push_locked(WsmConnection *self, WsmEvent *event,
                           WsmRefList *dropped)
{
    WsmSlowPolicy policy = self->state->settings.slow_policy;
    size_t size = wsm_event_size(event);

    if (event->key != NULL && policy == WSM_SLOW_COALESCE) {
        connection_coalesce(self, event, dropped);
    }
    if (!connection_fits(self, size)) {
        if (policy == WSM_SLOW_CLOSE) {
            return WSM_FAILED;
        }
        if (policy == WSM_SLOW_DROP_NEWEST && !event->critical) {
            return connection_drop_newest(self, event);
        }
        wsm_add(&wsm_counters(self->state)->slow[WSM_ACTION_drop_oldest], 1);
        if (!connection_make_room(self, size, dropped)) {
            return event->critical ? WSM_FAILED
                                   : connection_drop_newest(self, event);
        }
    }
    if (wsm_ring_push(&self->outbox, (PyObject *)event) < 0) {
        return WSM_FAILED;
    }
    Py_INCREF(event); /* now the ring's */
    self->outbox_bytes += size;
    return WSM_QUEUED;
}

/* How long the event has waited; age: how long the connection has been there,
 * before which nothing that came by a resume can have waited for it. */
static int64_t
connection_waited(const WsmConnection *self, const WsmEvent *event,
                  int64_t now, int64_t age)
{
    int64_t waited = event->emitted_at == 0 ? 0 : now - event->emitted_at;
    bool replayed = event->numbered && event->seq <= self->replayed_to;
    return replayed && age < waited ? age : waited;
}

/* The first that was emitted has waited for longest. */
bool
wsm_connection_expire(WsmConnection *self, int64_t now, int64_t most,
                      WsmRefList *dropped)
{
    WsmSlowPolicy policy = self->state->settings.slow_policy;
    int64_t age = (int64_t)(wsm_connection_age(self) * 1e9);
    uint64_t *slow = &wsm_counters(self->state)->slow[WSM_ACTION_drop_oldest];
    bool within = true, some = false;
    uint32_t at = 0;

    wsm_lock(self->lock);
    while (within && at < self->outbox.count) {
        WsmEvent *event = (WsmEvent *)wsm_ring_peek(&self->outbox, at);
        if (event->emitted_at == 0) {
            at++; /* not an emitted one */
        }
        else if (connection_waited(self, event, now, age) <= most) {
            break;
        }
        else if (policy == WSM_SLOW_CLOSE || event->critical) {
            within = false;
        }
        else {
            connection_displace(self, at, dropped, WSM_ACTION_drop_oldest);
            some = true;
        }
    }
    wsm_unlock(self->lock);
    wsm_add(slow, some);
    return within;
}

WsmEvent *
wsm_connection_pop_locked(WsmConnection *self)
{
#ifdef WSM_PLANT_LIFO
    if (self->outbox.count > 1) {
        PyObject *last = wsm_ring_take(&self->outbox, self->outbox.count - 1);
        self->outbox_bytes -= wsm_event_size((WsmEvent *)last);
        return (WsmEvent *)last;
    }
#endif
    WsmEvent *event = (WsmEvent *)wsm_ring_pop(&self->outbox);
    if (event != NULL) {
        self->outbox_bytes -= wsm_event_size(event);
        if (self->outbox.count == 0) {
            wsm_ring_release(&self->outbox);
        }
    }
    return event;
}

int
wsm_connection_unpop_locked(WsmConnection *self, WsmEvent *event)
{
    if (wsm_ring_push_front(&self->outbox, (PyObject *)event) < 0) {
        return -1;
    }
    self->outbox_bytes += wsm_event_size(event);
    return 0;
}

void
wsm_connection_empty_locked(WsmConnection *self, WsmRefList *dropped)
{
    WsmEvent *event;
    while ((event = wsm_connection_pop_locked(self)) != NULL) {
        wsm_reflist_park_pair(dropped, (PyObject *)self, (PyObject *)event);
    }
}

void
wsm_connection_settle(WsmConnection *self, WsmEvent *event, WsmOutcome outcome,
                      const char *reason)
{
    if (!event->numbered || event->seq > self->replayed_to) {
        wsm_event_settle(event, self->id, outcome, reason);
    }
}

void
wsm_connection_sent(WsmConnection *self, WsmEvent *event, int64_t now)
{
    wsm_event_written(event, 1, now,
                      event->numbered && event->seq > self->replayed_to);
    wsm_connection_settle(self, event, WSM_SENT, NULL);
}

bool
wsm_connection_gap_is_due_locked(const WsmConnection *self)
{
    const WsmGap *gap = self->gap;
    return gap != NULL &&
           (self->outbox.count == 0 ||
            ((WsmEvent *)wsm_ring_peek(&self->outbox, 0))->seq > gap->first);
}

WsmEvent *
wsm_connection_gap(WsmConnection *self)
{
    wsm_lock(self->lock);
    WsmGap *gap = self->gap;
    self->gap = NULL;
    wsm_unlock(self->lock);
    if (gap == NULL) {
        return NULL;
    }
    char text[256];
    PyOS_snprintf(
        text, sizeof(text),
        "{\"type\":\"gap\",\"payload\":{\"dropped\":%llu,"
        "\"first\":\"%016llx:%llu\",\"last\":\"%016llx:%llu\"}}",
        (unsigned long long)gap->count, (unsigned long long)gap->epoch,
        (unsigned long long)gap->first, (unsigned long long)gap->epoch,
        (unsigned long long)gap->last);
    PyMem_RawFree(gap);
    PyObject *json = PyBytes_FromString(text);
    if (json == NULL) {
        return NULL;
    }
    WsmEvent *event = wsm_event_new(self->state, json);
    Py_DECREF(json);
    if (event != NULL) {
        wsm_event_stamp_plain(event);
    }
    return event;
}

void
wsm_connection_set_driver(WsmConnection *self, PyObject *driver)
{
    wsm_lock(self->lock);
    PyObject *old = self->driver;
    self->driver = Py_XNewRef(driver);
    wsm_unlock(self->lock);
    Py_XDECREF(old);
}

PyObject *
wsm_connection_get_driver(WsmConnection *self)
{
    wsm_lock(self->lock);
    PyObject *driver = Py_XNewRef(self->driver);
    wsm_unlock(self->lock);
    return driver;
}

uint32_t
wsm_connection_waiting(WsmConnection *self)
{
    wsm_lock(self->lock);
    uint32_t count = self->outbox.count;
    wsm_unlock(self->lock);
    return count;
}

double
wsm_connection_age(const WsmConnection *self)
{
    return connection_clock() - self->connected_at;
}

const char *
wsm_connection_channel_name(const WsmConnection *self)
{
    return self->channel == NULL ? "generic" : "direct";
}

int
wsm_connection_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmConnection *self = (WsmConnection *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->manager);
    Py_VISIT(self->mailbox);
#ifndef WSM_PLANT_NO_VISIT
    Py_VISIT(self->websocket);
#endif
    Py_VISIT(self->metadata);
    Py_VISIT(self->context);
    Py_VISIT(self->channel);
    Py_VISIT(self->driver);
    for (uint32_t i = 0; i < self->outbox.count; i++) {
        Py_VISIT(wsm_ring_peek(&self->outbox, i));
    }
    return 0;
}

int
wsm_connection_clear(PyObject *op)
{
    WsmConnection *self = (WsmConnection *)op;
    PyObject *event;
    while ((event = wsm_ring_pop(&self->outbox)) != NULL) {
        Py_DECREF(event);
    }
    wsm_ring_release(&self->outbox);
    PyMem_RawFree(self->gap);
    self->gap = NULL;
    Py_CLEAR(self->websocket);
    Py_CLEAR(self->metadata);
    Py_CLEAR(self->context);
    Py_CLEAR(self->channel);
    Py_CLEAR(self->driver);
    return 0;
}

void
wsm_connection_dealloc(PyObject *op)
{
    WsmConnection *self = (WsmConnection *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    wsm_connection_clear(op);
    Py_CLEAR(self->mailbox);
    Py_CLEAR(self->manager);
    Py_CLEAR(self->id);
    Py_CLEAR(self->thread_id);
    type->tp_free(op);
    Py_DECREF(type);
}
