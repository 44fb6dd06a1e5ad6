/* In front of a table by text: the str objects that were asked for last, by
 * their address, each with what the table has for it. Holding the str is
 * what makes its address a name: it cannot be another's meanwhile. Only with
 * the GIL; else it is always empty. */
#ifndef WSM_FRONT_H
#define WSM_FRONT_H

#include "compat.h"

#define WSM_FRONT_SLOTS 64

typedef struct {
    PyObject *key; /* owned exact str, or NULL */
    PyObject *value; /* borrowed: the table owns it; or NULL */
} WsmFrontSlot;

typedef struct {
    WsmFrontSlot slots[WSM_KEEPS_FRONT ? WSM_FRONT_SLOTS : 1];
} WsmFront;

static inline WsmFrontSlot *
wsm_front_slot(WsmFront *front, PyObject *key)
{
    uintptr_t address = (uintptr_t)key;
    return &front->slots[(address >> 4 ^ address >> 10) % WSM_FRONT_SLOTS];
}

/* What the table has for this very str, borrowed; NULL: ask the table. */
static inline PyObject *
wsm_front_find(WsmFront *front, PyObject *key)
{
    if (!WSM_KEEPS_FRONT) {
        return NULL;
    }
    WsmFrontSlot *slot = wsm_front_slot(front, key);
    return slot->key == key ? slot->value : NULL;
}

/* Note what the table has. Never under a lock: drops a str. */
void wsm_front_put(WsmFront *front, PyObject *key, PyObject *value);

/* It leaves the table. Drops nothing: allowed under a lock. */
void wsm_front_forget(WsmFront *front, PyObject *value);

/* Everything leaves the table. Never under a lock: drops strs. */
void wsm_front_clear(WsmFront *front);

#endif
