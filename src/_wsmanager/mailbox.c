/* Invariant: while the list is not empty and the loop is not closed, a turn
 * is on its way: armed, or lingering if only other threads have posted; or
 * the list is unarmed, and the next emit to any of it arms. */
#include "mailbox.h"

#include <time.h>

#include "compat.h"
#include "counters.h"
#include "loop.h"
#include "wire.h"

#define WSM_LINGER_NS 1000000
#define WSM_BURST 3 /* events found at once */
#define WSM_LONE_TURNS 4 /* so many end the bursts */
#define WSM_ALONE 8 /* turns with one event: so will be the next */
#define WSM_UNASKED 7 /* sends, then one asks again */
#define WSM_ARMED_TRUST 1000000 /* ns: then ask whether the loop lives */

WsmMailbox *
wsm_mailbox_of(WsmState *state, PyObject *mailboxes, PyObject *loop)
{
    PyObject *key = PyLong_FromVoidPtr(loop);
    PyObject *found = NULL;
    WsmMailbox *self = NULL;

    if (key == NULL) {
        return NULL;
    }
    if (PyDict_GetItemRef(mailboxes, key, &found) != 0) {
        goto done;
    }
    PyTypeObject *type = state->types.Mailbox;
    self = (WsmMailbox *)type->tp_alloc(type, 0);
    if (self == NULL) {
        goto done;
    }
    self->state = state;
    self->turn = 1;
    self->loop = Py_NewRef(loop);
    self->context = PyContext_New();
    if (self->context == NULL ||
        wsm_loop_find_waker(state, loop, &self->waker) < 0) {
        goto done;
    }
    if (wsm_dict_claim(mailboxes, key, (PyObject *)self, &found) < 0) {
        Py_CLEAR(found);
    }
done:
    Py_XDECREF(self);
    Py_DECREF(key);
    return (WsmMailbox *)found;
}

void
wsm_post_add(WsmPost *post, WsmConnection *connection)
{
    connection->wake_next = NULL;
    if (post->tail == NULL) {
        post->head = connection;
    }
    else {
        post->tail->wake_next = connection;
    }
    post->tail = connection;
}

/* loop.<name>(self, context=...): the caller's context is not our callback's
 * business. */
static bool
mailbox_call(WsmMailbox *self, PyObject *name, bool *struck)
{
    PyObject *args[] = {self->loop, (PyObject *)self, self->context};
    PyObject *handle = wsm_loop_call(self->state, name, args, 2, struck);

    Py_XDECREF(handle);
    return handle != NULL;
}

/* Whether it can be woken without being let run. */
static bool
mailbox_is_quiet(const WsmMailbox *self)
{
    return WSM_HAS_GIL && self->waker != NULL;
}

/* What call_soon_threadsafe() does, without letting go of the GIL: asyncio
 * does so when it writes to the socket, the loop takes it, and the rest of a
 * burst finds that the loop must be woken again, and again waits for it. The
 * socket's number is asked for last: while call_soon() runs, another thread
 * may close the loop, and the number be another socket's. */
static bool
mailbox_wake_quietly(WsmMailbox *self, bool *struck)
{
    if (!wsm_loop_is_lenient(self->state, self->loop, struck)) {
        return false;
    }
#ifdef WSM_PLANT_STALE_WAKER
    int stale = wsm_loop_waker_fd(self->waker);
#endif
    if (!mailbox_call(self, self->state->names.call_soon, struck)) {
        PyErr_Clear(); /* of a closed loop: call_soon_threadsafe() says so */
        return false;
    }
    int fd = wsm_loop_waker_fd(self->waker);
#ifdef WSM_PLANT_STALE_WAKER
    fd = stale;
#endif
    return fd >= 0 && wsm_wire_wake(fd);
}

static void
mailbox_append_locked(WsmMailbox *self, WsmPost *post)
{
    if (self->tail == NULL) {
        self->head = post->head;
    }
    else {
        self->tail->wake_next = post->head;
    }
    self->tail = post->tail;
}

/* The call that should have armed failed: closed loop, or no memory. True if
 * it is the former. */
