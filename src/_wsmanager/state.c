/* Invariant: after wsm_state_init() every name, error and asyncio function
 * is there until wsm_state_clear(). */
#include "state.h"

#include <time.h>

#include "compat.h"

WsmState *
wsm_state_of(PyObject *module)
{
    return (WsmState *)PyModule_GetState(module);
}

static int
state_names(WsmState *state)
{
    bool all = true;
#define WSM_INTERN(name)                                              \
    all = all && (state->names.name =                                 \
                      PyUnicode_InternFromString(#name)) != NULL;
    WSM_NAMES(WSM_INTERN)
#undef WSM_INTERN
    return all ? 0 : -1;
}

typedef struct {
    const char *name;
    const char *doc;
    size_t field;
    size_t parent; /* offset in WsmState, or 0 for WebSocketManagerError */
    PyObject **builtin[2];
} WsmErrorSpec;

#define WSM_ERROR_AT(name) offsetof(WsmState, errors.name)

static const WsmErrorSpec error_specs[] = {
    {"WebSocketManagerError",
     "Base of every error of wsmanager.",
     WSM_ERROR_AT(WebSocketManagerError),
     0,
     {NULL, NULL}},
    {"InvalidUserContext",
     "What was given names no user: neither an object with user_id, nor "
     "a mapping with \"user_id\", nor a str; or its id is unusable.",
     WSM_ERROR_AT(InvalidUserContext),
     0,
     {&PyExc_ValueError, &PyExc_TypeError}},
    {"UserIsolationError",
     "A manager was asked to reach another user than its own.",
     WSM_ERROR_AT(UserIsolationError),
     0,
     {&PyExc_PermissionError, NULL}},
    {"ConnectionLimitError",
     "The user already has max_connections_per_user connections.",
     WSM_ERROR_AT(ConnectionLimitError),
     0,
     {NULL, NULL}},
    {"UserLimitError",
     "The registry already holds max_users users.",
     WSM_ERROR_AT(UserLimitError),
     0,
     {NULL, NULL}},
    {"ConnectionNotFound",
     "The user has no connection of that id.",
     WSM_ERROR_AT(ConnectionNotFound),
     0,
     {&PyExc_LookupError, NULL}},
    {"EncodeError",
     "The event cannot be written as JSON; nothing was sent to anyone.",
     WSM_ERROR_AT(EncodeError),
     0,
     {&PyExc_ValueError, &PyExc_TypeError}},
    {"EventTooLarge",
     "The encoded event is larger than max_event_bytes; nothing was "
     "sent to anyone.",
     WSM_ERROR_AT(EventTooLarge),
     WSM_ERROR_AT(EncodeError),
     {NULL, NULL}},
    {"ResumeError",
     "A resume position that cannot be used.",
     WSM_ERROR_AT(ResumeError),
     0,
     {&PyExc_ValueError, NULL}},
    {"BackplaneError",
     "The link between processes failed.",
     WSM_ERROR_AT(BackplaneError),
     0,
     {NULL, NULL}},
    {"ServerDraining",
     "This process is about to end and takes no connection any more.",
     WSM_ERROR_AT(ServerDraining),
     0,
     {NULL, NULL}},
};

static PyObject *
state_error_bases(WsmState *state, const WsmErrorSpec *spec)
{
    PyObject *parent =
        *(PyObject **)((char *)state +
                       (spec->parent ? spec->parent
                                     : WSM_ERROR_AT(WebSocketManagerError)));
    if (spec->field == WSM_ERROR_AT(WebSocketManagerError)) {
        return PyTuple_Pack(1, PyExc_Exception);
    }
    if (spec->builtin[0] == NULL) {
        return PyTuple_Pack(1, parent);
    }
    if (spec->builtin[1] == NULL) {
        return PyTuple_Pack(2, parent, *spec->builtin[0]);
    }
    return PyTuple_Pack(3, parent, *spec->builtin[0], *spec->builtin[1]);
}

static int
state_errors(WsmState *state, PyObject *module)
{
    char full[64];

    for (size_t i = 0; i < Py_ARRAY_LENGTH(error_specs); i++) {
        PyObject *bases = state_error_bases(state, &error_specs[i]);
        if (bases == NULL) {
            return -1;
        }
        PyOS_snprintf(full, sizeof(full), "wsmanager.%s", error_specs[i].name);
        PyObject *error =
            PyErr_NewExceptionWithDoc(full, error_specs[i].doc, bases, NULL);
        Py_DECREF(bases);
        if (error == NULL) {
            return -1;
        }
        *(PyObject **)((char *)state + error_specs[i].field) = error;
        if (PyModule_AddObjectRef(module, error_specs[i].name, error) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
state_asyncio(WsmState *state)
{
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    PyObject *events = PyImport_ImportModule("asyncio.events");
    PyObject *tasks = PyImport_ImportModule("asyncio.tasks");
    int result = -1;

    if (asyncio == NULL || events == NULL || tasks == NULL) {
        goto done;
    }
    const struct {
        PyObject *from;
        const char *name;
        PyObject **to;
        bool wanted;
    } specs[] = {
        {events, "_get_running_loop", &state->asyncio.get_running_loop, true},
        {tasks, "_swap_current_task", &state->asyncio.swap_current_task,
         WSM_ASYNCIO_CAN_SWAP},
        {tasks, "_current_tasks", &state->asyncio.current_tasks,
         !WSM_ASYNCIO_CAN_SWAP},
        {tasks, "shield", &state->asyncio.shield, true},
        {asyncio, "CancelledError", &state->asyncio.cancelled_error, true},
    };
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        if (specs[i].wanted) {
            *specs[i].to =
                PyObject_GetAttrString(specs[i].from, specs[i].name);
            if (*specs[i].to == NULL) {
                goto done;
            }
        }
    }
    result = 0;
done:
    Py_XDECREF(asyncio);
    Py_XDECREF(events);
    Py_XDECREF(tasks);
    return result;
}

static void
state_settings(WsmSettings *settings)
{
    settings->max_event_bytes = 2 << 20;
    settings->max_users = 2000000;
    settings->max_connections_per_user = 1024;
    settings->max_idle_users = 1000000;
    settings->outbox_max_events = 1024;
    settings->outbox_max_bytes = 1 << 20;
    settings->error_limit = 3;
    settings->outbox_max_age = 10.0;
    settings->journal_max_events = 256;
    settings->journal_max_bytes = 256 << 10;
    settings->journal_budget = 64 << 20;
    settings->journal_max_age = 120.0;
    settings->idempotency_window = 120.0;
    settings->stray_interval = 5.0;
    settings->idle_ttl = 300.0;
    settings->tcp_user_timeout = 0.0;
    settings->envelope = WSM_ENVELOPE_PAYLOAD;
    settings->slow_policy = WSM_SLOW_CLOSE;
}

int
wsm_state_seed(WsmState *state)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *bytes = NULL;
    if (os != NULL) {
        bytes = PyObject_CallMethod(os, "urandom", "i",
                                    (int)sizeof(state->epoch_seed));
        Py_DECREF(os);
    }
    if (bytes == NULL) {
        return -1;
    }
    if (!PyBytes_Check(bytes) ||
        PyBytes_GET_SIZE(bytes) != (Py_ssize_t)sizeof(state->epoch_seed)) {
        Py_DECREF(bytes);
        PyErr_SetString(PyExc_TypeError, "os.urandom gave no bytes");
        return -1;
    }
    uint64_t seed[2];
    memcpy(seed, PyBytes_AS_STRING(bytes), sizeof(seed));
    state->epoch_seed[0] = seed[0];
    state->epoch_seed[1] = seed[1];
    Py_DECREF(bytes);
    return 0;
}

int
wsm_state_init(WsmState *state, PyObject *module)
{
    state_settings(&state->settings);
    if (state_names(state) < 0 || state_errors(state, module) < 0 ||
        state_asyncio(state) < 0 || wsm_state_seed(state) < 0) {
        return -1;
    }
    state->spawned = PySet_New(NULL);
    state->checks = PyDict_New();
    state->context_names = PyTuple_Pack(1, state->names.context);
    state->checking = PyContextVar_New("wsmanager_checking", Py_False);
    return state->spawned == NULL || state->checks == NULL ||
                   state->context_names == NULL || state->checking == NULL
               ? -1
               : 0;
}

/* Every owned PyObject * of the state, in one place for both walkers. */
#define WSM_STATE_OWNED(X)                                                \
    X(asyncio.get_running_loop) X(asyncio.swap_current_task)               X(asyncio.current_tasks)   \
    X(asyncio.shield) X(asyncio.cancelled_error) \
    X(settle_future) X(spawn) X(spawned) X(check_done)               \
    X(checks)  X(stop) X(context_names) X(checking)    \
    X(settings.envelope_callable) X(settings.coalesce_key)                \
    X(settings.availability_check)

int
wsm_state_traverse(WsmState *state, visitproc visit, void *arg)
{
#define WSM_VISIT_ERROR(name) Py_VISIT(state->errors.name);
#define WSM_VISIT_TYPE(name) Py_VISIT(state->types.name);
#define WSM_VISIT_HOOK(name) Py_VISIT(state->hooks.name);
#define WSM_VISIT(field) Py_VISIT(state->field);
    WSM_ERRORS(WSM_VISIT_ERROR)
    WSM_TYPES(WSM_VISIT_TYPE)
    WSM_HOOKS(WSM_VISIT_HOOK)
    WSM_STATE_OWNED(WSM_VISIT)
    return 0;
}

void
wsm_state_clear(WsmState *state)
{
#define WSM_CLEAR_NAME(name) Py_CLEAR(state->names.name);
#define WSM_CLEAR_ERROR(name) Py_CLEAR(state->errors.name);
#define WSM_CLEAR_TYPE(name) Py_CLEAR(state->types.name);
#define WSM_CLEAR_HOOK(name) Py_CLEAR(state->hooks.name);
#define WSM_CLEAR(field) Py_CLEAR(state->field);
    WSM_HOOKS(WSM_CLEAR_HOOK)
    WSM_STATE_OWNED(WSM_CLEAR)
    WSM_TYPES(WSM_CLEAR_TYPE)
    WSM_ERRORS(WSM_CLEAR_ERROR)
    WSM_NAMES(WSM_CLEAR_NAME)
}

void
wsm_report(WsmState *state, const char *kind, const char *reason,
           PyObject *fields)
{
    PyObject *hook = Py_XNewRef(state->hooks.report);
    if (hook == NULL) {
        return;
    }
    PyObject *saved = wsm_error_take();
    PyObject *result = PyObject_CallFunction(
        hook, "ssO", kind, reason, fields == NULL ? Py_None : fields);
    if (result == NULL) {
        wsm_unraisable(hook);
    }
    Py_XDECREF(result);
    Py_DECREF(hook);
    wsm_error_restore(saved);
}

PyTypeObject *
wsm_loaded_type(const char *module, const char *name)
{
    PyObject *type = NULL, *found = NULL;
    PyObject *full = PyUnicode_FromString(module);

    if (full != NULL) {
        found = PyImport_GetModule(full);
        Py_DECREF(full);
    }
    if (found != NULL) {
        /* A module that is half-way through its import may not have it yet. */
        PyObject_GetOptionalAttrString(found, name, &type);
        Py_DECREF(found);
    }
    if (type != NULL && !PyType_Check(type)) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

int64_t
wsm_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int
wsm_running_loop(WsmState *state, PyObject **loop)
{
    PyObject *found = PyObject_CallNoArgs(state->asyncio.get_running_loop);
    if (found == NULL) {
        *loop = NULL;
        return -1;
    }
    *loop = found == Py_None ? NULL : found;
    Py_DECREF(found);
    return *loop != NULL;
}
