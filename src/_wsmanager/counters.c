/* Invariant: nothing in here takes a lock or runs Python but the dict. */
#include "counters.h"

#include <string.h>

#define WSM_NAMED(name) #name,
#define WSM_SIZED(name) sizeof(#name) - 1,

static const char *const kind_names[] = {WSM_EVENT_KINDS(WSM_NAMED)};
static const Py_ssize_t kind_sizes[] = {WSM_EVENT_KINDS(WSM_SIZED)};
static const char *const action_names[] = {WSM_SLOW_ACTIONS(WSM_NAMED)};
static const char *const closed_names[] = {WSM_CLOSE_REASONS(WSM_NAMED)};
static const char *const code_names[] = {WSM_CLOSE_CODES(WSM_NAMED)};

int
wsm_counters_init(WsmState *state)
{
    state->counters = PyMem_RawCalloc(WSM_STRIPES, sizeof(WsmStripe));
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
    size_t all = WSM_STRIPES * sizeof(WsmStripe) / sizeof(*each);
    for (size_t i = 0; i < all; i++) {
        wsm_clear(&each[i]);
    }
}

/* Of the first size bytes of each stripe. */
static void
counters_sum(const WsmState *state, uint64_t *sums, size_t size)
{
    for (size_t k = 0; k < size / sizeof(*sums); k++) {
        sums[k] = 0;
        for (size_t i = 0; i < WSM_STRIPES; i++) {
            sums[k] += wsm_read((uint64_t *)&state->counters[i] + k);
        }
    }
}

void
wsm_counters_sum(const WsmState *state, WsmCounters *sum)
{
    counters_sum(state, (uint64_t *)sum, sizeof(*sum));
}

WsmTotals
wsm_totals_sum(const WsmState *state)
{
    WsmTotals sum;
    counters_sum(state, (uint64_t *)&sum, sizeof(sum));
    return sum;
}

WsmKind
wsm_kind_of(PyObject *type)
{
    const Py_ssize_t size = PyUnicode_GET_LENGTH(type);

    for (int i = WSM_KIND_other + 1; i < WSM_KINDS; i++) {
        if (size == kind_sizes[i] && PyUnicode_IS_ASCII(type) &&
            memcmp(PyUnicode_1BYTE_DATA(type), kind_names[i], (size_t)size) ==
                0) {
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

static WsmCode
counters_code(int code)
{
    char text[16];

    PyOS_snprintf(text, sizeof(text), "%d", code);
    for (int i = WSM_CODE_other + 1; i < WSM_CODES; i++) {
        if (strcmp(code_names[i], text) == 0) {
            return (WsmCode)i;
        }
    }
    return code == 0 ? WSM_CODE_none : WSM_CODE_other;
}

void
wsm_counters_closed(WsmState *state, const char *reason, int code,
                    double seconds)
{
    int at = WSM_CLOSED_other;
    for (int i = at + 1; at == WSM_CLOSED_other && i < WSM_CLOSED; i++) {
        if (counters_same(reason, closed_names[i])) {
            at = i;
        }
    }
    WsmCounters *counters = wsm_counters(state);
    wsm_add(&counters->closed[at][counters_code(code)], 1);
    wsm_histogram_add(&counters->connected, (int64_t)(seconds * 1e9), 1);
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

/* By reason, or by reason and code: those codes that there were. */
static PyObject *
counters_closed(const WsmCounters *self, bool apart)
{
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < WSM_CLOSED; i++) {
        PyObject *row = apart ? PyDict_New() : NULL;
        unsigned long long sum = 0;
        bool failed = apart && row == NULL;
        for (int j = 0; !failed && j < WSM_CODES; j++) {
            unsigned long long n = wsm_read(&self->closed[i][j]);
            sum += n;
            if (apart && n > 0) {
                PyObject *count = PyLong_FromUnsignedLongLong(n);
                failed = count == NULL ||
                         PyDict_SetItemString(row, code_names[j], count) < 0;
                Py_XDECREF(count);
            }
        }
        if (!apart) {
            row = PyLong_FromUnsignedLongLong(sum);
        }
        if (failed || row == NULL ||
            PyDict_SetItemString(dict, closed_names[i], row) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(row);
    }
    return dict;
}

PyObject *
wsm_counters_dict(const WsmState *state)
{
    WsmCounters sums;
    const WsmCounters *self = &sums;
    wsm_counters_sum(state, &sums);
    const struct {
        const char *name;
        PyObject *dict; /* owned until the end */
    } rows[] = {
        {"emitted", counters_named(self->emitted, kind_names, WSM_KINDS)},
        {"sent", counters_named(self->sent, kind_names, WSM_KINDS)},
        {"failed", counters_named(self->failed, kind_names, WSM_KINDS)},
        {"dropped", counters_dropped(self)},
        {"slow", counters_named(self->slow, action_names, WSM_ACTIONS)},
        {"closed", counters_closed(self, false)},
        {"closed_codes", counters_closed(self, true)},
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
