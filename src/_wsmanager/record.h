/* WebSocketConnection records: a socket with what is known of it. */
#ifndef WSM_RECORD_H
#define WSM_RECORD_H

#include "state.h"

/* 1 if op is a record, 0 if it is a socket itself, -1 with an exception. */
int wsm_record_is(WsmState *state, PyObject *op);

/* A field of a record: *value owned, NULL where absent or None. -1 with an
 * exception. */
int wsm_record_field(PyObject *record, PyObject *name, PyObject **value);

#endif
