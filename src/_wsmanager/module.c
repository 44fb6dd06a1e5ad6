/* The module: its functions, its types, its life. */
#include "acquire.h"
#include "args.h"
#include "broadcast.h"
#include "check.h"
#include "compat.h"
#include "connection_type.h"
#include "counters.h"
#include "delivery.h"
#include "driver.h"
#include "evict.h"
#include "face.h"
#include "frame.h"
#include "identity.h"
#include "methods.h"
#include "parting.h"
#include "pump.h"
#include "registry.h"
#include "results.h"
#include "settings.h"
#include "status.h"
#include "stray.h"
#include "survey.h"
#include "turn.h"
#include "verdict.h"
#include "waiters.h"

/* -- the two factories --------------------------------------------------- */

static const char *const factory_names[] = {"user_context", "mode", NULL};

/* The context of either factory, borrowed: every mode is the one. NULL with
 * an exception. */
static WSM_OUTLINE PyObject *
module_parse_context(const char *function, PyObject *const *args,
                     Py_ssize_t nargs, PyObject *kwnames)
{
    const WsmArgs spec = {function, factory_names, 2, 0};
    PyObject *out[WSM_ARGS_MAX];

    if (wsm_args_parse(&spec, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    return out[0] == NULL ? Py_None : out[0];
}

/* The same where it is all that was given, as it mostly is. */
static inline PyObject *
module_context(WsmState *state, const char *function, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    if (kwnames == NULL
            ? nargs == 1
            : nargs == 0 && PyTuple_GET_SIZE(kwnames) == 1 &&
                  PyTuple_GET_ITEM(kwnames, 0) == state->names.user_context) {
        return args[0];
    }
    return module_parse_context(function, args, nargs, kwnames);
}

static PyObject *
module_mode(WsmState *state)
{
    return state->hooks.mode == NULL ? Py_None : state->hooks.mode;
}

/* No manager was found: an error, or one is made. */
static WSM_OUTLINE WsmManager *
module_make_manager(WsmState *state, PyObject *key, PyObject *context)
{
    if (PyErr_Occurred()) {
        return NULL;
    }
    return wsm_registry_get(state->registry, key, context, module_mode(state),
                            true);
}

static PyObject *
module_get_manager(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    WsmState *state = wsm_state_of(module);
    PyObject *context =
        module_context(state, "get_websocket_manager", args, nargs, kwnames);
    PyObject *key = context == NULL ? NULL : wsm_identity_key(state, context);

    if (key == NULL) {
        return NULL;
    }
    WsmManager *manager = wsm_registry_find(state->registry, key);
    if (manager == NULL) {
        manager = module_make_manager(state, key, context);
    }
    Py_DECREF(key);
    return (PyObject *)manager;
}

static PyObject *
module_get_manager_async(PyObject *module, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames)
{
    WsmState *state = wsm_state_of(module);
    PyObject *context = module_context(state, "get_websocket_manager_async",
                                       args, nargs, kwnames);
    PyObject *key = context == NULL ? NULL : wsm_identity_key(state, context);

    if (key == NULL) {
        return NULL;
    }
    WsmManager *manager = wsm_registry_find(state->registry, key);
    if (manager != NULL) {
        Py_DECREF(key);
        return wsm_acquire_hit(state, manager);
    }
    if (PyErr_Occurred() ||
        (key != Py_None && wsm_identity_validate(state, key) < 0)) {
        Py_DECREF(key);
        return NULL;
    }
    return wsm_acquire_miss(state, key, context, module_mode(state));
}

/* -- the whole registry -------------------------------------------------- */

static PyObject *
module_drain(PyObject *module, PyObject *on)
{
    int is = PyObject_IsTrue(on);
    if (is < 0) {
        return NULL;
    }
    wsm_state_of(module)->draining = is > 0;
    Py_RETURN_NONE;
}

static PyObject *
module_draining(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(wsm_state_of(module)->draining);
}

/* Every connection leaves first, so that nothing of the old registry still
 * counts in the new. */
static PyObject *
module_reset(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    WsmState *state = wsm_state_of(module);
    PyObject *connections;

    if (wsm_check_sweep(state) < 0 ||
        (connections = PyDict_Values(state->registry->sockets)) == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(connections); i++) {
        wsm_remove((WsmConnection *)PyList_GET_ITEM(connections, i), 0);
    }
    Py_DECREF(connections);
    wsm_registry_reset(state->registry);
    wsm_counters_reset(state);
    state->draining = false;
    Py_RETURN_NONE;
}

/* -- small things -------------------------------------------------------- */

static PyObject *
module_classify(PyObject *module, PyObject *error)
{
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "an exception is expected, not %.100s",
                     Py_TYPE(error)->tp_name);
        return NULL;
    }
    return PyUnicode_FromString(
        wsm_verdict_name(wsm_verdict(wsm_state_of(module), error, NULL)));
}

