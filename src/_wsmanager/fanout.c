/* Invariant: an event gets its number and its place in every outbox at one
 * atomic point, so each connection sees the numbers rise. */
#include "fanout.h"

#include "counters.h"
#include "evict.h"
#include "mailbox.h"
#include "once.h"
#include "registry.h"
#include "writer.h"

/* With so much waiting in one loop turn, the turn's end is not waited for. */
#define WSM_FLUSH_EVENTS 256
#define WSM_FLUSH_BYTES (256 * 1024)
#define WSM_FANOUT_AHEAD 8 /* connections: fetched while this one is seen to */

typedef struct {
    WsmState *state;
    WsmManager *manager; /* borrowed from the caller */
    WsmEvent *event; /* owned by the caller */
    PyObject *loop; /* borrowed: running, or NULL */
    WsmBatch batch; /* to write at once */
    WsmPost post; /* to wake */
    WsmRefList dropped; /* pairs of connection and event */
    WsmRefList over; /* connections over their limit */
    WsmRefList refused; /* connections it was dropped for, if told of */
    WsmRefList gone; /* events the journal let go of */
    WsmRefList forgotten; /* events nobody waits to be acknowledged */
    int64_t now; /* ns */
    int32_t tally[WSM_OUTCOMES];
    bool doubtful; /* some loops are long waited for, and may not come */
    bool backlog;
} WsmFanout;

/* loop: running, or NULL, which is no connection's. */
static bool
fanout_is_idle(const PyObject *loop, const WsmConnection *connection)
{
    return connection->loop == loop && !connection->busy &&
           !connection->blocked && !connection->waking &&
           connection->outbox.count == 0 &&
           (connection->channel == NULL ||
            connection->turn != connection->mailbox->turn);
}

/* It is in the outbox: see that somebody comes for it. */
static void
fanout_wake_locked(WsmFanout *fan, WsmConnection *connection)
{
    bool here = fan->loop != NULL && connection->loop == fan->loop;

    fan->backlog =
        fan->backlog || (here && (connection->blocked || connection->driver));
    if (connection->busy || connection->blocked) {
        /* Its writer looks again when it is done: if its loop does turn. */
        fan->doubtful = fan->doubtful || !here;
        return;
    }
    if (here && (connection->outbox.count >= WSM_FLUSH_EVENTS ||
                 connection->outbox_bytes >= WSM_FLUSH_BYTES)) {
        connection->busy = true;
        wsm_batch_add(&fan->batch, connection, 0, 0);
    }
    else if (!connection->waking) {
        connection->waking = true;
        wsm_post_add(&fan->post,
                     (WsmConnection *)Py_NewRef((PyObject *)connection));
    }
    else if (!here || connection->mailbox->unarmed) {
        fan->doubtful = true;
    }
}

/* It goes through the outbox. */
static void
fanout_queue_locked(WsmFanout *fan, WsmConnection *connection)
{
    WsmOutcome outcome =
        wsm_connection_push_locked(connection, fan->event, &fan->dropped);
    fan->tally[outcome]++;
    if (outcome == WSM_QUEUED) {
        fanout_wake_locked(fan, connection);
    }
    else if (outcome == WSM_DROPPED && fan->event->detail != NULL) {
        wsm_reflist_park(&fan->refused, Py_NewRef((PyObject *)connection));
    }
    else if (outcome == WSM_FAILED) {
        wsm_reflist_park(&fan->over, Py_NewRef((PyObject *)connection));
    }
}

/* For clients that come back. What is for one connection only is not of the
 * stream, and the manager of no user has none. */
static void
fanout_keep_locked(WsmFanout *fan)
{
    WsmManager *manager = fan->manager;

    if (manager->key == Py_None) {
        wsm_journal_empty_locked(&manager->journal, manager->seq, &fan->gone);
    }
    else if (fan->event->only == NULL &&
             wsm_journal_add_locked(&manager->journal, fan->event, fan->now,
                                    &fan->gone)) {
        fan->tally[WSM_STORED] = 1;
    }
    if (fan->event->ack) {
        wsm_acks_add_locked(&manager->acks, fan->event, fan->now,
                            &fan->forgotten);
    }
}

