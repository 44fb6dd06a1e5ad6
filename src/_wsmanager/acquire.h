/* The awaitable of get_websocket_manager_async(). */
#ifndef WSM_ACQUIRE_H
#define WSM_ACQUIRE_H

#include "manager.h"
#include "state.h"

/* Steals key; manager (stolen, may be NULL) if the user has one already. */
PyObject *wsm_acquire_new(WsmState *state, PyObject *key, PyObject *context,
                          PyObject *mode, WsmManager *manager);

/* A shared availability check has ended: check_done(task). */
PyObject *wsm_acquire_check_done(PyObject *module, PyObject *task);

extern PyType_Spec wsm_acquire_spec;

#endif
