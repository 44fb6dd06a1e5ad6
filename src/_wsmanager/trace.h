/* A hook around one emit, for tracing; nothing of it runs where there is no
 * hook. */
#ifndef WSM_TRACE_H
#define WSM_TRACE_H

#include "envelope.h"
#include "state.h"

typedef struct {
    PyObject *finish; /* owned or NULL: to be called at the end */
    PyObject *root; /* owned or NULL: the letter's new root */
} WsmTrace;

/* Call hooks.trace(where, type, data, thread_id, run_id), which gives None,
 * or a pair of further members for the root (a dict or None) and a function.
 * May change letter->root, to one that lives until the end. Never fails: an
 * error of the hook is written as unraisable. Runs Python. */
void wsm_trace_begin(WsmState *state, const char *where, WsmLetter *letter,
                     WsmTrace *trace);

/* Call that function with what the emit gave and with its error, of which one
 * is None. The error that is set stays set. */
void wsm_trace_end(WsmTrace *trace, PyObject *result);

#endif
