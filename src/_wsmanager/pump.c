/* Invariant: job `at` is the one whose send runs, if one does; those before
 * it are over, those after it have not begun. Connections without a context
 * share the blank one for as long as it is blank: a send that leaves something
 * in it, or suspends, keeps it as its connection's own. */
#include "pump.h"

#include "compat.h"
#include "counters.h"
#include "send.h"

#define WSM_PUMP_LEAST 4 /* jobs: for fewer it does not pay */
#define WSM_PUMP_SETTLE 32 /* sends that share one look at the clock */

typedef struct {
    WsmDrive *drive;
    WsmEvent *event; /* borrowed from the batch */
    uint8_t method; /* of the jobs that are its: one event's, live, to objects
                       whose send has been a coroutine before */
    WsmJob *at, *end;
    uint32_t sent; /* not settled yet */
    WsmConnection *running; /* job `at`'s, or NULL: no send runs */
    bool entered; /* its context */
    bool more; /* for some of them */
    PyObject *blank; /* owned or NULL: entered before any other */
    lenfunc blank_length;
} WsmPump;

/* What the package's coroutine goes through: the objects, one by one. */
typedef struct {
    PyObject_HEAD
    WsmPump *pump; /* borrowed; NULL when there is no more for it */
} WsmTurns;

static void
pump_settle(WsmPump *self)
{
    uint32_t sent = self->sent;

    if (sent == 0) {
        return;
    }
    self->sent = 0;
    wsm_add(&wsm_totals(self->drive->state)->generic, sent);
    wsm_event_written(self->event, sent, wsm_now_ns(), true);
    wsm_event_sent(self->event, (int32_t)sent);
}

/* Leave the blank context; if connection is not NULL, it is that one's. */
static void
pump_give(WsmPump *self, WsmConnection *connection)
{
    PyObject *saved = wsm_error_take(), *blank = self->blank;

    self->blank = NULL;
    if (PyContext_Exit(blank) < 0) {
        wsm_unraisable(self->drive->loop);
    }
    if (connection != NULL) {
        connection->context = blank;
    }
    else {
        Py_DECREF(blank);
    }
    wsm_error_restore(saved);
}

static bool
pump_is_blank(const WsmPump *self)
{
#ifdef WSM_PLANT_PUMP_BLANK
    return true;
#endif
    return self->blank_length(self->blank) == 0;
}

/* True if it is the connection's own that was entered. */
static inline bool
pump_enter(WsmPump *self, WsmConnection *connection)
{
#ifdef WSM_PLANT_PUMP_CONTEXT
    return false;
#endif
    if (connection->context != NULL &&
        PyObject_Size(connection->context) == 0) {
        Py_CLEAR(connection->context);
    }
    if (connection->context != NULL) {
        return wsm_send_enter(connection);
    }
    if (self->blank == NULL) {
        self->blank = PyContext_New();
        if (self->blank == NULL || PyContext_Enter(self->blank) < 0) {
            Py_CLEAR(self->blank);
            wsm_unraisable(self->drive->loop); /* the sends go on */
            return false;
        }
        self->blank_length = Py_TYPE(self->blank)->tp_as_mapping->mp_length;
    }
    return false;
}

/* Leave what was entered. suspended: the send is not over. */
static void
pump_exit(WsmPump *self, bool suspended)
{
    WsmConnection *connection = self->running;

    if (connection != NULL) {
        wsm_send_exit(connection, self->entered);
        self->entered = false;
    }
    if (self->blank != NULL) {
        bool own = connection != NULL && connection->context == NULL &&
                   (suspended || !pump_is_blank(self));
        pump_give(self, own ? connection : NULL);
    }
}

/* The connection's writer is done, unless more has come for it meanwhile. */
static inline void
pump_leave(WsmPump *self)
{
    WsmConnection *connection = self->running;

    wsm_lock(connection->lock);
    bool more = (connection->outbox.count > 0 || connection->gap != NULL) &&
                connection->open;
    connection->busy = more;
    wsm_unlock(connection->lock);
    if (more) {
        self->at->more = true;
        self->more = true;
    }
    self->running = NULL;
    self->at++;
}

/* Its send has ended, and no exception is set. */
static inline void
pump_sent(WsmPump *self)
{
    WsmConnection *connection = self->running;

    if (self->entered && PyContext_Exit(connection->context) < 0) {
        wsm_unraisable((PyObject *)connection);
    }
    self->entered = false;
    if (self->blank != NULL && connection->context == NULL &&
        !pump_is_blank(self)) {
        pump_give(self, connection);
    }
    connection->errors = 0;
    if (++self->sent == WSM_PUMP_SETTLE) {
        pump_settle(self);
    }
    pump_leave(self);
}

/* -- what the coroutine sees ---------------------------------------------- */