static void
fanout_each_locked(WsmFanout *fan, const WsmRoster *roster)
{
    WsmEvent *event = fan->event;
    const bool filtered = event->only != NULL || event->thread_id != NULL;
    const uint32_t at = wsm_batch_event(&fan->batch, event);
    const PyObject *const loop = fan->loop;
    int32_t idle = 0;

    for (Py_ssize_t i = 0, n = roster->count; i < n; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        if (n - i > WSM_FANOUT_AHEAD) {
            const WsmConnection *soon =
                (WsmConnection *)roster->items[i + WSM_FANOUT_AHEAD];
            __builtin_prefetch(&soon->loop);
            __builtin_prefetch(&soon->replayed_to);
        }
        if (filtered ? !wsm_connection_wants_locked(connection, event)
                     : !connection->open) {
            continue;
        }
        if (fanout_is_idle(loop, connection)) {
            connection->busy = true;
            WsmJob *job = wsm_batch_add(&fan->batch, connection, at, 1);
            job->pump =
                event->seq > connection->replayed_to ? connection->pump : 0;
            idle++;
        }
        else {
            fanout_queue_locked(fan, connection);
        }
    }
    fan->tally[WSM_QUEUED] += idle;
}

/* 0; 1 if the roster grew past what was reserved: try again. */
static int
fanout_place(WsmFanout *fan, Py_ssize_t reserved)
{
    WsmManager *manager = fan->manager;

    wsm_lock(&manager->lock);
    WsmRoster *roster = manager->roster;
    if (roster != NULL && roster->count > reserved) {
        wsm_unlock(&manager->lock);
        return 1;
    }
    manager->emitted++;
    wsm_event_stamp(fan->event, manager->epoch, ++manager->seq, fan->now);
    fanout_keep_locked(fan);
    if (roster != NULL) {
        fanout_each_locked(fan, roster);
    }
    wsm_unlock(&manager->lock);
    return 0;
}

static void
fanout_detail(WsmFanout *fan)
{
    if (fan->event->detail == NULL) {
        return;
    }
    WsmRoster *roster = wsm_manager_roster(fan->manager);
    for (Py_ssize_t i = 0; roster != NULL && i < roster->count; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        wsm_lock(&fan->manager->lock);
        bool wants = wsm_connection_wants_locked(connection, fan->event);
        wsm_unlock(&fan->manager->lock);
        if (wants) {
            wsm_event_detail(fan->event, connection->id, WSM_QUEUED, NULL);
        }
    }
    wsm_manager_release(fan->manager, roster);
    for (Py_ssize_t i = 0; i < fan->refused.count; i++) {
        WsmConnection *connection = (WsmConnection *)fan->refused.items[i];
        wsm_event_detail(fan->event, connection->id, WSM_DROPPED, "outbox");
    }
    wsm_reflist_drop(&fan->refused);
}

static void
fanout_count(WsmFanout *fan)
{
    WsmCounters *counters = wsm_counters(fan->state);
    WsmTotals *totals = &counters->totals;

    wsm_add(&totals->emitted, 1);
    wsm_add(&counters->emitted[fan->event->kind], 1);
    wsm_add(&totals->queued, (uint64_t)fan->tally[WSM_QUEUED]);
    wsm_add(&totals->dropped, (uint64_t)fan->tally[WSM_DROPPED]);
    wsm_add(&totals->failed, (uint64_t)fan->tally[WSM_FAILED]);
    wsm_add(&totals->stored, (uint64_t)fan->tally[WSM_STORED]);
    for (int i = 0; i < WSM_OUTCOMES; i++) {
        if (fan->tally[i] != 0) {
            wsm_event_count(fan->event, (WsmOutcome)i, fan->tally[i]);
        }
    }
    fanout_detail(fan);
}

/* Wake each loop that has something in the post, once. */
static void
fanout_wake(WsmFanout *fan)
{
    while (fan->post.head != NULL) {
        WsmMailbox *mailbox = fan->post.head->mailbox;
        WsmPost mine = {NULL, NULL}, others = {NULL, NULL};
        WsmConnection *connection = fan->post.head;
        while (connection != NULL) {
            WsmConnection *next = connection->wake_next;
            wsm_post_add(connection->mailbox == mailbox ? &mine : &others,
                         connection);
            connection = next;
        }
        fan->post = others;
        Py_INCREF(mailbox);
        if (!wsm_mailbox_post(mailbox, &mine, mailbox->loop == fan->loop)) {
            wsm_evict_post(&mine);
        }
        Py_DECREF(mailbox);
    }
}

