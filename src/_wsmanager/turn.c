/* Invariant: what waits is written in the turn that its mailbox asked for, or
 * as soon as a tick sees that the transport has room again. */
#include "turn.h"

#include "compat.h"
#include "evict.h"
#include "mailbox.h"
#include "writer.h"

#define WSM_TICK_SLOW 50000000 /* ns: somebody has been waiting for long */

/* Add the connection if there is something to write, be it only that events
 * were dropped, and nobody does. */
static void
turn_add(WsmBatch *batch, WsmConnection *connection)
{
    wsm_lock(connection->lock);
    bool write = connection->open && !connection->busy &&
                 !connection->blocked &&
                 (connection->outbox.count > 0 || connection->gap != NULL);
    if (write) {
        connection->busy = true;
    }
    wsm_unlock(connection->lock);
    if (write) {
        wsm_batch_add(batch, connection, 0, 0);
    }
}

static void
turn_collect(WsmMailbox *mailbox, WsmBatch *batch, WsmPost *post)
{
    uint64_t events = 0;
    WsmConnection *connection = post->head;

    while (connection != NULL) {
        WsmConnection *next = connection->wake_next;
        connection->wake_next = NULL;
        wsm_lock(connection->lock);
        connection->waking = false;
        events += connection->outbox.count;
        wsm_unlock(connection->lock);
        turn_add(batch, connection);
        Py_DECREF(connection);
        connection = next;
    }
    wsm_mailbox_turned(mailbox, events);
}

static Py_ssize_t
turn_count(const WsmPost *post)
{
    Py_ssize_t count = 0;
    for (WsmConnection *c = post->head; c != NULL; c = c->wake_next) {
        count++;
    }
    return count;
}

int
wsm_turn(PyObject *op)
{
    WsmMailbox *mailbox = (WsmMailbox *)op;
    WsmPost post = wsm_mailbox_take(mailbox);
    WsmBatch batch;
    int result = 0;

    wsm_batch_init(&batch);
    Py_INCREF(op);
    if (wsm_batch_reserve(&batch, turn_count(&post)) == 0) {
        turn_collect(mailbox, &batch, &post);
        result = wsm_writer_run(mailbox->state, mailbox->loop, &batch, false);
    }
    else {
        wsm_batch_drop(&batch);
        wsm_unraisable(op);
        if (!wsm_mailbox_post(mailbox, &post, true)) { /* another turn */
            wsm_evict_post(&post);
        }
    }
    if (mailbox->watched != NULL && mailbox->timer == NULL) {
        wsm_mailbox_schedule(mailbox, WSM_TICK_LAZY); /* it failed before */
    }
    Py_DECREF(op);
    return result;
}

/* Whether the peer's kernel takes what was sent: bytes that stay unsent for
 * too long, with none acknowledged, are a peer that has gone or frozen. */
static bool
tick_is_stuck(WsmChannel *channel, int64_t now, int64_t most)
{
    size_t unsent = wsm_channel_unsent(channel);
    if (unsent == 0) {
        channel->stuck_since = 0;
        return false;
    }
    uint64_t acknowledged = wsm_channel_acknowledged(channel, unsent);
    if (channel->stuck_since == 0 || acknowledged != channel->acknowledged) {
        channel->stuck_since = now;
    }
    channel->acknowledged = acknowledged;
    return now - channel->stuck_since > most;
}

/* True if something waits and the transport may hold more of it. */
static bool
tick_has_room(WsmConnection *connection)
{
    Py_ssize_t held = wsm_channel_buffered(connection->channel);
    if (held < 0) {
        wsm_unraisable(connection->channel->transport);
        return false;
    }
    bool waits = wsm_connection_waiting(connection) > 0;
    if (!waits && held < connection->held) {
        connection->since = wsm_now_ns(); /* all is there, and gets on */
    }
    connection->held = held;
    return waits && held < WSM_TRANSPORT_BYTES / 2;
}

/* A writer waits: too long for one send, or something for its turn? */
static bool
tick_is_slow(WsmConnection *connection, int64_t now, int64_t most)
{
    WsmRefList dropped;

    if (now - connection->since > most) {
        return true;
    }
    wsm_reflist_init(&dropped);
    bool within = wsm_connection_expire(connection, now, most, &dropped);
    wsm_settle_pairs(&dropped, WSM_DROPPED, "outbox");
    return !within;
}

