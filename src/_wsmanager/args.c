/* Invariant: out[] is filled only with what the caller itself holds. */
#include "args.h"

#include <string.h>

static int
args_index(const WsmArgs *spec, PyObject *name)
{
    for (int i = 0; spec->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, spec->names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static int
args_keywords(const WsmArgs *spec, PyObject *const *values, PyObject *kwnames,
              PyObject **out)
{
    Py_ssize_t count = PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k);
        int i = args_index(spec, name);
        if (i < 0) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument '%U'",
                         spec->function, name);
            return -1;
        }
        if (out[i] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got multiple values for argument '%U'",
                         spec->function, name);
            return -1;
        }
        out[i] = values[k];
    }
    return 0;
}

int
wsm_args_parse(const WsmArgs *spec, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames, PyObject **out)
{
    int count = 0;

    while (spec->names[count] != NULL) {
        out[count++] = NULL;
    }
    if (nargs > spec->positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %d positional argument%s "
                     "but %zd were given",
                     spec->function, spec->positional,
                     spec->positional == 1 ? "" : "s", nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        out[i] = args[i];
    }
    if (kwnames != NULL &&
        args_keywords(spec, args + nargs, kwnames, out) < 0) {
        return -1;
    }
    for (int i = 0; i < spec->required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() missing required argument: '%s'",
                         spec->function, spec->names[i]);
            return -1;
        }
    }
    return 0;
}

int
wsm_arg_str(const char *function, const char *name, PyObject *arg)
{
    if (arg == NULL || arg == Py_None || PyUnicode_Check(arg)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s(): %s must be a str or None, not %.100s",
                 function, name, Py_TYPE(arg)->tp_name);
    return -1;
}
