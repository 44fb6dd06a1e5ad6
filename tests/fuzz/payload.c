/* The look that the core takes at a payload before it is encoded, over
 * objects made of the input, against a slow walk of this file's own: "plain"
 * only where the quick encoder is sure, "too large" only where it is. */
#include "payload.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEPTH 64 /* as payload.c has it */
#define MOST 100

typedef struct {
    const uint8_t *data;
    size_t size;
} Input;

static unsigned
byte(Input *input)
{
    if (input->size == 0) {
        return 0;
    }
    input->size--;
    return *input->data++;
}

static PyObject *
check(PyObject *op)
{
    if (op == NULL) {
        PyErr_Print();
        abort();
    }
    return op;
}

static PyObject *
number(Input *input, unsigned kind)
{
    static const double odd[] = {0.0, 1.5, 1e308, NAN, INFINITY, -INFINITY};
    if (kind == 0) {
        return PyFloat_FromDouble(odd[byte(input) % 6]);
    }
    PyObject *one = check(PyLong_FromLong(1));
    PyObject *shift = check(PyLong_FromLong(byte(input) % 80));
    PyObject *result = check(PyNumber_Lshift(one, shift));
    Py_DECREF(one);
    Py_DECREF(shift);
    return kind == 1 ? result : check(PyNumber_Negative(result));
}

static PyObject *
text(Input *input)
{
    char chars[32];
    unsigned size = byte(input) % sizeof(chars);
    for (unsigned i = 0; i < size; i++) {
        chars[i] = (char)('a' + byte(input) % 26);
    }
    return check(PyUnicode_FromStringAndSize(chars, (Py_ssize_t)size));
}

static PyObject *make(Input *input, int depth);

static PyObject *
container(Input *input, unsigned kind, int depth)
{
    unsigned count = byte(input) % 5;
    PyObject *list = check(kind == 0 ? PyDict_New() : PyList_New(0));

    for (unsigned i = 0; i < count && input->size > 0; i++) {
        PyObject *value = make(input, depth - 1);
        if (kind == 0) {
            PyObject *key =
                byte(input) % 8 == 0 ? number(input, 1) : text(input);
            if (PyDict_SetItem(list, key, value) < 0) {
                abort();
            }
            Py_DECREF(key);
        }
        else if (PyList_Append(list, value) < 0) {
            abort();
        }
        Py_DECREF(value);
    }
    if (kind == 2) {
        Py_SETREF(list, check(PyList_AsTuple(list)));
    }
    return list;
}

/* Lists in lists, as deep as the input says. */
static PyObject *
nest(Input *input)
{
    unsigned depth = byte(input) % (DEPTH + 8);
    PyObject *op = text(input);
    for (unsigned i = 0; i < depth; i++) {
        PyObject *outer = check(PyList_New(1));
        PyList_SET_ITEM(outer, 0, op);
        op = outer;
    }
    return op;
}

static PyObject *
make(Input *input, int depth)
{
    unsigned kind = byte(input) % 12;
    if (depth <= 0 || kind < 3) {
        return text(input);
    }
    switch (kind) {
    case 3:
    case 4:
    case 5:
        return container(input, kind - 3, depth);
    case 6:
    case 7:
    case 8:
        return number(input, kind - 6);
    case 9:
        return Py_NewRef(byte(input) % 2 ? Py_True : Py_None);
    case 10:
        return nest(input);
    default:
        return check(PyBytes_FromString("no JSON"));
    }
}

/* The fewest bytes of JSON it can take, and whether it is plain. */
static Py_ssize_t
fewest(PyObject *op, int depth, bool *plain)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, bytes = 2;

    if (PyUnicode_CheckExact(op)) {
        return PyUnicode_GET_LENGTH(op) + 2;
    }
    if (op == Py_None || PyBool_Check(op)) {
        return 4;
    }
    if (PyFloat_CheckExact(op)) {
        *plain = *plain && isfinite(PyFloat_AS_DOUBLE(op));
        return 1;
    }
    if (PyLong_CheckExact(op)) {
        int over;
        (void)PyLong_AsLongLongAndOverflow(op, &over);
        *plain = *plain && over == 0;
        return 1;
    }
    if (PyDict_CheckExact(op) && depth > 0) {
        while (PyDict_Next(op, &at, &key, &value)) {
            *plain = *plain && PyUnicode_CheckExact(key);
            bytes +=
                PyUnicode_CheckExact(key) ? PyUnicode_GET_LENGTH(key) + 3 : 0;
            bytes += fewest(value, depth - 1, plain) + 1;
        }
        return bytes;
    }
    if ((PyList_CheckExact(op) || PyTuple_CheckExact(op)) && depth > 0) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(op); i++) {
            bytes +=
                fewest(PySequence_Fast_GET_ITEM(op, i), depth - 1, plain) + 1;
        }
        return bytes;
    }
    *plain = false;
    return 1;
}

/* A key that is there may not be denied. */
static bool
has_its_keys(PyObject *op, const WsmPayload *seen)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (PyDict_CheckExact(op) && PyDict_Next(op, &at, &key, &value)) {
        if (PyUnicode_CheckExact(key) && PyUnicode_GET_LENGTH(key) < 32 &&
            !wsm_payload_may_have(seen, key)) {
            return false;
        }
    }
    return true;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    Py_Initialize();
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, size};
    Py_ssize_t budget = (Py_ssize_t)byte(&input) * MOST / 16;
    PyObject *op = make(&input, 6);
    bool plain = true;
    WsmPayload seen;
    Py_ssize_t least = fewest(op, DEPTH, &plain);

    if (wsm_payload_examine(op, budget, &seen) < 0) {
        if (least <= budget) {
            abort(); /* refused, though it fits */
        }
    }
    else if (seen.plain != plain || !has_its_keys(op, &seen)) {
        abort();
    }
    if (PyErr_Occurred()) {
        abort();
    }
    Py_DECREF(op);
    return 0;
}
