/* How an event looks on the wire: the members of its JSON object, and the
 * bytes of it. */
#ifndef WSM_ENVELOPE_H
#define WSM_ENVELOPE_H

#include "event.h"
#include "state.h"

typedef struct {
    PyObject *type; /* borrowed exact str */
    PyObject *data; /* borrowed: the payload */
    PyObject *root; /* borrowed dict or NULL: further members of the root */
    PyObject *rest; /* borrowed dict or NULL: what else a mixed payload has */
    PyObject *user_id; /* borrowed: str or None */
    PyObject *thread_id; /* borrowed or NULL: taken from the data then */
    PyObject *run_id; /* borrowed or NULL: taken from the data then */
    bool ack; /* the client is asked to acknowledge it */
} WsmLetter;

/* The event of a letter in the configured envelope. NULL with EncodeError,
 * EventTooLarge, or what the envelope callable raised. */
WsmEvent *wsm_envelope_event(WsmState *state, const WsmLetter *letter);

#endif
