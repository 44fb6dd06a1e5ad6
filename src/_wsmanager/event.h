/* One event: an immutable envelope, encoded once, shared by reference by
 * all who send or keep it; and the tally of what became of it. */
#ifndef WSM_EVENT_H
#define WSM_EVENT_H

#include "lock.h"
#include "state.h"

typedef enum {
    WSM_SENT,
    WSM_QUEUED,
    WSM_DROPPED,
    WSM_FAILED,
    WSM_STORED,
    WSM_OUTCOMES,
} WsmOutcome;

typedef struct {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    unsigned char *buffer; /* owned, raw; slack, header, JSON */
    size_t frame_at; /* where the frame begins, once stamped */
    size_t json_at; /* where the JSON begins, once stamped */
    size_t end;
    PyObject *text; /* owned or NULL, made when first asked; guarded */
    PyObject *thread_id; /* owned or NULL: only that thread's connections */
    PyObject *only; /* owned or NULL: only that Connection; no longer than
                       it takes to place the event */
    PyObject *key; /* owned exact str or NULL: for coalescing */
    PyObject *detail; /* owned dict or NULL: outcome by connection id */
    PyObject *reasons; /* owned dict or NULL: why, where it was not sent */
    PyObject *waiters; /* owned list or NULL, guarded by lock */
    PyObject *ack_waiters; /* owned list or NULL, guarded by lock */
    uint64_t epoch;
    uint64_t seq;
    WSM_SHARED(int64_t) emitted_at; /* ns of wsm_now_ns(); 0: not yet */
    WsmLock lock;
    int32_t tally[WSM_OUTCOMES]; /* guarded by lock */
    bool critical;
    bool numbered;
    bool single; /* for one Connection, even if only has been let go of */
    uint8_t kind; /* WsmKind: how it is counted */
    bool ack; /* its client is asked to acknowledge it */
    bool acked; /* guarded by lock: and has done so */
    bool forgotten; /* guarded by lock: nobody waits for that any more */
    bool tracked; /* guarded by lock: somebody waits, or has; the collector
                     knows it, or is about to */
} WsmEvent;

/* An event of that JSON object (bytes, as an encoder gave it), not stamped.
 * NULL with an exception; EventTooLarge over max_event_bytes. */
WsmEvent *wsm_event_new(WsmState *state, PyObject *json);

/* An event of a JSON object of size bytes, which the caller writes to *json
 * before anything else. NULL as above. */
WsmEvent *wsm_event_alloc(WsmState *state, size_t size, unsigned char **json);

/* Give it its id "<epoch>:<seq>" as the JSON's first member, its frame
 * header, and its time. Once only. Writes memory, nothing else: allowed under
 * a lock. */
void wsm_event_stamp(WsmEvent *event, uint64_t epoch, uint64_t seq,
                     int64_t now);

/* Frame header only: an event outside the numbering. */
void wsm_event_stamp_plain(WsmEvent *event);

/* The JSON as a str, made once; a new reference. */
PyObject *wsm_event_text(WsmEvent *event);

/* "<epoch>:<seq>", or None of an event outside the numbering. */
PyObject *wsm_event_id(WsmEvent *event);

/* The frame's bytes, borrowed. */
const unsigned char *wsm_event_frame(const WsmEvent *event, size_t *size);

/* Bytes it takes of an outbox. */
static inline size_t
wsm_event_size(const WsmEvent *event)
{
    return event->end - event->frame_at;
}

/* Bytes of memory it takes. */
static inline size_t
wsm_event_memory(const WsmEvent *event)
{
    return sizeof(WsmEvent) + event->end;
}

/* Note what became of it at n connections when it was emitted. */
void wsm_event_count(WsmEvent *event, WsmOutcome outcome, int32_t n);

/* One connection that had it queued is done with it; reason (or NULL) says
 * why it was not sent. May run Python (wakes who waits for flushed()): never
 * under a lock. */
void wsm_event_settle(WsmEvent *event, PyObject *connection_id,
                      WsmOutcome outcome, const char *reason);

/* Count n connections that took it, written at now (ns); timed: when it was
 * emitted, not when it was replayed. Settles nothing. */
void wsm_event_written(WsmEvent *event, uint32_t n, int64_t now, bool timed);

/* n connections that had it queued took it; of an event without detail. */
void wsm_event_sent(WsmEvent *event, int32_t n);

/* Note a connection's outcome where it was asked for. Runs no user code. */
void wsm_event_detail(WsmEvent *event, PyObject *connection_id,
                      WsmOutcome outcome, const char *reason);

/* A future that becomes True when nothing of it is queued any more. */
PyObject *wsm_event_flushed(WsmEvent *event, PyObject *timeout);

/* A future that becomes True when a client has acknowledged it, False when
 * that is not waited for any more. */
PyObject *wsm_event_acked(WsmEvent *event, PyObject *timeout);

/* A client has (or, if acked is false, nobody will have) acknowledged it.
 * True if that was still open. Never under a lock. */
bool wsm_event_acknowledge(WsmEvent *event, bool acked);

extern PyType_Spec wsm_event_spec;

#endif
