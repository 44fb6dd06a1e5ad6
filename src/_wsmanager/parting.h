/* What a connection had waiting when another thread removed it. */
#ifndef WSM_PARTING_H
#define WSM_PARTING_H

#include "connection.h"

/* A callback for a turn of the connection's own loop, which writes them:
 * Parting(connection, events). Nothing is left without an outcome: what it
 * was not called for when it goes, as a closing loop lets go of what it has
 * not run, has failed. */
typedef struct {
    PyObject_HEAD
    WsmConnection *connection; /* owned */
    PyObject *events; /* owned list; NULL: their outcomes are known */
} WsmParting;

extern PyType_Spec wsm_parting_spec;

#endif
