/* Invariant: a connection is busy from the moment it enters a batch until
 * its job is finished; only the thread of its loop writes to it. Between a
 * short write and the rest of it nothing runs but transports' own methods. */
#include "writer.h"

#include <errno.h>

#include "compat.h"
#include "counters.h"
#include "drive.h"
#include "evict.h"
#include "manager.h"
#include "pump.h"
#include "wire.h"

#define WSM_JOB_EVENTS 256
#define WSM_SAME_TURN 2000 /* ns: no turn is over in less */
#define WSM_TURNS_APART 200000 /* ns: so seldom that the cost is nothing */

/* -- before the system call ---------------------------------------------- */

/* Up to so many events; true if a marker's place among them is reached. */
static bool
writer_pop(WsmBatch *batch, WsmJob *job, uint32_t most)
{
    WsmConnection *connection = job->connection;

    wsm_lock(connection->lock);
    bool gap = wsm_connection_gap_is_due_locked(connection);
    while (connection->open && !gap && job->count < most) {
        WsmEvent *event = wsm_connection_pop_locked(connection);
        if (event == NULL) {
            break;
        }
        batch->events[batch->event_count++] = (PyObject *)event;
        job->count++;
        gap = wsm_connection_gap_is_due_locked(connection);
    }
    wsm_unlock(connection->lock);
    return gap;
}

/* Move the connection's outbox into the batch. What finds no room in memory
 * stays in the outbox. */
static void
writer_fill(WsmBatch *batch, WsmJob *job)
{
    WsmConnection *connection = job->connection;
    uint32_t most = wsm_connection_waiting(connection);

    if (most > WSM_JOB_EVENTS) {
        most = WSM_JOB_EVENTS;
    }
    if (wsm_batch_reserve_events(batch, most + 1) < 0) {
        wsm_unraisable((PyObject *)connection);
        return;
    }
    job->first = batch->event_count;
    if (writer_pop(batch, job, most)) {
        job->count += wsm_batch_gap(batch, connection);
        (void)writer_pop(batch, job, most);
    }
}

/* -- after it ------------------------------------------------------------ */

static WsmEvent *
job_event(const WsmBatch *batch, const WsmJob *job, uint32_t i)
{
    return (WsmEvent *)batch->events[job->first + i];
}

static void
job_sent(WsmBatch *batch, WsmJob *job, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        wsm_connection_sent(job->connection, job_event(batch, job, i),
                            batch->written_at);
    }
    wsm_add(&wsm_totals(job->connection->state)->direct, to - from);
}

static void
job_failed(WsmBatch *batch, WsmJob *job, uint32_t from, uint32_t to,
           const char *reason)
{
    for (uint32_t i = from; i < to; i++) {
        wsm_connection_settle(job->connection, job_event(batch, job, i),
                              WSM_FAILED, reason);
    }
    wsm_add(&wsm_totals(job->connection->state)->failed, to - from);
}

/* Back into the outbox, in front, as they were. */
static void
job_put_back(WsmBatch *batch, WsmJob *job, uint32_t from)
{
    WsmConnection *connection = job->connection;
    uint32_t i = job->count;
    bool lost = false;

    wsm_lock(connection->lock);
    while (i > from && connection->open && !lost) {
        WsmEvent *event = job_event(batch, job, i - 1);
        lost = wsm_connection_unpop_locked(connection, event) < 0;
        if (!lost) {
            Py_INCREF(event); /* the outbox's */
            i--;
        }
    }
    wsm_unlock(connection->lock);
    if (i > from) {
        /* Closed meanwhile; or no memory, and then a part cannot be sent
         * without the part before it. */
        connection->torn = true;
        job_failed(batch, job, from, i, "gone");
        if (lost) {
            wsm_evict_broken(connection, "no memory");
        }
    }
}

static void
job_block(WsmConnection *connection)
{
    WsmMailbox *mailbox = connection->mailbox;

    wsm_lock(connection->lock);
    connection->blocked = connection->open;
    wsm_unlock(connection->lock);
    connection->since = wsm_now_ns();
    wsm_mailbox_watch(mailbox, connection);
    if (mailbox->timer == NULL || mailbox->tick > WSM_TICK_SOON) {
        wsm_mailbox_schedule(mailbox, WSM_TICK_SOON);
    }
}

static void
job_watch(WsmConnection *connection)
{
    WsmMailbox *mailbox = connection->mailbox;

    wsm_mailbox_watch(mailbox, connection);
    if (mailbox->timer == NULL) {
        wsm_mailbox_schedule(mailbox, WSM_TICK_LAZY);
    }
}

/* After what the transport was given: settled here, where anything may run. */
static void
job_handed(WsmBatch *batch, WsmJob *job)
{
    WsmConnection *connection = job->connection;

    job_sent(batch, job, 0, job->given);
    if (job->error != NULL) {
        wsm_error_restore(job->error);
        job->error = NULL;
        wsm_unraisable(connection->channel->transport);
        job_failed(batch, job, job->given, job->count, "gone");
        wsm_evict_broken(connection, "gone");
        return;
    }
    job_put_back(batch, job, job->given);
    job_block(connection);
}