static bool
mailbox_not_armed(WsmMailbox *self, bool *struck)
{
    PyObject *saved = wsm_error_take();
    bool closed = wsm_loop_is_closed(self->state, self->loop, struck);

    wsm_lock(&self->lock);
    self->armed = false;
    self->dead = self->dead || closed;
    self->unarmed = self->head != NULL && !closed;
    wsm_unlock(&self->lock);
    if (closed || saved == NULL) {
        Py_XDECREF(saved);
    }
    else {
        wsm_error_restore(saved);
        wsm_unraisable((PyObject *)self);
    }
    return closed;
}

typedef enum {
    MAILBOX_ARMED,
    MAILBOX_UNARMED, /* for now */
    MAILBOX_CLOSED,
} MailboxArm;

/* Let the loop turn; self->armed is the caller's already. */
static MailboxArm
mailbox_arm(WsmMailbox *self, bool here, bool quietly)
{
    const WsmState *state = self->state;
    MailboxArm result = MAILBOX_ARMED;
    bool struck = false;

    if (!(quietly && mailbox_wake_quietly(self, &struck)) &&
        !mailbox_call(
            self,
            here ? state->names.call_soon : state->names.call_soon_threadsafe,
            &struck)) {
        result = mailbox_not_armed(self, &struck) ? MAILBOX_CLOSED
                                                  : MAILBOX_UNARMED;
    }
    wsm_loop_interrupt(struck);
    return result;
}

void
wsm_mailbox_ask(WsmMailbox *self)
{
    wsm_lock(&self->lock);
    bool arm = !self->armed && !self->dead;
    self->armed = self->armed || arm;
    bool comes = self->armed;
    wsm_unlock(&self->lock);
    if (arm && mailbox_arm(self, true, false) != MAILBOX_ARMED) {
        comes = false;
    }
    self->asked = comes;
    if (!comes) {
        self->turn++; /* then nothing waits for its end */
    }
}

static bool
mailbox_is_alive_at(WsmMailbox *self, int64_t now)
{
    wsm_lock(&self->lock);
    bool arm = self->unarmed && !self->armed && !self->dead;
    bool ask = !self->dead && now - self->armed_at > WSM_ARMED_TRUST;
    if (arm || ask) {
        self->armed_at = now;
    }
    self->armed = self->armed || arm;
    self->unarmed = self->unarmed && !arm;
    wsm_unlock(&self->lock);
    if (arm) {
        (void)mailbox_arm(self, false, false);
    }
    if (ask) {
        bool struck = false;
        bool closed = wsm_loop_is_closed(self->state, self->loop, &struck);
        wsm_lock(&self->lock);
        self->dead = self->dead || closed;
        wsm_unlock(&self->lock);
        wsm_loop_interrupt(struck);
    }
    wsm_lock(&self->lock);
    bool alive = !self->dead;
    wsm_unlock(&self->lock);
    return alive;
}

bool
wsm_mailbox_is_alive(WsmMailbox *self)
{
    return mailbox_is_alive_at(self, wsm_now_ns());
}

bool
wsm_mailbox_post(WsmMailbox *self, WsmPost *post, bool here)
{
    if (post->head == NULL) {
        return true;
    }
    int64_t now = here ? 0 : wsm_now_ns(); /* of no use to our own turn */
    if (!here && !mailbox_is_alive_at(self, now)) {
        return false;
    }
    wsm_lock(&self->lock);
    if (self->dead) {
        wsm_unlock(&self->lock);
        return false;
    }
    bool arm = !self->armed && (here || !self->lingering);
    bool quietly = !here && self->bursts && mailbox_is_quiet(self);
    self->foreign = self->foreign || !here;
    if (arm) {
        self->armed = true;
        self->armed_at = now;
        self->unarmed = false;
    }
    mailbox_append_locked(self, post);
    wsm_unlock(&self->lock);
#ifdef WSM_PLANT_LOST_WAKEUP
    wsm_add(&wsm_totals(self->state)->wakeups, !here);
    if (!here && wsm_read(&wsm_totals(self->state)->wakeups) % 3 == 0) {
        return true;
    }
#endif
    if (arm) {
        if (!here) {
            wsm_add(&wsm_totals(self->state)->wakeups, 1);
        }
        if (mailbox_arm(self, here, quietly) == MAILBOX_CLOSED) {
            *post = wsm_mailbox_take(self);
            return false;
        }
    }
#ifdef WSM_PLANT_EMIT_WAITS
    for (int i = 0; !here && self->head != NULL && i < 3000; i++) {
        Py_BEGIN_ALLOW_THREADS
            nanosleep(&(struct timespec){0, 1000000}, NULL);
        Py_END_ALLOW_THREADS
    }
#endif
    return true;
}

