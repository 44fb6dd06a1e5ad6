/* Invariant: a change that is refused changes nothing. */
#include "settings.h"

#include "reflist.h"

typedef enum {
    SETTING_COUNT, /* Py_ssize_t, 1 or more */
    SETTING_COUNT_OR_ZERO,
    SETTING_SECONDS, /* double, 0 or more */
    SETTING_BOOL,
    SETTING_CALLABLE, /* PyObject *, or NULL for None */
    SETTING_ENVELOPE,
    SETTING_POLICY,
} WsmSettingKind;

typedef struct {
    const char *name;
    WsmSettingKind kind;
    size_t field;
} WsmSetting;

#define WSM_SETTING(name, kind) {#name, kind, offsetof(WsmSettings, name)}

static const WsmSetting settings_table[] = {
    WSM_SETTING(max_event_bytes, SETTING_COUNT),
    WSM_SETTING(max_users, SETTING_COUNT),
    WSM_SETTING(max_connections_per_user, SETTING_COUNT),
    WSM_SETTING(max_idle_users, SETTING_COUNT_OR_ZERO),
    WSM_SETTING(outbox_max_events, SETTING_COUNT),
    WSM_SETTING(outbox_max_bytes, SETTING_COUNT),
    WSM_SETTING(error_limit, SETTING_COUNT),
    WSM_SETTING(outbox_max_age, SETTING_SECONDS),
    WSM_SETTING(idle_ttl, SETTING_SECONDS),
    WSM_SETTING(journal_max_events, SETTING_COUNT_OR_ZERO),
    WSM_SETTING(journal_max_bytes, SETTING_COUNT),
    WSM_SETTING(journal_budget, SETTING_COUNT),
    WSM_SETTING(journal_max_age, SETTING_SECONDS),
    WSM_SETTING(idempotency_window, SETTING_SECONDS),
    WSM_SETTING(stray_interval, SETTING_SECONDS),
    WSM_SETTING(tcp_user_timeout, SETTING_SECONDS),
    WSM_SETTING(tolerate_await, SETTING_BOOL),
    WSM_SETTING(coalesce_key, SETTING_CALLABLE),
    WSM_SETTING(availability_check, SETTING_CALLABLE),
    WSM_SETTING(envelope, SETTING_ENVELOPE),
    WSM_SETTING(slow_policy, SETTING_POLICY),
};

static const char *const envelope_names[] = {"payload", "mixed", "data",
                                             "flat", NULL};
static const char *const policy_names[] = {"close", "drop_oldest",
                                           "drop_newest", "coalesce", NULL};

static int
settings_choice(const char *name, PyObject *value, const char *const *names,
                int *choice)
{
    if (PyUnicode_Check(value)) {
        for (int i = 0; names[i] != NULL; i++) {
            if (PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
                *choice = i;
                return 0;
            }
        }
    }
    PyErr_Format(PyExc_ValueError, "%s cannot be %R", name, value);
    return -1;
}

static int
settings_count(const WsmSetting *row, PyObject *value, Py_ssize_t *count)
{
    *count = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (*count == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*count < (row->kind == SETTING_COUNT ? 1 : 0)) {
        PyErr_Format(PyExc_ValueError, "%s cannot be %zd", row->name, *count);
        return -1;
    }
    return 0;
}

static int
settings_seconds(const WsmSetting *row, PyObject *value, double *seconds)
{
    *seconds = PyFloat_AsDouble(value);
    if (*seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!(*seconds >= 0.0 && *seconds < 1e9)) {
        PyErr_Format(PyExc_ValueError,
                     "%s must be a number of seconds from 0 to 1e9",
                     row->name);
        return -1;
    }
    return 0;
}

static int
settings_callable(const char *name, PyObject *value, PyObject **field)
{
    if (value != Py_None && !PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError,
                     "%s must be callable or None, not %.100s", name,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    *field = value == Py_None ? NULL : value;
    return 0;
}

/* Into a copy, whose objects are borrowed from kwargs */
static int
settings_one(WsmSettings *copy, const WsmSetting *row, PyObject *value)
{
    char *field = (char *)copy + row->field;
    int choice;

    switch (row->kind) {
    case SETTING_COUNT:
    case SETTING_COUNT_OR_ZERO:
        return settings_count(row, value, (Py_ssize_t *)field);
    case SETTING_SECONDS:
        return settings_seconds(row, value, (double *)field);
    case SETTING_BOOL:
        choice = PyObject_IsTrue(value);
        *(bool *)field = choice > 0;
        return choice < 0 ? -1 : 0;
    case SETTING_CALLABLE:
        return settings_callable(row->name, value, (PyObject **)field);
    case SETTING_ENVELOPE:
        if (!PyUnicode_Check(value) && PyCallable_Check(value)) {
            copy->envelope = WSM_ENVELOPE_CALLABLE;
            copy->envelope_callable = value;
            return 0;
        }
        copy->envelope_callable = NULL;
        if (settings_choice(row->name, value, envelope_names, &choice) < 0) {
            return -1;
        }
        copy->envelope = (WsmEnvelope)choice;
        return 0;
    case SETTING_POLICY:
        if (settings_choice(row->name, value, policy_names, &choice) < 0) {
            return -1;
        }
        copy->slow_policy = (WsmSlowPolicy)choice;
        return 0;
    }
    return 0;
}

static const WsmSetting *
settings_find(PyObject *name)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(settings_table); i++) {
        if (PyUnicode_CompareWithASCIIString(name, settings_table[i].name) ==
            0) {
            return &settings_table[i];
        }
    }
    return NULL;
}

