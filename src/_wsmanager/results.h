/* The small objects that calls give back. */
#ifndef WSM_RESULTS_H
#define WSM_RESULTS_H

#include "event.h"
#include "state.h"

/* What became of an event so far; immutable. */
PyObject *wsm_receipt_new(WsmState *state, WsmEvent *event);

/* A value that may also be awaited; steals the reference (NULL passes). */
PyObject *wsm_answer_new(WsmState *state, PyObject *value);

/* A str that knows its generation and may be awaited. */
PyObject *wsm_connection_id_new(WsmState *state, PyObject *id,
                                uint64_t generation);

/* The generation of a ConnectionId; 0 of any other object. */
uint64_t wsm_connection_id_generation(WsmState *state, PyObject *id);

/* Raise StopIteration(value), whatever the value is. */
void wsm_raise_stop(PyObject *value);

/* The same for await's own eyes: the instance may be one that was raised
 * before. Steals value. */
void wsm_raise_stop_fast(WsmState *state, PyObject *value);

/* The value of the last such instance has been taken: let go of it. */
void wsm_stop_forget(WsmState *state);

/* Raise what a throw(typ, val=None, tb=None) was given (PEP 342): 0; -1 with
 * the caller's TypeError if that is no exception. */
int wsm_raise_thrown(PyObject *const *args, Py_ssize_t nargs);

/* tp_richcompare of what may stand where a bool did: equal to the bool of its
 * own truth, else itself only. tp_hash, by identity, goes with it. */
PyObject *wsm_truth_richcompare(PyObject *op, PyObject *other, int how);
Py_hash_t wsm_truth_hash(PyObject *op);

extern PyType_Spec wsm_receipt_spec;
extern PyType_Spec wsm_answer_spec;
extern PyType_Spec wsm_connection_id_spec; /* its base is str */

#endif
