/* What a module's registry holds, for all users together. */
#ifndef WSM_STATUS_H
#define WSM_STATUS_H

#include "state.h"

/* get_manager_registry_status(): counts, a new dict without ids. */
PyObject *wsm_status(PyObject *module, PyObject *ignored);

/* Every connection of every user, a new list: for those that look after all
 * of them. */
PyObject *wsm_status_connections(PyObject *module, PyObject *ignored);

#endif