static bool
job_errno_is_passing(Py_ssize_t taken)
{
    return taken == -EAGAIN || taken == -EWOULDBLOCK || taken == -ENOBUFS ||
           taken == -ENOMEM;
}

static void
job_direct(WsmBatch *batch, WsmJob *job)
{
    WsmConnection *connection = job->connection;

    if (job->taken < 0 && !job_errno_is_passing(job->taken)) {
        job_failed(batch, job, 0, job->count, "gone");
        wsm_evict_broken(connection, "gone");
        return;
    }
    if (job->taken > 0) {
        connection->channel->written += (uint64_t)job->taken;
    }
    connection->errors = 0;
    if (job->rest) {
        job_handed(batch, job);
        return;
    }
    if (connection->blocked) {
        wsm_lock(connection->lock);
        connection->blocked = false; /* it has room before a tick saw it */
        wsm_unlock(connection->lock);
    }
    job_sent(batch, job, 0, job->count);
    if (!connection->watched) {
        job_watch(connection);
    }
}

/* Not the direct way: the library's own send, event by event. */
static void
job_library(WsmBatch *batch, WsmJob *job, WsmDrive *drive)
{
    WsmEvent *event = NULL;

    if (job->count > 0) {
        job_put_back(batch, job, 1);
        event = (WsmEvent *)Py_NewRef((PyObject *)job_event(batch, job, 0));
    }
    wsm_drive(drive, job->connection, event);
}

/* Not busy any more. In a hot run it was written to in this turn of the loop:
 * what follows in it waits for the turn's end. */
static void
job_finish(WsmJob *job, bool hot, WsmPost *post)
{
    WsmConnection *connection = job->connection;
    bool wake;

    if (hot) {
        connection->turn = connection->mailbox->turn;
    }
    wsm_lock(connection->lock);
    connection->busy = false;
    wake = connection->open && !connection->waking && !connection->blocked &&
           connection->outbox.count > 0;
    if (wake) {
        connection->waking = true;
    }
    wsm_unlock(connection->lock);
    if (wake) {
        wsm_post_add(post, (WsmConnection *)Py_NewRef((PyObject *)connection));
    }
}

static void
job_done(WsmBatch *batch, WsmJob *job, WsmDrive *drive, bool hot,
         WsmPost *post)
{
    if (job->way == WSM_WAY_LIBRARY) {
        job_library(batch, job, drive);
        return; /* the driver ends being busy, now or later */
    }
    if (job->way == WSM_WAY_DIRECT) {
        job_direct(batch, job);
    }
    else if (job->way == WSM_WAY_WAIT) {
        job_handed(batch, job);
    }
    else {
        job_failed(batch, job, 0, job->count, "gone");
        wsm_evict(job->connection, "gone");
    }
    job_finish(job, hot, post);
}

/* -- a run --------------------------------------------------------------- */

/* True if anything goes the direct way. */
static bool
writer_prepare(WsmBatch *batch)
{
    bool direct = false;

    for (uint32_t i = 0; i < batch->job_count; i++) {
        if (!batch->jobs[i].channel) {
            continue;
        }
        WsmConnection *connection = batch->jobs[i].connection;
        WsmWay way = wsm_channel_check(connection->channel);
        if (way != WSM_WAY_LIBRARY && batch->jobs[i].count == 0) {
            writer_fill(batch, &batch->jobs[i]);
        }
        batch->jobs[i].way = way;
        batch->jobs[i].fd = connection->channel->fd;
        if (way != WSM_WAY_LIBRARY) {
            batch->jobs[i].pump = 0;
        }
        direct = direct || (way == WSM_WAY_DIRECT && batch->jobs[i].count > 0);
    }
    return direct;
}

static void
writer_send(WsmBatch *batch)
{
    Py_BEGIN_ALLOW_THREADS
        for (uint32_t i = 0; i < batch->job_count; i++) {
            WsmJob *job = &batch->jobs[i];
            if (job->way == WSM_WAY_DIRECT && job->count > 0) {
#ifdef WSM_PLANT_COOKIE
                wsm_channel_tripwire(job->connection->channel);
#endif
                job->taken = wsm_wire_send(job->fd, batch->events + job->first,
                                           job->count);
            }
        }
    Py_END_ALLOW_THREADS
}

/* How much of it is with the kernel; true if the rest is the transport's. */
static bool
job_measure(const WsmBatch *batch, WsmJob *job)
{
    if (job->way == WSM_WAY_DIRECT &&
        (job->taken >= 0 || job_errno_is_passing(job->taken))) {
        job->offset = job->taken < 0 ? 0 : (size_t)job->taken;
        for (; job->given < job->count; job->given++) {
            size_t size = wsm_event_size(job_event(batch, job, job->given));
            if (job->offset < size) {
                break;
            }
            job->offset -= size;
        }
        job->rest = job->given < job->count;
    }
    else {
        job->rest = job->way == WSM_WAY_WAIT;
    }
#ifdef WSM_PLANT_SHORT_WRITE
    if (job->way == WSM_WAY_DIRECT) {
        job->rest = false;
    }
#endif
    return job->rest;
}

