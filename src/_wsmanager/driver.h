/* Drives a send that suspended to its end: the coroutine of its task. */
#ifndef WSM_DRIVER_H
#define WSM_DRIVER_H

#include "compat.h"
#include "connection.h"
#include "event.h"

typedef struct WsmDriver {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    WSM_WEAKREF_FIELD
    PyObject *loop; /* owned */
    WsmConnection *connection; /* owned, or NULL in a pass */
    WsmEvent *event; /* owned or NULL: on its way */
    PyObject *inner; /* owned or NULL: the send that is on its way */
    PyObject *awaiting; /* owned or NULL: what its first step yielded */
    PyObject *task; /* owned or NULL */
    bool stepping; /* the send runs just now */
} WsmDriver;

/* One for a pass: no connection yet. NULL with an exception. */
WsmDriver *wsm_driver_new(WsmState *state, PyObject *loop);

/* Make a task of the loop that goes on with it. -1 with an exception. */
int wsm_driver_go_on(WsmDriver *self);

/* The writer of its connection is done, or must be. */
void wsm_driver_release(WsmDriver *self);

extern PyType_Spec wsm_driver_spec;

#endif
