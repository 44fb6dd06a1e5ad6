/* Invariant: a value here is in the table too; who takes it out of there
 * tells us in the same breath. */
#include "front.h"

void
wsm_front_put(WsmFront *front, PyObject *key, PyObject *value)
{
    if (!WSM_KEEPS_FRONT) {
        return;
    }
    WsmFrontSlot *slot = wsm_front_slot(front, key);
    PyObject *old = slot->key;
    if (old != key) {
        slot->key = Py_NewRef(key);
        Py_XDECREF(old);
    }
    slot->value = value;
}

void
wsm_front_forget(WsmFront *front, PyObject *value)
{
#ifndef WSM_PLANT_STALE_FRONT
    for (size_t i = 0; i < Py_ARRAY_LENGTH(front->slots); i++) {
        if (front->slots[i].value == value) {
            front->slots[i].value = NULL;
        }
    }
#else
    (void)front;
    (void)value;
#endif
}

void
wsm_front_clear(WsmFront *front)
{
#ifndef WSM_PLANT_STALE_FRONT
    for (size_t i = 0; i < Py_ARRAY_LENGTH(front->slots); i++) {
        front->slots[i].value = NULL;
        Py_CLEAR(front->slots[i].key);
    }
#else
    (void)front;
#endif
}
