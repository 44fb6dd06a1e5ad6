/* Setting and reading what configure() may change. */
#ifndef WSM_SETTINGS_H
#define WSM_SETTINGS_H

#include "state.h"

/* Change the settings of kwargs; all or none. -1 with TypeError or
 * ValueError. */
int wsm_settings_change(WsmState *state, PyObject *kwargs);

/* A setting that is an object (a field of state->settings), or NULL: a new
 * reference, since another thread may change it at once. */
PyObject *wsm_settings_object(WsmState *state, PyObject *const *field);

/* All settings, a new dict. */
PyObject *wsm_settings_dict(WsmState *state);

#endif
