/* What a value to be encoded is made of. */
#ifndef WSM_PAYLOAD_H
#define WSM_PAYLOAD_H

#include "python.h"

/* What was seen of it. */
typedef struct {
    bool plain; /* any encoder writes it alike: made only of exact dict (with
                   str keys), list, tuple, str, int of 64 bits, finite float,
                   bool and None, no deeper than a fixed limit */
    uint32_t lengths; /* of the outermost dict's keys, a bit each */
} WsmPayload;

/* Walk op. -1, without an exception, if its JSON must be longer than budget
 * bytes (shared parts count as often as they would be written). Runs no
 * Python code. */
int wsm_payload_examine(PyObject *op, Py_ssize_t budget, WsmPayload *seen);

/* False if a dict that was seen had no key of that length (below 32). */
static inline bool
wsm_payload_may_have(const WsmPayload *seen, PyObject *name)
{
    return (seen->lengths >> PyUnicode_GET_LENGTH(name) & 1) != 0;
}

#endif