static PyObject *
module_frame(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"payload", "opcode", NULL};
    Py_buffer payload;
    int opcode = WSM_OPCODE_TEXT;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s*|$i:frame", names,
                                     &payload, &opcode)) {
        return NULL;
    }
    if (opcode < 0 || opcode > 15) {
        PyBuffer_Release(&payload);
        PyErr_SetString(PyExc_ValueError,
                        "an opcode has four bits (RFC 6455 section 5.2)");
        return NULL;
    }
    unsigned char header[WSM_FRAME_HEADER_MAX];
    size_t size =
        wsm_frame_header(header, (unsigned)opcode, (uint64_t)payload.len);
    PyObject *bytes =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size + payload.len);
    if (bytes != NULL) {
        memcpy(PyBytes_AS_STRING(bytes), header, size);
        memcpy(PyBytes_AS_STRING(bytes) + size, payload.buf,
               (size_t)payload.len);
    }
    PyBuffer_Release(&payload);
    return bytes;
}

static PyObject *
module_install(PyObject *module, PyObject *args, PyObject *kwargs)
{
    WsmState *state = wsm_state_of(module);
    static const char *const names[] = {
#define WSM_HOOK_NAME(name) #name,
        WSM_HOOKS(WSM_HOOK_NAME)
#undef WSM_HOOK_NAME
    };
    PyObject **const fields[] = {
#define WSM_HOOK_AT(name) &state->hooks.name,
        WSM_HOOKS(WSM_HOOK_AT)
#undef WSM_HOOK_AT
    };
    PyObject *name, *value;
    Py_ssize_t at = 0;

    if (PyTuple_GET_SIZE(args) != 0) {
        PyErr_SetString(PyExc_TypeError, "_install() takes keywords only");
        return NULL;
    }
    while (kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        size_t i = 0;
        while (i < Py_ARRAY_LENGTH(names) &&
               PyUnicode_CompareWithASCIIString(name, names[i]) != 0) {
            i++;
        }
        if (i == Py_ARRAY_LENGTH(names)) {
            PyErr_Format(PyExc_TypeError, "_install() knows no '%U'", name);
            return NULL;
        }
        PyObject *old = *fields[i];
        *fields[i] = value == Py_None ? NULL : Py_NewRef(value);
        Py_XDECREF(old);
    }
    Py_RETURN_NONE;
}

static PyObject *
module_share(PyObject *module, PyObject *op)
{
    WsmState *state = wsm_state_of(module);
#define WSM_SHARE_TYPE(name) wsm_share((PyObject *)state->types.name);
    WSM_TYPES(WSM_SHARE_TYPE) /* each object counts its type */
#undef WSM_SHARE_TYPE
    wsm_share(op);
    Py_RETURN_NONE;
}

