/* Invariant: a roster that others can reach is never written to. */
#include "roster.h"

WsmRoster *
wsm_roster_alloc(Py_ssize_t count)
{
    size_t size = sizeof(WsmRoster) + (size_t)count * sizeof(PyObject *);
    WsmRoster *roster = PyMem_RawCalloc(1, size);
    if (roster != NULL) {
        roster->refs = 1;
        roster->count = count;
    }
    return roster;
}

Py_ssize_t
wsm_roster_find(const WsmRoster *roster, const PyObject *op)
{
    if (roster != NULL) {
        for (Py_ssize_t i = 0; i < roster->count; i++) {
            if (roster->items[i] == op) {
                return i;
            }
        }
    }
    return -1;
}

void
wsm_roster_fill_added(WsmRoster *to, const WsmRoster *from, PyObject *op)
{
    Py_ssize_t n = from == NULL ? 0 : from->count;
    for (Py_ssize_t i = 0; i < n; i++) {
        to->items[i] = Py_NewRef(from->items[i]);
    }
    to->items[n] = Py_NewRef(op);
}

void
wsm_roster_fill_removed(WsmRoster *to, const WsmRoster *from, Py_ssize_t at)
{
    Py_ssize_t k = 0;
    for (Py_ssize_t i = 0; i < from->count; i++) {
        if (i != at) {
            to->items[k++] = Py_NewRef(from->items[i]);
        }
    }
}

PyObject *
wsm_roster_take(WsmRoster *roster, Py_ssize_t at)
{
    PyObject *op = roster->items[at];
    for (Py_ssize_t i = at; i + 1 < roster->count; i++) {
        roster->items[i] = roster->items[i + 1];
    }
    roster->count--;
    return op;
}

void
wsm_roster_free(WsmRoster *roster)
{
    if (roster == NULL) {
        return;
    }
#ifdef WSM_PLANT_UAF
    PyMem_RawFree(roster);
#endif
    for (Py_ssize_t i = 0; i < roster->count; i++) {
        Py_XDECREF(roster->items[i]);
    }
#ifndef WSM_PLANT_UAF
    PyMem_RawFree(roster);
#endif
}
