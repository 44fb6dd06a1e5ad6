/* What a connection had waiting when another thread removed it. */
#ifndef WSM_PARTING_H
#define WSM_PARTING_H

#include "state.h"

/* The callable behind wsm_remove(), for a turn of the connection's own loop:
 * part(connection, events). Each event is written or fails. */
PyObject *wsm_part(PyObject *module, PyObject *args);

#endif