static PyObject *
module_configure(PyObject *module, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0) {
        PyErr_SetString(PyExc_TypeError, "_configure() takes keywords only");
        return NULL;
    }
    if (wsm_settings_change(wsm_state_of(module), kwargs) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
module_settings(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return wsm_settings_dict(wsm_state_of(module));
}

static PyObject *
module_forked(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *module = NULL;
    if (PyWeakref_GetRef(op, &module) > 0) {
#ifndef WSM_PLANT_NO_FORK_RESET
        WsmState *state = wsm_state_of(module);
        if (wsm_state_seed(state) < 0) {
            wsm_unraisable(module); /* the parent's epochs would come again */
            state->epoch_seed[0] ^= (uint64_t)wsm_now_ns();
        }
        wsm_registry_forget(state->registry);
        wsm_counters_reset(state); /* the parent counts its own */
#endif
        Py_DECREF(module);
    }
    Py_RETURN_NONE;
}

/* -- tables -------------------------------------------------------------- */

#define WSM_FAST(function) (PyCFunction)(void (*)(void))function

PyDoc_STRVAR(get_manager_doc,
"get_websocket_manager(user_context=None, mode=None)\n--\n\n"
"The one manager of a user: made at the first call, the same object after.\n\n"
"A plain function: any thread, any loop, never blocks; do not await it.\n"
"user_context is an object with user_id, a mapping with \"user_id\", a str,\n"
"or None for the manager of no user. mode is accepted for old callers and\n"
"changes nothing. Raises InvalidUserContext, UserLimitError, or what the\n"
"context itself raised; then nothing was registered.");

PyDoc_STRVAR(get_manager_async_doc,
"get_websocket_manager_async(user_context=None, mode=None)\n--\n\n"
"An awaitable of the same manager, for coroutines.\n\n"
"If the user has none yet, the configured availability check is awaited\n"
"first (shared by all callers of the loop); its verdict is the manager's\n"
"service_available. Arguments are checked at the call. Errors as\n"
"get_websocket_manager().");

PyDoc_STRVAR(status_doc,
"get_manager_registry_status()\n--\n\n"
"Counts of the registry, a new dict without ids: total_registered_managers,\n"
"total_connections, and totals since the start of the process.");

PyDoc_STRVAR(reset_doc,
"reset_manager_registry()\n--\n\n"
"Forget every manager and connection, closing nothing. For tests.");

PyDoc_STRVAR(broadcast_doc,
"broadcast(message, /)\n--\n\n"
"Send a message to every connection of every user of this process; gives\n"
"the number of users addressed. Errors as send_to_user().");

PyDoc_STRVAR(classify_doc,
"classify(error, /)\n--\n\n"
"What an exception of a send says of the peer: \"gone\", \"cancelled\",\n"
"\"error\" or \"fatal\".");

PyDoc_STRVAR(frame_doc,
"frame(payload, *, opcode=1)\n--\n\n"
"A server's final frame of payload (bytes or str), unmasked: RFC 6455\n"
"section 5.2.");

static PyMethodDef module_methods[] = {
    {"get_websocket_manager", WSM_FAST(module_get_manager),
     METH_FASTCALL | METH_KEYWORDS, get_manager_doc},
    {"get_websocket_manager_async", WSM_FAST(module_get_manager_async),
     METH_FASTCALL | METH_KEYWORDS, get_manager_async_doc},
    {"get_manager_registry_status", wsm_status, METH_NOARGS, status_doc},
    {"reset_manager_registry", module_reset, METH_NOARGS, reset_doc},
    {"broadcast", wsm_broadcast, METH_O, broadcast_doc},
    {"classify", module_classify, METH_O, classify_doc},
    {"frame", WSM_FAST(module_frame), METH_VARARGS | METH_KEYWORDS, frame_doc},
    {"_install", WSM_FAST(module_install), METH_VARARGS | METH_KEYWORDS,
     "The Python package's hooks."},
    {"_share", module_share, METH_O,
     "This module is there for good, and so is the object: make both cheap\n"
     "for many threads."},
    {"_configure", WSM_FAST(module_configure), METH_VARARGS | METH_KEYWORDS,
     "See wsmanager.configure()."},
    {"_counters", wsm_survey_counters, METH_NOARGS,
     "Every counter, and what there is just now; a new dict."},
    {"_slowest", wsm_survey_slowest, METH_O,
     "Of the connections with the most queued: id, channel, events, bytes, "
     "seconds."},
    {"_loops", wsm_survey_loops, METH_NOARGS,
     "Pairs of an event loop and how many connections it owns."},
    {"_connections", wsm_status_connections, METH_NOARGS,
     "Every connection of every user, a new list."},
    {"_closing", wsm_note_code, METH_VARARGS,
     "A socket is about to be closed with a code."},
    {"_flush", wsm_flush_socket, METH_VARARGS,
     "Something else is about to be written to a socket: what waits goes "
     "first."},
    {"_drain", module_drain, METH_O, "Take no connection any more, or again."},
    {"_draining", module_draining, METH_NOARGS, "Whether that is so."},
    {"_settings", module_settings, METH_NOARGS, "See wsmanager.get_config()."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef settle_def = {"settle_future", WSM_FAST(wsm_waiters_settle),
                                 METH_FASTCALL, NULL};
static PyMethodDef spawn_def = {"spawn", wsm_spawn, METH_O, NULL};
static PyMethodDef check_done_def = {"check_done", wsm_check_done, METH_O,
                                     NULL};
static PyMethodDef forked_def = {"forked", module_forked, METH_NOARGS, NULL};

static int
module_callables(WsmState *state, PyObject *module)
{
    state->settle_future = PyCFunction_New(&settle_def, module);
    state->spawn = PyCFunction_New(&spawn_def, module);
    state->check_done = PyCFunction_New(&check_done_def, module);
    return state->settle_future == NULL || state->spawn == NULL ||
                   state->check_done == NULL
               ? -1
               : 0;
}

/* os.register_at_fork keeps what it is given: a weak reference, not us. */
static int
module_watch_forks(PyObject *module)
{
    PyObject *weak = PyWeakref_NewRef(module, NULL);
    PyObject *callback = NULL, *os = NULL, *done = NULL;
    PyObject *none = PyTuple_New(0), *kwargs = NULL, *register_ = NULL;

    if (weak != NULL) {
        callback = PyCFunction_New(&forked_def, weak);
        Py_DECREF(weak);
    }
    os = PyImport_ImportModule("os");
    if (os != NULL) {
        register_ = PyObject_GetAttrString(os, "register_at_fork");
    }
    if (callback != NULL && register_ != NULL && none != NULL) {
        kwargs = Py_BuildValue("{s:O}", "after_in_child", callback);
    }
    if (kwargs != NULL) {
        done = PyObject_Call(register_, none, kwargs);
    }
    Py_XDECREF(callback);
    Py_XDECREF(os);
    Py_XDECREF(none);
    Py_XDECREF(kwargs);
    Py_XDECREF(register_);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* In the interpreter's error texts a type goes by tp_name: by its name alone,
 * as one that is written in Python. Whose memory that is does not change. */
static int
module_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base,
            PyTypeObject **slot)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, spec, (PyObject *)base);
    *slot = type;
    if (type == NULL) {
        return -1;
    }
    const char *dot = strrchr(type->tp_name, '.');
    type->tp_name = dot == NULL ? type->tp_name : dot + 1;
    return 0;
}

static int
module_types(WsmState *state, PyObject *module)
{
    if (module_type(module, &wsm_receipt_spec, NULL, &state->types.Receipt) <
            0 ||
        module_type(module, &wsm_delivery_spec, NULL, &state->types.Delivery) <
            0 ||
        module_type(module, &wsm_answer_spec, NULL, &state->types.Answer) <
            0 ||
        module_type(module, &wsm_acquire_spec, NULL,
                    &state->types.ManagerAcquire) < 0 ||
        module_type(module, &wsm_connection_spec, NULL,
                    &state->types.Connection) < 0 ||
        module_type(module, &wsm_channel_spec, NULL, &state->types.Channel) <
            0 ||
        module_type(module, &wsm_event_spec, NULL, &state->types.Event) < 0 ||
        module_type(module, &wsm_mailbox_spec, NULL, &state->types.Mailbox) <
            0 ||
        module_type(module, &wsm_driver_spec, NULL, &state->types.Driver) <
            0 ||
        module_type(module, &wsm_turns_spec, NULL, &state->types.Turns) < 0 ||
        module_type(module, &wsm_parting_spec, NULL, &state->types.Parting) <
            0 ||
        module_type(module, &wsm_face_spec, NULL, &state->types.Manager) < 0 ||
        module_type(module, &wsm_face_awaitable_spec, state->types.Manager,
                    &state->types.AwaitableManager) < 0) {
        return -1;
    }
    return module_type(module, &wsm_connection_id_spec, &PyUnicode_Type,
                       &state->types.ConnectionId);
}

static int
module_publish(WsmState *state, PyObject *module)
{
    const struct {
        const char *name;
        PyTypeObject *type;
    } rows[] = {
        {"Receipt", state->types.Receipt},
        {"Delivery", state->types.Delivery},
        {"Answer", state->types.Answer},
        {"ConnectionId", state->types.ConnectionId},
        {"ManagerAcquire", state->types.ManagerAcquire},
        {"Connection", state->types.Connection},
        {"Channel", state->types.Channel},
        {"UnifiedWebSocketManager", state->types.Manager},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rows); i++) {
        if (PyModule_AddObjectRef(module, rows[i].name,
                                  (PyObject *)rows[i].type) < 0) {
            return -1;
        }
    }
    return PyModule_AddObjectRef(module, "_checking", state->checking);
}