WsmPost
wsm_mailbox_take(WsmMailbox *self)
{
    WsmPost post;
    wsm_lock(&self->lock);
    post.head = self->head;
    post.tail = self->tail;
    self->head = NULL;
    self->tail = NULL;
    self->armed = false;
    self->unarmed = false;
    wsm_unlock(&self->lock);
    return post;
}

/* loop.call_later(seconds, self.<name>, context=...) */
static PyObject *
mailbox_later(WsmMailbox *self, int64_t ns, const char *name, bool *struck)
{
    WsmState *state = self->state;
    PyObject *delay = PyFloat_FromDouble((double)ns / 1e9);
    PyObject *method = PyObject_GetAttrString((PyObject *)self, name);
    PyObject *handle = NULL;

    if (delay != NULL && method != NULL) {
        PyObject *args[] = {self->loop, delay, method, self->context};
        handle =
            wsm_loop_call(state, state->names.call_later, args, 3, struck);
    }
    Py_XDECREF(delay);
    Py_XDECREF(method);
    return handle;
}

/* The same; NULL on failure, which is written as unraisable. An interrupt is
 * set again. */
static PyObject *
mailbox_later_anyway(WsmMailbox *self, int64_t ns, const char *name)
{
    PyObject *saved = wsm_error_take();
    bool struck = false;
    PyObject *handle = mailbox_later(self, ns, name, &struck);
    if (PyErr_Occurred()) {
        wsm_unraisable((PyObject *)self);
    }
    wsm_loop_interrupt(struck);
    wsm_error_restore(saved);
    return handle;
}

/* The rest of a burst needs no wake-up: a turn comes for it. */
static void
mailbox_linger(WsmMailbox *self)
{
    PyObject *handle = mailbox_later_anyway(self, WSM_LINGER_NS, "_linger");
    if (handle == NULL) {
        wsm_lock(&self->lock);
        self->lingering = false;
        self->unarmed = self->head != NULL && !self->armed;
        wsm_unlock(&self->lock);
    }
    Py_XDECREF(handle);
}

void
wsm_mailbox_turned(WsmMailbox *self, uint64_t events)
{
    self->turn++;
    if (self->asked) {
        self->asked = false;
        self->alone = events > 0 ? 0 : (uint8_t)(self->alone + 1);
        self->unasked = 0;
        if (self->alone >= WSM_ALONE) {
            self->alone = WSM_ALONE;
            self->unasked = WSM_UNASKED;
        }
    }
    wsm_lock(&self->lock);
    if (self->foreign) {
        self->bursts = self->bursts || events >= WSM_BURST;
        self->lone = events > 1 ? 0 : (uint8_t)(self->lone + 1);
        if (self->lone >= WSM_LONE_TURNS) {
            self->lone = 0;
            self->bursts = false;
        }
    }
    bool linger = self->foreign && self->bursts && !mailbox_is_quiet(self) &&
                  !self->lingering && !self->dead;
    self->foreign = false;
    self->lingering = self->lingering || linger;
    wsm_unlock(&self->lock);
    if (linger) {
        mailbox_linger(self);
    }
}

void
wsm_mailbox_schedule(WsmMailbox *self, int64_t ns)
{
    PyObject *saved = wsm_error_take();
    PyObject *result = self->timer == NULL
                           ? Py_NewRef(Py_None)
                           : PyObject_CallMethodNoArgs(
                                 self->timer, self->state->names.cancel);
    if (result == NULL) {
        wsm_unraisable(self->timer);
    }
    Py_XDECREF(result);
    wsm_error_restore(saved);
    self->tick = ns;
    Py_XSETREF(self->timer, mailbox_later_anyway(self, ns, "_tick"));
}

