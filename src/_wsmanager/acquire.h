/* The awaitable of get_websocket_manager_async(). */
#ifndef WSM_ACQUIRE_H
#define WSM_ACQUIRE_H

#include "manager.h"
#include "state.h"

/* For a user whose manager is there (stolen). */
PyObject *wsm_acquire_hit(WsmState *state, WsmManager *manager);

/* For a user who may have none yet; steals key. */
PyObject *wsm_acquire_miss(WsmState *state, PyObject *key, PyObject *context,
                           PyObject *mode);

extern PyType_Spec wsm_acquire_spec;

#endif