static void
module_lost(PyObject *connection, const char *reason)
{
    wsm_evict((WsmConnection *)connection, reason);
}

static int
module_exec(PyObject *module)
{
    WsmState *state = wsm_state_of(module);

    state->on_turn = wsm_turn;
    state->on_tick = wsm_turn_tick;
    state->on_look = wsm_stray_look;
    state->on_lost = module_lost;
    state->on_resume = wsm_turn_resume;
    state->on_flush = wsm_turn_flush;
    if (wsm_counters_init(state) < 0 || wsm_state_init(state, module) < 0 ||
        module_types(state, module) < 0 ||
        module_callables(state, module) < 0 || wsm_registry_init(state) < 0 ||
        module_publish(state, module) < 0) {
        return -1;
    }
    return module_watch_forks(module);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    WsmState *state = wsm_state_of(module);
    if (state->registry != NULL) {
        int result = wsm_registry_traverse(state->registry, visit, arg);
        if (result != 0) {
            return result;
        }
    }
    return wsm_state_traverse(state, visit, arg);
}

static int
module_clear(PyObject *module)
{
    WsmState *state = wsm_state_of(module);
    if (state->spare_acquire != NULL) {
        /* Its type, which tells how memory is freed, is still ours. */
        PyObject_GC_Del(state->spare_acquire);
        state->spare_acquire = NULL;
    }
    if (state->registry != NULL) {
        wsm_registry_clear(state->registry);
    }
    wsm_state_clear(state);
    return 0;
}

static void
module_free(void *module)
{
    WsmState *state = wsm_state_of((PyObject *)module);
    module_clear((PyObject *)module);
    PyMem_RawFree(state->counters);
    state->counters = NULL;
    PyMem_RawFree(state->registry);
    state->registry = NULL;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_wsmanager",
    .m_doc = "The C core: a per-user registry of WebSocket connections and "
             "an event fan-out.",
    .m_size = sizeof(WsmState),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__wsmanager(void)
{
    return PyModuleDef_Init(&module_def);
}
