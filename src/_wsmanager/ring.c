/* Invariant: items[head .. head+count) modulo capacity are owned. */
#include "ring.h"

#include <assert.h>

static int
ring_grow(WsmRing *ring)
{
    uint32_t capacity = ring->capacity ? ring->capacity * 2 : 8;
    if (capacity == 0) {
        return -1;
    }
    PyObject **items = PyMem_RawMalloc((size_t)capacity * sizeof(PyObject *));
    if (items == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < ring->count; i++) {
        items[i] = wsm_ring_peek(ring, i);
    }
    PyMem_RawFree(ring->items);
    ring->items = items;
    ring->capacity = capacity;
    ring->head = 0;
    return 0;
}

int
wsm_ring_push(WsmRing *ring, PyObject *op)
{
    if (ring->count == ring->capacity && ring_grow(ring) < 0) {
        return -1;
    }
    ring->items[(ring->head + ring->count) & (ring->capacity - 1)] = op;
    ring->count++;
    return 0;
}

int
wsm_ring_push_front(WsmRing *ring, PyObject *op)
{
    if (ring->count == ring->capacity && ring_grow(ring) < 0) {
        return -1;
    }
    ring->head = (ring->head - 1) & (ring->capacity - 1);
    ring->items[ring->head] = op;
    ring->count++;
    return 0;
}

PyObject *
wsm_ring_pop(WsmRing *ring)
{
    if (ring->count == 0) {
        return NULL;
    }
    PyObject *op = ring->items[ring->head];
    ring->head = (ring->head + 1) & (ring->capacity - 1);
    ring->count--;
    return op;
}

PyObject *
wsm_ring_peek(const WsmRing *ring, uint32_t i)
{
    assert(i < ring->count);
    return ring->items[(ring->head + i) & (ring->capacity - 1)];
}

PyObject *
wsm_ring_replace(WsmRing *ring, uint32_t i, PyObject *op)
{
    assert(i < ring->count);
    PyObject **slot = &ring->items[(ring->head + i) & (ring->capacity - 1)];
    PyObject *old = *slot;
    *slot = op;
    return old;
}

PyObject *
wsm_ring_take(WsmRing *ring, uint32_t i)
{
    PyObject *op = wsm_ring_peek(ring, i);
    for (uint32_t k = i; k + 1 < ring->count; k++) {
        wsm_ring_replace(ring, k, wsm_ring_peek(ring, k + 1));
    }
    ring->count--;
    return op;
}

void
wsm_ring_release(WsmRing *ring)
{
    if (ring->count == 0) {
        PyMem_RawFree(ring->items);
        ring->items = NULL;
        ring->capacity = 0;
        ring->head = 0;
    }
}
