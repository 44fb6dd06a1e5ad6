/* What differs between CPython 3.10 and 3.14 and is not in
 * pythoncapi_compat.h. Nothing else in this folder tests a version. */
#ifndef WSM_COMPAT_H
#define WSM_COMPAT_H

#include "python.h"
#include "pythoncapi_compat.h"

#include <structmember.h>

/* Whether there is a lock that one thread keeps from all the others. */
#ifdef Py_GIL_DISABLED
#define WSM_HAS_GIL false
#else
#define WSM_HAS_GIL true
#endif

/* Take the raised exception as one normalized object; NULL if none is set. */
static inline PyObject *
wsm_error_take(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* Raise an exception object; steals the reference. NULL clears. */
static inline void
wsm_error_restore(PyObject *error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    if (error == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error,
                  PyException_GetTraceback(error));
#endif
}

/* True if the raised exception is an interrupt, which may strike in any
 * Python function that is called: it is cleared then, and the caller's to set
 * again where it can be seen. */
static inline bool
wsm_interrupt_take(void)
{
    bool is = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) != 0;
    if (is) {
        PyErr_Clear();
    }
    return is;
}

/* Where the raised exception has nowhere to go it is written as unraisable;
 * but an interrupt is put back at once, to be raised by the next Python code
 * that runs. There is an exception. */
static inline void
wsm_unraisable(PyObject *where)
{
    assert(PyErr_Occurred());
    if (wsm_interrupt_take()) {
        PyErr_SetInterrupt();
    }
    else {
        PyErr_WriteUnraisable(where);
    }
}

/* Whatever a look at somebody's object raised (it may be nothing) tells us
 * nothing, and is forgotten; but what is no Exception goes where wsm_unraisable
 * puts it. */
static inline void
wsm_overlook(PyObject *where)
{
    if (PyErr_Occurred() == NULL || PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
    }
    else {
        wsm_unraisable(where);
    }
}

#if PY_VERSION_HEX >= 0x030C0000
#define WSM_TPFLAGS_MANAGED_WEAKREF Py_TPFLAGS_MANAGED_WEAKREF
#define WSM_WEAKREF_FIELD
#define WSM_WEAKREF_MEMBER(type)
#else
#define WSM_TPFLAGS_MANAGED_WEAKREF 0
#define WSM_WEAKREF_FIELD PyObject *weakrefs; /* owned by the interpreter */
#define WSM_WEAKREF_MEMBER(type)                                  \
    {"__weaklistoffset__", T_PYSSIZET, offsetof(type, weakrefs),  \
     READONLY, NULL},
#endif

/* True if a weak reference to the object exists, or ever made a list. */
#if PY_VERSION_HEX >= 0x030C0000
#define WSM_HAS_WEAKREFS(op) (wsm_has_weakrefs((PyObject *)(op)))
static inline bool
wsm_has_weakrefs(PyObject *op)
{
    PyObject **list = PyObject_GET_WEAKREFS_LISTPTR(op);
#ifdef Py_GIL_DISABLED
    return list != NULL && __atomic_load_n(list, __ATOMIC_ACQUIRE) != NULL;
#else
    return list != NULL && *list != NULL;
#endif
}
#else
#define WSM_HAS_WEAKREFS(op) ((op)->weakrefs != NULL)
#endif

/* False once the collector has cleared the type: its module may be gone. */
static inline bool
wsm_type_has_module(PyTypeObject *type)
{
    return ((PyHeapTypeObject *)type)->ht_module != NULL;
}

/* Whether await takes this generator: types.coroutine() made it. */
static inline bool
wsm_is_generator_coroutine(PyObject *op)
{
    if (!PyGen_CheckExact(op)) {
        return false;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyCodeObject *code = PyGen_GetCode((PyGenObject *)op);
#else
    PyCodeObject *code =
        (PyCodeObject *)Py_NewRef(((PyGenObject *)op)->gi_code);
#endif
    bool is = (code->co_flags & CO_ITERABLE_COROUTINE) != 0;
    Py_DECREF(code);
    return is;
}

/* What the dict has for key, a new reference; value, put in, if it had
 * nothing. 1, 0, or -1 with an exception. PyDict_SetDefaultRef() of 3.13
 * counts an insertion that fails for want of memory, and gives 0: the dict's
 * next growth would crash. With the GIL two steps are as good as one, for
 * keys of exact str or int. */
static inline int
wsm_dict_claim(PyObject *dict, PyObject *key, PyObject *value,
               PyObject **result)
{
#if PY_VERSION_HEX >= 0x030D0000 && !defined(Py_GIL_DISABLED)
    int found = PyDict_GetItemRef(dict, key, result);
    if (found == 0) {
        found = PyDict_SetItem(dict, key, value);
        *result = found < 0 ? NULL : Py_NewRef(value);
    }
    return found;
#else
    int found = PyDict_SetDefaultRef(dict, key, value, result);
    if (found == 0 && PyErr_Occurred()) {
        Py_CLEAR(*result);
        return -1;
    }
    return found;
#endif
}

/* Without the GIL all threads that use an object write to its count. 3.14 can
 * leave that; 3.13 makes what Python code defines immortal instead, and so is
 * this there: for what lives as long as the interpreter. */
static inline void
wsm_share(PyObject *op)
{
#if !defined(Py_GIL_DISABLED)
    (void)op;
#elif PY_VERSION_HEX >= 0x030E0000
    PyUnstable_Object_EnableDeferredRefcount(op);
#else
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
        Py_SET_REFCNT(op, (Py_ssize_t)UINT32_MAX + 1);
    }
#endif
}

/* asyncio has one call that swaps the current task: see task.c. */
#if PY_VERSION_HEX >= 0x030C0000
#define WSM_ASYNCIO_CAN_SWAP 1
#else
#define WSM_ASYNCIO_CAN_SWAP 0
#endif

/* Raising an exception instance just as it is came with 3.12; sharing one
 * between raises needs the GIL. */
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
#define WSM_REUSES_STOP 1
#else
#define WSM_REUSES_STOP 0
#endif

/* Whether "nobody else holds it" can be read off an object. Without the GIL
 * a count is in two parts, and another thread may be looking it up. */
#ifdef Py_GIL_DISABLED
#define WSM_COUNTS_ARE_EXACT 0
#else
#define WSM_COUNTS_ARE_EXACT 1
#endif

/* With the GIL a destructor may leave its memory to the next object without
 * a lock, which destructors never take. */
#ifdef Py_GIL_DISABLED
#define WSM_KEEPS_SPARE 0
#else
#define WSM_KEEPS_SPARE 1
#endif

/* With the GIL a reference that the table owns may be taken anew without a
 * lock; see front.h. */
#ifdef Py_GIL_DISABLED
#define WSM_KEEPS_FRONT 0
#else
#define WSM_KEEPS_FRONT 1
#endif

#endif
