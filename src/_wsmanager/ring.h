/* A bounded FIFO of references that knows nothing of what they are. */
#ifndef WSM_RING_H
#define WSM_RING_H

#include "python.h"

typedef struct {
    PyObject **items; /* owned references; NULL until first used */
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t head;
    uint32_t count;
} WsmRing;

/* Append, stealing the reference. 0, or -1 with no memory (no exception is
 * set; the reference stays the caller's). Raw memory only: may be called
 * under a lock. */
int wsm_ring_push(WsmRing *ring, PyObject *op);

/* Put in front, stealing the reference; as wsm_ring_push otherwise. */
int wsm_ring_push_front(WsmRing *ring, PyObject *op);

/* Take the oldest: the caller owns it. NULL when empty. */
PyObject *wsm_ring_pop(WsmRing *ring);

/* The i-th oldest, borrowed from the ring. */
PyObject *wsm_ring_peek(const WsmRing *ring, uint32_t i);

/* Take out the i-th oldest, keeping the order of the others. */
PyObject *wsm_ring_take(WsmRing *ring, uint32_t i);

/* Put op in the place of the i-th oldest; returns the old one, owned. */
PyObject *wsm_ring_replace(WsmRing *ring, uint32_t i, PyObject *op);

/* Give back the memory of an empty ring. */
void wsm_ring_release(WsmRing *ring);

#endif
