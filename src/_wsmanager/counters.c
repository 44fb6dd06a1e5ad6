/* Invariant: nothing in here takes a lock or runs Python but the dict. */
#include "counters.h"

#define WSM_NAMED(name) #name,

static const char *const kind_names[] = {WSM_EVENT_KINDS(WSM_NAMED)};
static const char *const action_names[] = {WSM_SLOW_ACTIONS(WSM_NAMED)};
static const char *const closed_names[] = {WSM_CLOSE_REASONS(WSM_NAMED)};

int
wsm_counters_init(WsmState *state)
{
    state->counters = PyMem_RawCalloc(1, sizeof(WsmCounters));
    if (state->counters == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void
wsm_counters_reset(WsmState *state)
{
    uint64_t *each = (uint64_t *)state->counters;
    for (size_t i = 0; i < sizeof(WsmCounters) / sizeof(*each); i++) {
        wsm_clear(&each[i]);
    }
}

WsmKind
wsm_kind_of(PyObject *type)
{
    for (int i = WSM_KIND_other + 1; i < WSM_KINDS; i++) {
        if (PyUnicode_CompareWithASCIIString(type, kind_names[i]) == 0) {
            return (WsmKind)i;
        }
    }
    return WSM_KIND_other;
}

/* "loop closed" of a log record is loop_closed as a label. */
static bool
counters_same(const char *reason, const char *name)
{
    while (*reason != '\0' &&
           (*reason == *name || (*reason == ' ' && *name == '_'))) {
        reason++;
        name++;
    }
    return *reason == *name;
}

void
wsm_counters_closed(WsmState *state, const char *reason, double seconds)
{
    int at = WSM_CLOSED_other;
    for (int i = at + 1; at == WSM_CLOSED_other && i < WSM_CLOSED; i++) {
        if (counters_same(reason, closed_names[i])) {
            at = i;
        }
    }
    wsm_add(&state->counters->closed[at], 1);
    wsm_histogram_add(&state->counters->connected, (int64_t)(seconds * 1e9),
                      1);
}

static PyObject *
counters_named(const uint64_t *counts, const char *const *names, int n)
{
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < n; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(wsm_read(&counts[i]));
        if (count == NULL || PyDict_SetItemString(dict, names[i], count) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(count);
    }
    return dict;
}

static PyObject *
counters_dropped(const WsmCounters *self)
{
    PyObject *dict = PyDict_New();
    for (int i = WSM_ACTION_drop_oldest; dict != NULL && i < WSM_ACTIONS;
         i++) {
        PyObject *kinds =
            counters_named(self->dropped[i], kind_names, WSM_KINDS);
        if (kinds == NULL ||
            PyDict_SetItemString(dict, action_names[i], kinds) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(kinds);
    }
    return dict;
}

PyObject *
wsm_counters_dict(const WsmState *state)
{
    const WsmCounters *self = state->counters;
    const struct {
        const char *name;
        PyObject *dict; /* owned until the end */
    } rows[] = {
        {"emitted", counters_named(self->emitted, kind_names, WSM_KINDS)},
        {"sent", counters_named(self->sent, kind_names, WSM_KINDS)},
        {"failed", counters_named(self->failed, kind_names, WSM_KINDS)},
        {"dropped", counters_dropped(self)},
        {"slow", counters_named(self->slow, action_names, WSM_ACTIONS)},
        {"closed", counters_named(self->closed, closed_names, WSM_CLOSED)},
        {"emit_to_write", wsm_histogram_dict(&self->emit_to_write)},
        {"connected", wsm_histogram_dict(&self->connected)},
    };
    PyObject *result = PyDict_New();

    for (size_t i = 0; i < Py_ARRAY_LENGTH(rows); i++) {
        if (result != NULL &&
            (rows[i].dict == NULL ||
             PyDict_SetItemString(result, rows[i].name, rows[i].dict) < 0)) {
            Py_CLEAR(result);
        }
        Py_XDECREF(rows[i].dict);
    }
    return result;
}
