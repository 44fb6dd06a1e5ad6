/* One table-driven parser for METH_FASTCALL|METH_KEYWORDS. */
#ifndef WSM_ARGS_H
#define WSM_ARGS_H

#include "python.h"

#define WSM_ARGS_MAX 16

typedef struct {
    const char *function;
    const char *const *names; /* NULL-terminated */
    int positional; /* how many may be given by position */
    int required; /* how many of the first must be given */
} WsmArgs;

/* Fill out[] (one slot a name) with borrowed references, NULL where not
 * given. -1 with a TypeError worded as CPython words it. */
int wsm_args_parse(const WsmArgs *spec, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *kwnames, PyObject **out);

/* None means not given: turn it into NULL. */
static inline PyObject *
wsm_arg_or_null(PyObject *arg)
{
    return arg == Py_None ? NULL : arg;
}

/* 0 if arg is NULL, None or a str; else -1 with a TypeError. */
int wsm_arg_str(const char *function, const char *name, PyObject *arg);

#endif