/* Look at one; true if it needs more looking. Runs Python. */
static bool
tick_look(WsmConnection *connection, WsmBatch *batch, bool *waits)
{
    int64_t now = wsm_now_ns();
    int64_t most = (int64_t)(connection->state->settings.outbox_max_age * 1e9);
    WsmChannel *channel = connection->channel;

    if (!connection->open) {
        return false;
    }
    if (connection->blocked) {
        WsmWay way = wsm_channel_check(channel);
        if (way == WSM_WAY_GONE) {
            wsm_evict(connection, "gone");
            return false;
        }
        if (way != WSM_WAY_WAIT || tick_has_room(connection)) {
            wsm_lock(connection->lock);
            connection->blocked = false;
            wsm_unlock(connection->lock);
            turn_add(batch, connection);
            return true;
        }
    }
    if ((connection->blocked || connection->driver != NULL) &&
        tick_is_slow(connection, now, most)) {
        wsm_evict_slow(connection, "age");
        return false;
    }
    if (channel != NULL && tick_is_stuck(channel, now, most)) {
        wsm_evict_slow(connection, "age");
        return false;
    }
    *waits = *waits || connection->blocked;
    return connection->blocked || connection->driver != NULL ||
           (channel != NULL && channel->stuck_since != 0);
}

static Py_ssize_t
tick_count(const WsmConnection *list)
{
    Py_ssize_t count = 0;
    for (; list != NULL; list = list->watch_next) {
        count++;
    }
    return count;
}

/* Take all that is watched, owned, with room in the batch for each: a look
 * may have others watched, or one of these again, which wait for the next
 * tick. NULL with MemoryError, and nothing was taken. */
static WsmConnection **
tick_take(WsmMailbox *mailbox, WsmBatch *batch, Py_ssize_t count)
{
    WsmConnection **taken =
        PyMem_RawMalloc((size_t)count * sizeof(WsmConnection *));
    if (taken == NULL || wsm_batch_reserve(batch, count) < 0) {
        PyMem_RawFree(taken);
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        taken[i] = (WsmConnection *)Py_NewRef((PyObject *)mailbox->watched);
        wsm_mailbox_unwatch(mailbox, taken[i]);
    }
    return taken;
}

/* Look at each, and drop or watch it again. True if some wait for room. */
static bool
tick_look_at(WsmMailbox *mailbox, WsmBatch *batch, WsmConnection **taken,
             Py_ssize_t count)
{
    bool waits = false;

    for (Py_ssize_t i = 0; i < count; i++) {
        if (!tick_look(taken[i], batch, &waits)) {
            Py_CLEAR(taken[i]);
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (taken[i] != NULL && taken[i]->open) {
            wsm_mailbox_watch(mailbox, taken[i]);
        }
        Py_XDECREF(taken[i]);
    }
    PyMem_RawFree(taken);
    return waits;
}

int
wsm_turn_tick(PyObject *op)
{
    WsmMailbox *mailbox = (WsmMailbox *)op;
    Py_ssize_t count = tick_count(mailbox->watched);
    WsmBatch batch;
    int64_t tick = mailbox->tick;

    wsm_batch_init(&batch);
    if (count == 0) {
        return 0;
    }
    WsmConnection **taken = tick_take(mailbox, &batch, count);
    if (taken == NULL) {
        wsm_batch_drop(&batch);
        wsm_unraisable(op);
        wsm_mailbox_schedule(mailbox, WSM_TICK_LAZY);
        return 0;
    }
    Py_INCREF(op);
    bool waits = tick_look_at(mailbox, &batch, taken, count);
    bool freed = batch.job_count > 0;
    int result = wsm_writer_run(mailbox->state, mailbox->loop, &batch, false);
    tick = freed || tick >= WSM_TICK_LAZY ? WSM_TICK_SOON : 2 * tick;
    tick = tick < WSM_TICK_SLOW ? tick : WSM_TICK_SLOW;
    tick = waits ? tick : WSM_TICK_LAZY;
    if (mailbox->watched != NULL &&
        (mailbox->timer == NULL || mailbox->tick > tick)) {
        wsm_mailbox_schedule(mailbox, tick);
    }
    Py_DECREF(op);
    return result;
}

void
wsm_turn_resume(PyObject *op)
{
    WsmConnection *connection = (WsmConnection *)op;
    WsmPost post = {NULL, NULL};

    wsm_lock(connection->lock);
    connection->blocked = false;
    bool wake = connection->open && !connection->waking &&
                (connection->outbox.count > 0 || connection->gap != NULL);
    if (wake) {
        connection->waking = true;
    }
    wsm_unlock(connection->lock);
    if (wake) {
        wsm_post_add(&post, (WsmConnection *)Py_NewRef(op));
        if (!wsm_mailbox_post(connection->mailbox, &post, true)) {
            wsm_evict_post(&post);
        }
    }
}

void
wsm_turn_flush(PyObject *op, bool whole)
{
    WsmConnection *connection = (WsmConnection *)op;
    PyObject *loop;

    if (connection->channel != NULL &&
        wsm_running_loop(connection->state, &loop) > 0 &&
        loop == connection->loop) {
        (void)wsm_writer_flush(connection, loop, whole);
    }
}
