/* An event on its way from a method's arguments to the fan-out. */
#ifndef WSM_DISPATCH_H
#define WSM_DISPATCH_H

#include "envelope.h"
#include "manager.h"

/* Where an event goes. */
typedef struct {
    WsmManager *manager; /* owned */
    WsmConnection *only; /* owned or NULL */
    const char *function; /* the call, for its errors */
    PyObject *thread_id; /* borrowed or NULL: that thread's connections */
    PyObject *once; /* borrowed or NULL: the idempotency key, exact str */
    bool critical;
    bool detail;
    bool ack;
    bool untraced; /* a part of something that is traced as a whole */
} WsmTarget;

void wsm_target_drop(WsmTarget *target);

/* Whom an id names: a connection of the manager, or, by the user's own id,
 * all of them. -1 with ConnectionNotFound, TypeError or what routing says. */
int wsm_target_resolve(WsmManager *self, PyObject *id, WsmTarget *target);

/* The exact str of an event's type; TypeError or ValueError otherwise. */
PyObject *wsm_dispatch_type(const char *function, PyObject *type);

/* A mapping, dataclass, model or the like as a plain dict, so that every
 * envelope can look into it; what is none of them stays what it is, and the
 * encoder judges it. */
PyObject *wsm_dispatch_data(WsmState *state, PyObject *data);

/* Encode and send: the delivery. The target stays the caller's. */
PyObject *wsm_dispatch(const WsmTarget *target, WsmLetter *letter);

#endif
