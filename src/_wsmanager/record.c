/* A record is told by its own fields, never by trying its attributes: a
 * mock has them all. */
#include "record.h"

#include "compat.h"

int
wsm_record_is(WsmState *state, PyObject *op)
{
    PyObject *fields = NULL;
    int is;

    if (state->hooks.record_type != NULL) {
        is = PyObject_IsInstance(op, state->hooks.record_type);
        if (is != 0) {
            return is;
        }
    }
    if (PyObject_GetOptionalAttr((PyObject *)Py_TYPE(op),
                                 state->names.__dataclass_fields__,
                                 &fields) < 0) {
        return -1;
    }
    if (fields == NULL &&
        PyObject_GetOptionalAttr(op, state->names.__dict__, &fields) < 0) {
        return -1;
    }
    if (fields == NULL || !PyDict_Check(fields)) {
        Py_XDECREF(fields);
        return 0;
    }
    is = PyDict_Contains(fields, state->names.websocket);
    if (is > 0) {
        is = PyDict_Contains(fields, state->names.user_id) ||
             PyDict_Contains(fields, state->names.connection_id);
    }
    Py_DECREF(fields);
    return is;
}

int
wsm_record_field(PyObject *record, PyObject *name, PyObject **value)
{
    if (PyObject_GetOptionalAttr(record, name, value) < 0) {
        return -1;
    }
    if (*value == Py_None) {
        Py_CLEAR(*value);
    }
    return 0;
}
