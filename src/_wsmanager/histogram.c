/* Invariant: bucket 4(e - 1) + s holds what is at least (4 + s) 2^(e - 2)
 * and less than (5 + s) 2^(e - 2) nanoseconds; the first four hold 0 to 3. */
#include "histogram.h"

#define WSM_CLOCK_TRUST 32

static unsigned
histogram_bucket(uint64_t ns)
{
    if (ns < 4) {
        return (unsigned)ns;
    }
    unsigned octave = 63 - (unsigned)__builtin_clzll(ns);
    return 4 * (octave - 1) + (unsigned)((ns >> (octave - 2)) & 3);
}

static double
histogram_bound(unsigned bucket)
{
    uint64_t bound = bucket < 4
                         ? bucket + 1
                         : (uint64_t)(5 + bucket % 4) << (bucket / 4 - 1);
    return (double)bound / 1e9;
}

void
wsm_histogram_add(WsmHistogram *self, int64_t ns, uint64_t n)
{
    uint64_t took = ns < 0 ? 0 : (uint64_t)ns;
    wsm_add(&self->counts[histogram_bucket(took)], n);
    wsm_add(&self->sum, took * n);
}

int64_t
wsm_clock_now(WsmClock *self)
{
    if (self->asked++ % WSM_CLOCK_TRUST == 0) {
        self->now = wsm_now_ns();
    }
    return self->now;
}

PyObject *
wsm_histogram_dict(const WsmHistogram *self)
{
    PyObject *buckets = PyList_New(0);
    uint64_t count = 0;

    for (unsigned i = 0; buckets != NULL && i < WSM_HISTOGRAM_BUCKETS; i++) {
        uint64_t here = wsm_read(&self->counts[i]);
        if (here == 0) {
            continue;
        }
        count += here;
        PyObject *pair = Py_BuildValue("(dK)", histogram_bound(i),
                                       (unsigned long long)here);
        if (pair == NULL || PyList_Append(buckets, pair) < 0) {
            Py_CLEAR(buckets);
        }
        Py_XDECREF(pair);
    }
    if (buckets == NULL) {
        return NULL;
    }
    return Py_BuildValue("{s:K,s:d,s:N}", "count", (unsigned long long)count,
                         "sum", (double)wsm_read(&self->sum) / 1e9, "buckets",
                         buckets);
}