/* Field by field, each of them whole: others read them meanwhile. What an
 * object replaces is parked in old. */
static void
settings_set_locked(WsmSettings *to, const WsmSettings *from,
                    const WsmSetting *row, WsmRefList *old)
{
    char *field = (char *)to + row->field;
    const char *source = (const char *)from + row->field;

    switch (row->kind) {
    case SETTING_COUNT:
    case SETTING_COUNT_OR_ZERO:
        *(WSM_SHARED(Py_ssize_t) *)field = *(const Py_ssize_t *)source;
        break;
    case SETTING_SECONDS:
        *(WSM_SHARED(double) *)field = *(const double *)source;
        break;
    case SETTING_BOOL:
        *(WSM_SHARED(bool) *)field = *(const bool *)source;
        break;
    case SETTING_CALLABLE:
        wsm_reflist_park(old, *(PyObject **)field);
        *(PyObject **)field = Py_XNewRef(*(PyObject *const *)source);
        break;
    case SETTING_ENVELOPE:
        wsm_reflist_park(old, to->envelope_callable);
        to->envelope_callable = Py_XNewRef(from->envelope_callable);
        to->envelope = from->envelope;
        break;
    case SETTING_POLICY:
        to->slow_policy = from->slow_policy;
        break;
    }
}

PyObject *
wsm_settings_object(WsmState *state, PyObject *const *field)
{
    wsm_lock(&state->lock);
    PyObject *object = Py_XNewRef(*field);
    wsm_unlock(&state->lock);
    return object;
}

int
wsm_settings_change(WsmState *state, PyObject *kwargs)
{
    bool given[Py_ARRAY_LENGTH(settings_table)] = {false};
    WsmSettings copy = {0};
    WsmRefList old;
    PyObject *name, *value;
    Py_ssize_t at = 0;

    while (kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        const WsmSetting *row = settings_find(name);
        if (row == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "configure() got an unexpected keyword argument "
                         "'%U'",
                         name);
            return -1;
        }
        if (settings_one(&copy, row, value) < 0) {
            return -1;
        }
        given[row - settings_table] = true;
    }
    wsm_reflist_init(&old);
    wsm_lock(&state->lock);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(settings_table); i++) {
        if (given[i]) {
            settings_set_locked(&state->settings, &copy, &settings_table[i],
                                &old);
        }
    }
    wsm_unlock(&state->lock);
    wsm_reflist_drop(&old);
    return 0;
}

static PyObject *
settings_value(WsmState *state, const WsmSetting *row)
{
    const WsmSettings *settings = &state->settings;
    const char *field = (const char *)settings + row->field;
    WsmEnvelope envelope;
    PyObject *object;

    switch (row->kind) {
    case SETTING_COUNT:
    case SETTING_COUNT_OR_ZERO:
        return PyLong_FromSsize_t(*(const WSM_SHARED(Py_ssize_t) *)field);
    case SETTING_SECONDS:
        return PyFloat_FromDouble(*(const WSM_SHARED(double) *)field);
    case SETTING_BOOL:
        return PyBool_FromLong(*(const WSM_SHARED(bool) *)field);
    case SETTING_CALLABLE:
        object = wsm_settings_object(state, (PyObject *const *)field);
        return object == NULL ? Py_NewRef(Py_None) : object;
    case SETTING_ENVELOPE:
        wsm_lock(&state->lock);
        object = Py_XNewRef(settings->envelope_callable);
        envelope = settings->envelope;
        wsm_unlock(&state->lock);
        return object == NULL ? PyUnicode_FromString(envelope_names[envelope])
                              : object;
    case SETTING_POLICY:
        return PyUnicode_FromString(policy_names[settings->slow_policy]);
    }
    Py_RETURN_NONE;
}

PyObject *
wsm_settings_dict(WsmState *state)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict != NULL && i < Py_ARRAY_LENGTH(settings_table);
         i++) {
        PyObject *value = settings_value(state, &settings_table[i]);
        if (value == NULL ||
            PyDict_SetItemString(dict, settings_table[i].name, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    return dict;
}
