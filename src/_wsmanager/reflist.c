/* A list of references whose last owner is about to go.
 * Invariant: nothing in here is dropped before wsm_reflist_drop(). */
#include "reflist.h"

#include <string.h>

void
wsm_reflist_init(WsmRefList *list)
{
    list->items = list->first;
    list->count = 0;
    list->capacity = WSM_REFLIST_INLINE;
}

static bool
reflist_grow(WsmRefList *list)
{
    Py_ssize_t capacity = list->capacity * 2;
    PyObject **items = PyMem_RawMalloc((size_t)capacity * sizeof(PyObject *));
    if (items == NULL) {
        return false;
    }
    memcpy(items, list->items, (size_t)list->count * sizeof(PyObject *));
    if (list->items != list->first) {
        PyMem_RawFree(list->items);
    }
    list->items = items;
    list->capacity = capacity;
    return true;
}

/* Room for so many more (two at most); false with no memory. */
static bool
reflist_reserve(WsmRefList *list, Py_ssize_t more)
{
    return list->capacity - list->count >= more || reflist_grow(list);
}

void
wsm_reflist_park(WsmRefList *list, PyObject *op)
{
    if (op != NULL && reflist_reserve(list, 1)) {
        list->items[list->count++] = op;
    }
}

void
wsm_reflist_park_pair(WsmRefList *list, PyObject *owner, PyObject *op)
{
    if (reflist_reserve(list, 2)) {
        list->items[list->count++] = Py_NewRef(owner);
        list->items[list->count++] = op;
    }
}

void
wsm_reflist_drop(WsmRefList *list)
{
    PyObject **items = list->items;
    Py_ssize_t count = list->count;
    PyObject *copy[WSM_REFLIST_INLINE];

    if (count == 0) {
        return; /* it has not grown either, or some would be in it */
    }
    if (items == list->first) {
        memcpy(copy, items, (size_t)count * sizeof(PyObject *));
        list->count = 0;
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_DECREF(copy[i]);
        }
        return;
    }
    wsm_reflist_init(list);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_DECREF(items[i]);
    }
    PyMem_RawFree(items);
}
