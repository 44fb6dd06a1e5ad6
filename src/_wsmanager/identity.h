/* Who a context names: the exact, length-counted text of a user's id. */
#ifndef WSM_IDENTITY_H
#define WSM_IDENTITY_H

#include "compat.h"
#include "state.h"

/* A new reference to the key of a bare id: str, int or uuid.UUID, never None;
 * exact str. NULL with InvalidUserContext. */
PyObject *wsm_identity_id(WsmState *state, PyObject *id);

/* The same; steals the id. */
PyObject *wsm_identity_convert(WsmState *state, PyObject *id);

/* The key of a context that is not a str, a dict, or an object that looks its
 * attributes up in the usual way. */
PyObject *wsm_identity_from_other(WsmState *state, PyObject *context);

/* The key where the usual look-up of the attribute has just failed. */
PyObject *wsm_identity_missed(WsmState *state, PyObject *context);

/* NULL with InvalidUserContext: a mapping without "user_id". */
PyObject *wsm_identity_refuse_mapping(WsmState *state);

/* A new reference to the user key of a context: an exact str, or None for
 * no user. The text is not validated yet: a key that is already in the
 * registry has been. NULL with InvalidUserContext, or with whatever the
 * context itself raised. Runs the caller's code (attribute, item).
 *
 * Each hit passes here: what is usual is put into its caller, all else is
 * apart. */
static inline WSM_INLINE PyObject *
wsm_identity_key(WsmState *state, PyObject *context)
{
    PyObject *id;

    if (context == NULL || context == Py_None) {
        return Py_NewRef(Py_None);
    }
    PyTypeObject *type = Py_TYPE(context);
    if (!PyType_HasFeature(
            type, Py_TPFLAGS_DICT_SUBCLASS | Py_TPFLAGS_UNICODE_SUBCLASS) &&
        type->tp_getattro == PyObject_GenericGetAttr) {
        id = PyObject_GenericGetAttr(context, state->names.user_id);
        if (id == NULL) {
            return wsm_identity_missed(state, context);
        }
    }
    else if (type == &PyDict_Type) {
        int found = PyDict_GetItemRef(context, state->names.user_id, &id);
        if (found <= 0) {
            return found < 0 ? NULL : wsm_identity_refuse_mapping(state);
        }
    }
    else if (PyUnicode_Check(context)) {
        return wsm_identity_id(state, context);
    }
    else {
        return wsm_identity_from_other(state, context);
    }
    return PyUnicode_CheckExact(id) ? id : wsm_identity_convert(state, id);
}

/* 0 if a key may enter the registry; -1 with InvalidUserContext. */
int wsm_identity_validate(WsmState *state, PyObject *key);

#endif