/* A loop that has closed will not come for what waits for it: not for what is
 * in its list, nor for what its connections were busy with. */
static void
fanout_doubt(WsmFanout *fan)
{
    WsmRoster *roster =
        fan->doubtful ? wsm_manager_roster(fan->manager) : NULL;
    const WsmMailbox *asked = NULL;
    bool alive = true;

    for (Py_ssize_t i = 0; roster != NULL && i < roster->count; i++) {
        WsmConnection *connection = (WsmConnection *)roster->items[i];
        if (connection->loop == fan->loop && !connection->mailbox->unarmed) {
            continue;
        }
        if (connection->mailbox != asked) {
            asked = connection->mailbox;
            alive = wsm_mailbox_is_alive(connection->mailbox);
            WsmPost post = {NULL, NULL};
            if (!alive) {
                post = wsm_mailbox_take(connection->mailbox);
            }
            wsm_evict_post(&post);
        }
        if (!alive) {
            wsm_evict(connection, "loop closed");
        }
    }
    wsm_manager_release(fan->manager, roster);
}

static void
fanout_close_over(WsmFanout *fan)
{
    for (Py_ssize_t i = 0; i < fan->over.count; i++) {
        WsmConnection *connection = (WsmConnection *)fan->over.items[i];
        wsm_event_detail(fan->event, connection->id, WSM_FAILED, "outbox");
        wsm_evict_slow(connection, "outbox");
    }
    wsm_reflist_drop(&fan->over);
}

static int
fanout_run(WsmFanout *fan)
{
    Py_ssize_t reserved;
    int result = 0;

    fan->now = wsm_now_ns();
    do {
        reserved = wsm_manager_count(fan->manager);
        if (wsm_batch_reserve(&fan->batch, reserved) < 0) {
            return -1;
        }
    } while (fanout_place(fan, reserved) != 0);
    fanout_count(fan);
    wsm_settle_pairs(&fan->dropped, WSM_DROPPED, "outbox");
    wsm_reflist_drop(&fan->gone);
    wsm_acks_forget(&fan->forgotten);
    if (fan->batch.job_count > 0) {
        result = wsm_writer_run(fan->state, fan->loop, &fan->batch, true);
    }
    if (fan->post.head != NULL || fan->doubtful || fan->over.count > 0) {
        PyObject *saved = wsm_error_take();
        fanout_wake(fan);
        fanout_doubt(fan);
        fanout_close_over(fan);
        wsm_error_restore(saved);
    }
    return result;
}

/* The emit itself, of an event whose delivery is made. */
static int
fanout_emit(WsmManager *manager, WsmDelivery *delivery)
{
    WsmFanout fan = {
        .state = manager->state, .manager = manager, .event = delivery->event};
    int result = -1;

    wsm_batch_init(&fan.batch);
    wsm_reflist_init(&fan.dropped);
    wsm_reflist_init(&fan.over);
    wsm_reflist_init(&fan.refused);
    wsm_reflist_init(&fan.gone);
    wsm_reflist_init(&fan.forgotten);
    if (wsm_running_loop(manager->state, &fan.loop) >= 0) {
        result = fanout_run(&fan);
    }
    delivery->backlog = fan.backlog;
    wsm_batch_drop(&fan.batch); /* what was reserved and not needed */
    if (manager->key != Py_None) {
        PyObject *saved = result < 0 ? wsm_error_take() : NULL;
        wsm_kept_count(&manager->state->registry->kept, manager, fan.now);
        if (saved != NULL) {
            wsm_error_restore(saved);
        }
    }
    return result;
}

PyObject *
wsm_fanout(WsmManager *manager, WsmEvent *event, PyObject *key)
{
    WsmDelivery *delivery = wsm_delivery_new(manager->state, event);

    Py_DECREF(event);
    if (delivery != NULL && key != NULL) {
        WsmDelivery *first = wsm_once_claim(manager, key, delivery);
        bool again = first != delivery;
        Py_DECREF(delivery);
        delivery = first;
        if (again) {
            wsm_add(&wsm_totals(manager->state)->repeated, first != NULL);
            return (PyObject *)first;
        }
    }
    if (delivery != NULL && fanout_emit(manager, delivery) < 0) {
        if (key != NULL && !delivery->event->numbered) {
            wsm_once_release(manager, key);
        }
        Py_CLEAR(delivery);
    }
    return (PyObject *)delivery;
}