static PyObject *
turns_iternext(PyObject *op)
{
    WsmPump *pump = ((WsmTurns *)op)->pump;

    if (pump == NULL) {
        return NULL; /* the send that suspended is over, and it is all */
    }
    if (pump->running) {
        pump_sent(pump);
    }
    if (pump->at == pump->end || pump->at->pump != pump->method ||
        !wsm_drive_may_reuse(pump->drive)) {
        return NULL;
    }
    WsmConnection *connection = pump->at->connection;
    pump->entered = pump_enter(pump, connection);
    pump->running = connection;
    return Py_NewRef(connection->websocket);
}

static void
turns_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot turns_slots[] = {
    {Py_tp_dealloc, turns_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, turns_iternext},
    {0, NULL},
};

PyType_Spec wsm_turns_spec = {
    .name = "wsmanager._wsmanager.Turns",
    .basicsize = sizeof(WsmTurns),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = turns_slots,
};

/* -- a pump ---------------------------------------------------------------- */

static PyObject *
pump_function(const WsmState *state, WsmSendMethod method)
{
    switch (method) {
    case WSM_SEND_TEXT:
        return state->hooks.pump_send_text;
    case WSM_SEND_STR:
        return state->hooks.pump_send_str;
    case WSM_SEND:
        return state->hooks.pump_send;
    case WSM_SEND_JSON:
    case WSM_SEND_CALL:
        break;
    }
    return NULL;
}

/* The coroutine, not begun; NULL with an exception. */
static PyObject *
pump_coroutine(WsmPump *self, PyObject *function, WsmTurns **turns)
{
    PyTypeObject *type = self->drive->state->types.Turns;
    PyObject *coroutine = NULL;
    PyObject *text = wsm_event_text(self->event);

    *turns = text == NULL ? NULL : (WsmTurns *)type->tp_alloc(type, 0);
    if (*turns != NULL) {
        (*turns)->pump = self;
        PyObject *args[] = {(PyObject *)*turns, text};
        coroutine = PyObject_Vectorcall(function, args, 2, NULL);
        if (coroutine == NULL) {
            Py_CLEAR(*turns);
        }
    }
    Py_XDECREF(text);
    return coroutine;
}

/* Job `at` the plain way. */
static void
pump_one(WsmPump *self)
{
    WsmJob *job = self->at++;
    wsm_drive(self->drive, job->connection,
              (WsmEvent *)Py_NewRef((PyObject *)self->event));
}

/* The coroutine raised what is set. */
static void
pump_failed(WsmPump *self)
{
    if (self->running) {
        wsm_drive_failed(self->drive, self->running, self->event);
        pump_leave(self);
    }
    else if (self->drive->fatal == NULL &&
             !PyErr_ExceptionMatches(PyExc_Exception)) {
        self->drive->fatal = wsm_error_take(); /* between two sends */
    }
    else {
        wsm_unraisable(self->drive->loop);
    }
}

/* One coroutine: until a send suspends or raises, or all are done. */
static void
pump_run(WsmPump *self, PyObject *function)
{
    PyObject *result = NULL, *coroutine = NULL;
    const WsmJob *before = self->at;
    WsmTurns *turns = NULL;

    if (wsm_drive_prepare(self->drive) == 0) {
        coroutine = pump_coroutine(self, function, &turns);
    }
    if (coroutine == NULL) {
        wsm_unraisable(self->drive->loop);
        pump_one(self);
        return;
    }
    PySendResult how = PyIter_Send(coroutine, Py_None, &result);
    turns->pump = NULL;
    Py_DECREF(turns);
    pump_exit(self, how == PYGEN_NEXT);
    if (how == PYGEN_NEXT && self->running) {
        self->running = NULL;
        wsm_drive_suspend(self->drive, self->at->connection, self->event,
                          coroutine, result);
#ifndef WSM_PLANT_PUMP_TWICE
        self->at++;
#endif
        return;
    }
    if (how == PYGEN_ERROR) {
        pump_failed(self);
    }
    else if (self->running) {
        pump_sent(self); /* by a plain function, all of a sudden */
    }
    Py_XDECREF(result);
    Py_DECREF(coroutine);
    if (self->at == before) {
        pump_one(self); /* not one: see that it comes to an end */
    }
}

WsmJob *
wsm_pump(WsmDrive *drive, const WsmBatch *batch, WsmJob *job)
{
    WsmJob *end = batch->jobs + batch->job_count;
    if (job->pump == 0 || end - job < WSM_PUMP_LEAST) {
        return job;
    }
    WsmEvent *event = (WsmEvent *)batch->events[job->first];
    WsmPump pump = {.drive = drive,
                    .event = event,
                    .method = job->pump,
                    .at = job,
                    .end = end};
    PyObject *function = pump_function(drive->state, pump.method);
    if (function == NULL || event->detail != NULL ||
        job[WSM_PUMP_LEAST - 1].pump != pump.method) {
        return job;
    }
    while (pump.at < end && pump.at->pump == pump.method) {
        pump_run(&pump, function);
    }
    pump_settle(&pump);
    for (; pump.more && job < pump.at; job++) {
        if (job->more) {
            wsm_drive(drive, job->connection, NULL);
        }
    }
    return pump.at;
}
