/* Invariant: two ids are the same user only if they are the same text; an
 * id is never guessed, taken from a repr, or cleaned up. */
#include "identity.h"

#include "compat.h"

#define WSM_ID_MAX 256

static PyObject *
identity_refuse(WsmState *state, PyObject *op, const char *what)
{
    PyErr_Format(state->errors.InvalidUserContext,
                 "%s, not %.100s: give an object with a user_id attribute, "
                 "a mapping with \"user_id\", or the id itself as a str",
                 what, Py_TYPE(op)->tp_name);
    return NULL;
}

/* An int too long for its own repr is too long for an id as well. */
static PyObject *
identity_from_int(WsmState *state, PyObject *id)
{
    PyObject *text = PyLong_Type.tp_repr(id);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Format(state->errors.InvalidUserContext,
                     "user_id is an int of more than %d digits", WSM_ID_MAX);
    }
    return text;
}

/* A UUID's text. Its real class counts, not the one it claims; nobody has one
 * before somebody imported uuid. */
static PyObject *
identity_from_uuid(WsmState *state, PyObject *id)
{
    PyTypeObject *type = wsm_loaded_type("uuid", "UUID");
    PyObject *text = NULL;

    if (type != NULL && PyObject_TypeCheck(id, type)) {
        text = PyObject_CallMethodOneArg((PyObject *)type,
                                         state->names.__str__, id);
        if (text != NULL && !PyUnicode_CheckExact(text)) {
            identity_refuse(state, text, "a UUID's text must be a str");
            Py_CLEAR(text);
        }
    }
    else if (!PyErr_Occurred()) {
        identity_refuse(state, id, "user_id must be a str, int or UUID");
    }
    Py_XDECREF(type);
    return text;
}

PyObject *
wsm_identity_id(WsmState *state, PyObject *id)
{
#ifdef WSM_PLANT_NUL
    if (PyUnicode_CheckExact(id)) {
        return PyUnicode_FromString(PyUnicode_AsUTF8(id));
    }
#endif
    if (PyUnicode_CheckExact(id)) {
        return Py_NewRef(id);
    }
    if (PyUnicode_Check(id)) {
        return PyUnicode_FromObject(id);
    }
    if (PyBool_Check(id)) {
        return identity_refuse(state, id,
                               "user_id must be a str, int or UUID");
    }
    if (PyLong_Check(id)) {
        return identity_from_int(state, id);
    }
    return identity_from_uuid(state, id);
}

PyObject *
wsm_identity_refuse_mapping(WsmState *state)
{
    PyErr_SetString(state->errors.InvalidUserContext,
                    "the context is a mapping without \"user_id\"");
    return NULL;
}

static PyObject *
identity_from_mapping(WsmState *state, PyObject *context)
{
    PyObject *id = PyObject_GetItem(context, state->names.user_id);
    if (id == NULL) {
        if (PyErr_ExceptionMatches(PyExc_KeyError)) {
            return wsm_identity_refuse_mapping(state);
        }
        return NULL;
    }
    PyObject *key = wsm_identity_id(state, id);
    Py_DECREF(id);
    return key;
}

/* Has items and keys: a list or bytes has no keys. */
static int
identity_is_mapping(PyObject *context)
{
    PyObject *keys = NULL;
    if (!PyMapping_Check(context)) {
        return 0;
    }
    if (PyObject_GetOptionalAttrString(context, "keys", &keys) < 0) {
        return -1;
    }
    int is = keys != NULL && PyCallable_Check(keys);
    Py_XDECREF(keys);
    return is;
}

/* No user_id came of the attribute. A property that raised AttributeError
 * is the context's own failure, not an absent attribute. */
static PyObject *
identity_without_attribute(WsmState *state, PyObject *context)
{
    PyObject *declared, *id;

    if (PyObject_GetOptionalAttr((PyObject *)Py_TYPE(context),
                                 state->names.user_id, &declared) < 0) {
        return NULL;
    }
    if (declared != NULL) {
        Py_DECREF(declared);
        id = PyObject_GetAttr(context, state->names.user_id);
        if (id == NULL) {
            return NULL;
        }
        PyObject *key = wsm_identity_id(state, id);
        Py_DECREF(id);
        return key;
    }
    int mapping = identity_is_mapping(context);
    if (mapping < 0) {
        return NULL;
    }
    if (mapping) {
        return identity_from_mapping(state, context);
    }
    return identity_refuse(state, context, "a user context is expected");
}

PyObject *
wsm_identity_convert(WsmState *state, PyObject *id)
{
    PyObject *key = wsm_identity_id(state, id);
    Py_DECREF(id);
    return key;
}

PyObject *
wsm_identity_missed(WsmState *state, PyObject *context)
{
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return NULL;
    }
    PyErr_Clear();
    return identity_without_attribute(state, context);
}

PyObject *
wsm_identity_from_other(WsmState *state, PyObject *context)
{
    PyObject *id;

    if (PyDict_Check(context)) {
        return identity_from_mapping(state, context);
    }
    if (PyObject_GetOptionalAttr(context, state->names.user_id, &id) < 0) {
        return NULL;
    }
    return id == NULL ? identity_without_attribute(state, context)
                      : wsm_identity_convert(state, id);
}

static bool
identity_is_blank(PyObject *key)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(key);
    for (Py_ssize_t i = 0; i < length; i++) {
        if (!Py_UNICODE_ISSPACE(PyUnicode_READ_CHAR(key, i))) {
            return false;
        }
    }
    return true;
}

int
wsm_identity_validate(WsmState *state, PyObject *key)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(key);
    const char *why = NULL;

    if (identity_is_blank(key)) {
        why = length == 0 ? "is empty" : "is blank";
    }
    else if (length > WSM_ID_MAX) {
        why = "is longer than 256 characters";
    }
    for (Py_ssize_t i = 0; why == NULL && i < length; i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(key, i);
        if (c == 0) {
            why = "contains NUL";
        }
        else if (Py_UNICODE_IS_SURROGATE(c)) {
            why = "contains a lone surrogate";
        }
    }
    if (why == NULL) {
        return 0;
    }
    PyErr_Format(state->errors.InvalidUserContext,
                 "user_id %s; an id is 1 to %d characters of well-formed "
                 "text, taken exactly as it is",
                 why, WSM_ID_MAX);
    return -1;
}