/* As much to the transport as it may hold, which has its own way to wait for
 * the peer; what is more waits here, where it is bounded. An error is kept. */
static void
job_hand_over(const WsmBatch *batch, WsmJob *job)
{
    WsmChannel *channel = job->connection->channel;
    Py_ssize_t held =
        job->way == WSM_WAY_WAIT ? wsm_channel_buffered(channel) : 0;
    bool failed = held < 0;

    job->handed = true;
    while (!failed && job->given < job->count &&
           (job->offset > 0 || job->whole || held < WSM_TRANSPORT_BYTES)) {
        size_t size;
        const unsigned char *data =
            wsm_event_frame(job_event(batch, job, job->given), &size);
        size -= job->offset;
        failed = wsm_channel_handover(channel, data + job->offset, size) < 0;
        if (!failed) {
            held += (Py_ssize_t)size;
            job->offset = 0;
            job->given++;
        }
    }
    if (failed) {
        job->error = wsm_error_take();
    }
}

/* Right after the system calls, before any code that is not a transport's
 * own: that might write to one of these sockets too. Frames that were begun
 * come first of all. */
static void
writer_hand_over(WsmBatch *batch)
{
    WsmJob *end = batch->jobs + batch->job_count;
    bool more = false;

    for (WsmJob *job = batch->jobs; job < end; job++) {
        if (job->channel && job_measure(batch, job)) {
            if (job->offset > 0) {
                job_hand_over(batch, job);
            }
            else {
                more = true;
            }
        }
    }
    for (WsmJob *job = batch->jobs; more && job < end; job++) {
        if (job->rest && !job->handed) {
            job_hand_over(batch, job);
        }
    }
}

/* The mailbox to ask for the turn's end after this run, or NULL. To ask the
 * loop costs a fifth of a send, for nothing where each turn has one event. So
 * of events that follow each other as fast as turns do, but were alone in
 * theirs, one in a few asks. */
static WsmMailbox *
writer_asks(const WsmBatch *batch)
{
    const WsmJob *job = batch->jobs, *end = job + batch->job_count;

    while (job < end && (job->way != WSM_WAY_DIRECT || job->count == 0)) {
        job++;
    }
    if (job == end) {
        return NULL;
    }
    WsmMailbox *mailbox = job->connection->mailbox;
    int64_t pause = job_event(batch, job, 0)->emitted_at - mailbox->sent_at;
    mailbox->sent_at = batch->written_at;
    if (mailbox->unasked == 0 || pause < WSM_SAME_TURN ||
        pause > WSM_TURNS_APART) {
        return mailbox;
    }
    mailbox->unasked--;
    return NULL;
}

/* The system calls; whether the run is a hot one, and what it asks. */
static WsmMailbox *
writer_write(WsmBatch *batch, bool hot)
{
    if (!batch->channels) {
        return NULL;
    }
    if (writer_prepare(batch)) {
        writer_send(batch);
    }
    batch->written_at = wsm_now_ns();
    writer_hand_over(batch);
    return hot ? writer_asks(batch) : NULL;
}

int
wsm_writer_run(WsmState *state, PyObject *loop, WsmBatch *batch, bool hot)
{
    WsmDrive drive = {.state = state, .loop = loop};
    WsmPost post = {NULL, NULL};
    WsmMailbox *asks = writer_write(batch, hot);
    WsmJob *job = batch->jobs, *end = job + batch->job_count;

    Py_XINCREF(asks);
    while (job < end) {
        WsmJob *next = wsm_pump(&drive, batch, job);
        if (next == job) {
            job_done(batch, next++, &drive, asks != NULL, &post);
        }
        job = next;
    }
    if (asks != NULL) {
        wsm_mailbox_ask(asks);
        Py_DECREF(asks);
    }
    if (post.head != NULL &&
        !wsm_mailbox_post(post.head->mailbox, &post, true)) {
        wsm_evict_post(&post);
    }
    wsm_batch_drop(batch);
    return wsm_drive_end(&drive);
}

int
wsm_writer_flush(WsmConnection *connection, PyObject *loop, bool whole)
{
    uint32_t before = UINT32_MAX;

    for (;;) {
        WsmBatch batch;
        wsm_lock(connection->lock);
        uint32_t waiting = connection->outbox.count;
        bool write = connection->open && !connection->busy &&
                     (whole || !connection->blocked) && waiting > 0 &&
                     waiting < before; /* or it does not get on */
        connection->busy = connection->busy || write;
        wsm_unlock(connection->lock);
        if (!write) {
            return 0;
        }
        before = waiting;
        wsm_batch_init(&batch);
        wsm_batch_add(&batch, connection, 0, 0)->whole = whole;
        if (wsm_writer_run(connection->state, loop, &batch, true) < 0) {
            return -1;
        }
    }
}
