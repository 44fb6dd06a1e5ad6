/* Invariant: only what needs no judgement is plain; all else is left to the
 * careful encoder. */
#include "payload.h"

#include <math.h>

#include "compat.h"

#define WSM_PLAIN_DEPTH 64

typedef struct {
    Py_ssize_t budget; /* bytes of JSON still allowed */
    bool plain;
    uint32_t lengths; /* of the keys of the dict that was walked last */
} WsmWalk;

static void walk_value(WsmWalk *walk, PyObject *op, int depth);

static void
walk_dict(WsmWalk *walk, PyObject *op, int depth)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    uint32_t lengths = 0;

    Py_BEGIN_CRITICAL_SECTION(op);
    while (walk->budget >= 0 && PyDict_Next(op, &at, &key, &value)) {
        if (PyUnicode_CheckExact(key)) {
            Py_ssize_t length = PyUnicode_GET_LENGTH(key);
            walk->budget -= length + 3;
            lengths |= (uint32_t)1 << (length & 31);
        }
        else {
            walk->plain = false;
        }
        walk_value(walk, value, depth);
    }
    Py_END_CRITICAL_SECTION();
    walk->lengths = lengths; /* the outermost ends last */
}

static void
walk_list(WsmWalk *walk, PyObject *op, int depth)
{
    Py_BEGIN_CRITICAL_SECTION(op);
    for (Py_ssize_t i = 0; walk->budget >= 0 && i < PyList_GET_SIZE(op); i++) {
        walk_value(walk, PyList_GET_ITEM(op, i), depth);
    }
    Py_END_CRITICAL_SECTION();
}

static void
walk_tuple(WsmWalk *walk, PyObject *op, int depth)
{
    for (Py_ssize_t i = 0; walk->budget >= 0 && i < PyTuple_GET_SIZE(op);
         i++) {
        walk_value(walk, PyTuple_GET_ITEM(op, i), depth);
    }
}

/* A reference of our own: another thread may take it out of the container
 * around it, whose lock is let go while we wait for this one's. */
static void
walk_container(WsmWalk *walk, PyObject *op, int depth)
{
    Py_INCREF(op);
    if (depth == 0) {
        walk->plain = false;
    }
    else if (PyDict_CheckExact(op)) {
        walk_dict(walk, op, depth - 1);
    }
    else if (PyList_CheckExact(op)) {
        walk_list(walk, op, depth - 1);
    }
    else if (PyTuple_CheckExact(op)) {
        walk_tuple(walk, op, depth - 1);
    }
    else {
        walk->plain = false;
    }
    Py_DECREF(op);
}

static void
walk_value(WsmWalk *walk, PyObject *op, int depth)
{
    walk->budget -= 1;
    if (PyUnicode_CheckExact(op)) {
        walk->budget -= PyUnicode_GET_LENGTH(op) + 1;
    }
    else if (op == Py_None || PyBool_Check(op)) {
        walk->budget -= 3;
    }
    else if (PyLong_CheckExact(op)) {
        int overflow = 0;
        (void)PyLong_AsLongLongAndOverflow(op, &overflow);
        walk->plain = walk->plain && overflow == 0;
    }
    else if (PyFloat_CheckExact(op)) {
#ifndef WSM_PLANT_NAN
        walk->plain = walk->plain && isfinite(PyFloat_AS_DOUBLE(op));
#endif
    }
    else {
        walk_container(walk, op, depth);
    }
}

int
wsm_payload_examine(PyObject *op, Py_ssize_t budget, WsmPayload *seen)
{
    WsmWalk walk = {budget, true, 0};
    walk_value(&walk, op, WSM_PLAIN_DEPTH);
    *seen = (WsmPayload){walk.plain, walk.lengths};
    return walk.budget < 0 ? -1 : 0;
}
