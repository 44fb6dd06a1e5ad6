/* What a value to be encoded is made of. */
#ifndef WSM_PAYLOAD_H
#define WSM_PAYLOAD_H

#include "python.h"

/* Walk op. *plain is true if it is made only of exact dict (with str keys),
 * list, tuple, str, int of 64 bits, finite float, bool and None, no deeper
 * than a fixed limit: any encoder writes these alike. -1, without an
 * exception, if its JSON must be longer than budget bytes (shared parts
 * count as often as they would be written). Runs no Python code. */
int wsm_payload_examine(PyObject *op, Py_ssize_t budget, bool *plain);

#endif
