/* What is counted for whoever runs the service: by event, by reason, never
 * by user. Plain sums since the module was made, or since a fork. */
#ifndef WSM_COUNTERS_H
#define WSM_COUNTERS_H

#include "histogram.h"
#include "state.h"

/* The closed set of events that are counted apart. */
#define WSM_EVENT_KINDS(X)                                          \
    X(other) X(agent_started) X(agent_thinking) X(tool_executing)   \
    X(tool_completed) X(agent_completed)

/* What was done with a connection that is too slow. */
#define WSM_SLOW_ACTIONS(X)                                         \
    X(close) X(drop_oldest) X(drop_newest) X(coalesce)

/* Why connections end, as evict.h's callers name it; see counters.c. */
#define WSM_CLOSE_REASONS(X)                                        \
    X(other) X(removed) X(gone) X(closed) X(cancelled) X(errors)    \
    X(outbox) X(age) X(loop_closed) X(no_memory) X(stray)

/* With which close code: those of wsmanager.close_codes apart. */
#define WSM_CLOSE_CODES(X)                                          \
    X(none) X(other) X(1000) X(1001) X(1002) X(1003) X(1005)        \
    X(1006) X(1007) X(1008) X(1009) X(1010) X(1011) X(1012)         \
    X(1013) X(1014) X(1015) X(3000) X(3003) X(3008) X(4400)         \
    X(4401) X(4403) X(4404) X(4408) X(4409) X(4410) X(4413)         \
    X(4426) X(4429) X(4500) X(4503) X(4504)

#define WSM_KIND_ID(name) WSM_KIND_##name,
#define WSM_ACTION_ID(name) WSM_ACTION_##name,
#define WSM_CLOSED_ID(name) WSM_CLOSED_##name,
#define WSM_CODE_ID(name) WSM_CODE_##name,

typedef enum {
    WSM_EVENT_KINDS(WSM_KIND_ID) WSM_KINDS
} WsmKind;
typedef enum {
    WSM_SLOW_ACTIONS(WSM_ACTION_ID) WSM_ACTIONS
} WsmAction;
typedef enum {
    WSM_CLOSE_REASONS(WSM_CLOSED_ID) WSM_CLOSED
} WsmClosed;
typedef enum {
    WSM_CLOSE_CODES(WSM_CODE_ID) WSM_CODES
} WsmCode;

/* For get_stats(). */
typedef struct {
    uint64_t emitted;
    uint64_t sent;
    uint64_t queued;
    uint64_t dropped;
    uint64_t failed;
    uint64_t direct;
    uint64_t generic;
    uint64_t wakeups;
    uint64_t opened;
    uint64_t closed;
    uint64_t slow;
    uint64_t stray;
    uint64_t stored;
    uint64_t resumed;
    uint64_t not_resumed;
    uint64_t replayed;
    uint64_t acked;
    uint64_t repeated;
    uint64_t tolerated;
} WsmTotals;

/* Nothing but uint64_t, here and above. */
typedef struct {
    WsmTotals totals;
    uint64_t emitted[WSM_KINDS];
    uint64_t sent[WSM_KINDS];
    uint64_t failed[WSM_KINDS];
    uint64_t dropped[WSM_ACTIONS][WSM_KINDS];
    uint64_t slow[WSM_ACTIONS]; /* times; one may drop several events */
    uint64_t closed[WSM_CLOSED][WSM_CODES];
    WsmHistogram emit_to_write;
    WsmHistogram connected; /* how long connections lasted */
} WsmCounters;

typedef struct WsmStripe {
    WsmCounters counters;
    uint64_t apart[WSM_APART];
} WsmStripe;

/* What this thread adds to, with wsm_add(). Allowed under a lock. */
static inline WsmCounters *
wsm_counters(const WsmState *state)
{
    return &state->counters[wsm_stripe()].counters;
}

static inline WsmTotals *
wsm_totals(const WsmState *state)
{
    return &wsm_counters(state)->totals;
}

/* All stripes' sums. */
void wsm_counters_sum(const WsmState *state, WsmCounters *sum);
WsmTotals wsm_totals_sum(const WsmState *state);

/* Make the state's counters. -1 with MemoryError. */
int wsm_counters_init(WsmState *state);

/* From zero again. */
void wsm_counters_reset(WsmState *state);

/* Which of the closed set an event's type (exact str) is. */
WsmKind wsm_kind_of(PyObject *type);

/* A connection ended after so many seconds, with a close code or 0. */
void wsm_counters_closed(WsmState *state, const char *reason, int code,
                         double seconds);

/* All of them, a new dict of dicts by the names above. */
PyObject *wsm_counters_dict(const WsmState *state);

#endif
