/* One kind of lock, leaf only. Between wsm_lock and wsm_unlock: pointer
 * moves, integers, Py_NewRef, raw memory; never a decref, never a call that
 * can run Python, never a second lock.
 *
 * With the GIL the GIL is the lock: such a section cannot run Python, so it
 * cannot lose the GIL either; the flag only proves that the rule is kept. */
#ifndef WSM_LOCK_H
#define WSM_LOCK_H

#include "python.h"
#include <assert.h>
#ifdef Py_GIL_DISABLED
#include <stdatomic.h>
#endif

#if defined(__clang__)
#define WSM_CAPABILITY __attribute__((capability("lock")))
#define WSM_ACQUIRES __attribute__((acquire_capability(lock)))
#define WSM_RELEASES __attribute__((release_capability(lock)))
#define WSM_REQUIRES(l) __attribute__((requires_capability(l)))
#define WSM_UNCHECKED __attribute__((no_thread_safety_analysis))
#else
#define WSM_CAPABILITY
#define WSM_ACQUIRES
#define WSM_RELEASES
#define WSM_REQUIRES(l)
#define WSM_UNCHECKED
#endif

#ifdef Py_GIL_DISABLED
typedef struct WSM_CAPABILITY {
    PyMutex mutex;
} WsmLock;
#else
typedef struct WSM_CAPABILITY {
    char held;
} WsmLock;
#endif

static inline void wsm_lock(WsmLock *lock) WSM_ACQUIRES;
static inline void wsm_unlock(WsmLock *lock) WSM_RELEASES;

#ifdef Py_GIL_DISABLED
static inline void WSM_UNCHECKED
wsm_lock(WsmLock *lock)
{
    PyMutex_Lock(&lock->mutex);
}

static inline void WSM_UNCHECKED
wsm_unlock(WsmLock *lock)
{
    PyMutex_Unlock(&lock->mutex);
}
#else
static inline void WSM_UNCHECKED
wsm_lock(WsmLock *lock)
{
#ifndef NDEBUG
    assert(!lock->held);
    lock->held = 1;
#else
    (void)lock;
#endif
}

static inline void WSM_UNCHECKED
wsm_unlock(WsmLock *lock)
{
#ifndef NDEBUG
    assert(lock->held);
    lock->held = 0;
#else
    (void)lock;
#endif
}
#endif

/* What threads read and change without a lock: a whole value each time, in
 * one order for all. The GIL sees to that where there is one. */
#ifdef Py_GIL_DISABLED
#define WSM_SHARED(type) _Atomic(type)
#else
#define WSM_SHARED(type) type
#endif

/* Add to a shared number; what it is then. */
static inline uint64_t
wsm_shared_add(WSM_SHARED(uint64_t) * number, uint64_t more)
{
#ifdef Py_GIL_DISABLED
    return atomic_fetch_add(number, more) + more;
#else
    return *number += more;
#endif
}

/* Change a shared size from *old; if it is another meanwhile, false, and
 * *old is that. */
static inline bool
wsm_shared_change(WSM_SHARED(size_t) * size, size_t *old, size_t value)
{
#ifdef Py_GIL_DISABLED
    return atomic_compare_exchange_strong(size, old, value);
#else
    bool same = *size == *old;
    if (same) {
        *size = value;
    }
    else {
        *old = *size;
    }
    return same;
#endif
}

typedef WSM_SHARED(PyObject *) WsmSlot;

/* What was in the slot, the caller's now; of two threads one gets it. */
static inline PyObject *
wsm_slot_take(WsmSlot *slot)
{
#ifdef Py_GIL_DISABLED
    return atomic_exchange(slot, NULL);
#else
    PyObject *op = *slot;
    *slot = NULL;
    return op;
#endif
}

/* A counter that threads only ever add to, in no order that matters. */
#ifdef Py_GIL_DISABLED
static inline void
wsm_add(uint64_t *counter, uint64_t n)
{
    if (n != 0) {
        (void)__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
    }
}

static inline uint64_t
wsm_read(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline void
wsm_clear(uint64_t *counter)
{
    __atomic_store_n(counter, 0, __ATOMIC_RELAXED);
}
#else
static inline void
wsm_add(uint64_t *counter, uint64_t n)
{
    *counter += n;
}

static inline uint64_t
wsm_read(const uint64_t *counter)
{
    return *counter;
}

static inline void
wsm_clear(uint64_t *counter)
{
    *counter = 0;
}
#endif

/* What all threads count is kept in stripes, so that they do not write to
 * one cache line: each adds to that of its number, the sum is what counts.
 * With the GIL they take turns, and there is one stripe. */
#ifdef Py_GIL_DISABLED
#define WSM_STRIPES 32
#define WSM_APART 16 /* of 8 bytes, unused: what follows is on other lines */
#else
#define WSM_STRIPES 1
#define WSM_APART 1
#endif

static inline size_t
wsm_stripe(void)
{
#ifdef Py_GIL_DISABLED
    return PyThreadState_Get()->id % WSM_STRIPES;
#else
    return 0;
#endif
}

/* Forget who held it: for the child of a fork only. */
static inline void
wsm_lock_reset(WsmLock *lock)
{
    *lock = (WsmLock){0};
}

#endif
