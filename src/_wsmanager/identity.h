/* Who a context names: the exact, length-counted text of a user's id. */
#ifndef WSM_IDENTITY_H
#define WSM_IDENTITY_H

#include "state.h"

/* A new reference to the user key of a context: an exact str, or None for
 * no user. The text is not validated yet: a key that is already in the
 * registry has been. NULL with InvalidUserContext, or with whatever the
 * context itself raised. Runs the caller's code (attribute, item). */
PyObject *wsm_identity_key(WsmState *state, PyObject *context);

/* The same for a bare id: str, int or uuid.UUID, never None. */
PyObject *wsm_identity_id(WsmState *state, PyObject *id);

/* 0 if a key may enter the registry; -1 with InvalidUserContext. */
int wsm_identity_validate(WsmState *state, PyObject *key);

#endif