/* loop.call_soon_threadsafe(self._look) */
static int
mailbox_look_soon(WsmMailbox *self)
{
    WsmState *state = self->state;
    PyObject *method = PyObject_GetAttrString((PyObject *)self, "_look");
    PyObject *handle = NULL;

    if (method != NULL) {
        handle = PyObject_CallMethodOneArg(
            self->loop, state->names.call_soon_threadsafe, method);
        Py_DECREF(method);
    }
    if (handle == NULL && PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        PyErr_Clear(); /* a closed loop looks at nothing any more */
        return 0;
    }
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 1;
}

int
wsm_mailbox_look_later(WsmMailbox *self, int64_t ns, bool here)
{
    if (!here) {
        return mailbox_look_soon(self);
    }
    PyObject *handle = mailbox_later(self, ns, "_look", NULL);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 1;
}

void
wsm_mailbox_watch(WsmMailbox *self, WsmConnection *connection)
{
    if (!connection->watched) {
        connection->watched = true;
        connection->watch_prev = NULL;
        connection->watch_next = self->watched;
        if (self->watched != NULL) {
            self->watched->watch_prev = connection;
        }
        self->watched = (WsmConnection *)Py_NewRef((PyObject *)connection);
    }
}

void
wsm_mailbox_unwatch(WsmMailbox *self, WsmConnection *connection)
{
    if (!connection->watched) {
        return;
    }
    if (connection->watch_prev == NULL) {
        self->watched = connection->watch_next;
    }
    else {
        connection->watch_prev->watch_next = connection->watch_next;
    }
    if (connection->watch_next != NULL) {
        connection->watch_next->watch_prev = connection->watch_prev;
    }
    connection->watched = false;
    connection->watch_next = NULL;
    Py_DECREF(connection);
}

static PyObject *
mailbox_turn(PyObject *op, PyObject *Py_UNUSED(args),
             PyObject *Py_UNUSED(kwargs))
{
    if (((WsmMailbox *)op)->state->on_turn(op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
mailbox_tick(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    WsmMailbox *self = (WsmMailbox *)op;
    Py_CLEAR(self->timer);
    if (self->state->on_tick(op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
mailbox_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmMailbox *self = (WsmMailbox *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->context);
    Py_VISIT(self->waker);
    Py_VISIT(self->timer);
    for (WsmConnection *c = self->head; c != NULL; c = c->wake_next) {
        Py_VISIT(c);
    }
    for (WsmConnection *c = self->watched; c != NULL; c = c->watch_next) {
        Py_VISIT(c);
    }
    return 0;
}

static int
mailbox_clear(PyObject *op)
{
    WsmMailbox *self = (WsmMailbox *)op;
    WsmConnection *posted = self->head, *watched = self->watched;

    self->head = NULL;
    self->tail = NULL;
    self->watched = NULL;
    while (posted != NULL) {
        WsmConnection *next = posted->wake_next;
        Py_DECREF(posted);
        posted = next;
    }
    while (watched != NULL) {
        WsmConnection *next = watched->watch_next;
        Py_DECREF(watched);
        watched = next;
    }
    Py_CLEAR(self->timer);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waker);
    Py_CLEAR(self->loop);
    return 0;
}

static void
mailbox_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    mailbox_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
mailbox_lingered(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    WsmMailbox *self = (WsmMailbox *)op;
    wsm_lock(&self->lock);
    self->lingering = false;
    wsm_unlock(&self->lock);
    return mailbox_turn(op, NULL, NULL);
}

static PyObject *
mailbox_look(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (((WsmMailbox *)op)->state->on_look(op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef mailbox_methods[] = {
    {"_look", mailbox_look, METH_NOARGS, "At idle connections."},
    {"_linger", mailbox_lingered, METH_NOARGS, "The burst's second turn."},
    {"_tick", mailbox_tick, METH_NOARGS, "The timer's callback."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mailbox_slots[] = {
    {Py_tp_dealloc, mailbox_dealloc},
    {Py_tp_traverse, mailbox_traverse},
    {Py_tp_clear, mailbox_clear},
    {Py_tp_call, mailbox_turn},
    {Py_tp_methods, mailbox_methods}, {0, NULL},
};

PyType_Spec wsm_mailbox_spec = {
    .name = "wsmanager._wsmanager.Mailbox",
    .basicsize = sizeof(WsmMailbox),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mailbox_slots,
};
