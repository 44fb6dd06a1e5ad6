/* How long something took: counts in fixed buckets, four to an octave, from
 * nanoseconds to centuries, so no limit has to be chosen beforehand. */
#ifndef WSM_HISTOGRAM_H
#define WSM_HISTOGRAM_H

#include "lock.h"
#include "state.h"

#define WSM_HISTOGRAM_BUCKETS 248

typedef struct {
    uint64_t counts[WSM_HISTOGRAM_BUCKETS];
    uint64_t sum; /* ns */
} WsmHistogram;

/* A clock that many short things may ask: read anew every so often. */
typedef struct {
    int64_t now; /* ns */
    uint32_t asked;
} WsmClock;

/* What time it is, at most WSM_CLOCK_TRUST asks ago: ns, monotonic. */
int64_t wsm_clock_now(WsmClock *self);

/* n things took ns nanoseconds each (below 0: counted as 0). Any thread,
 * allowed under a lock. */
void wsm_histogram_add(WsmHistogram *self, int64_t ns, uint64_t n);

/* A dict: "count", "sum" (seconds), and "buckets", a list of pairs of an
 * upper bound in seconds and a count, without those that are empty. */
PyObject *wsm_histogram_dict(const WsmHistogram *self);

#endif
