/* What an emit returns: the awaitable of an event already on its way. */
#ifndef WSM_DELIVERY_H
#define WSM_DELIVERY_H

#include "event.h"
#include "state.h"

typedef struct {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    WsmEvent *event; /* owned */
    WSM_SHARED(bool)
    backlog; /* a connection here waits for its peer: yield once */
} WsmDelivery;

WsmDelivery *wsm_delivery_new(WsmState *state, WsmEvent *event);

extern PyType_Spec wsm_delivery_spec;

#endif
