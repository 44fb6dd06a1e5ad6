/* UnifiedWebSocketManager: the table of methods and attributes. */
#include "face.h"

#include "compat.h"
#include "counters.h"
#include "methods.h"
#include "results.h"

static PyObject *
face_new(PyTypeObject *Py_UNUSED(type), PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    PyErr_SetString(PyExc_TypeError,
                    "a WebSocket manager is not constructed directly: each "
                    "user has one, which get_websocket_manager(user_context) "
                    "gives");
    return NULL;
}

static PyObject *
face_get_user_context(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmManager *)op)->context);
}

static PyObject *
face_get_user_id(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmManager *)op)->key);
}

static PyObject *
face_get_mode(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmManager *)op)->mode);
}

static PyObject *
face_get_position(PyObject *op, void *Py_UNUSED(closure))
{
    WsmPosition position = wsm_manager_position(wsm_manager_here(op));
    char text[WSM_POSITION_MAX];
    size_t size = wsm_position_write(&position, text);
    return PyUnicode_FromStringAndSize(text, (Py_ssize_t)size);
}

static PyObject *
face_get_service_available(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((WsmManager *)op)->service_available);
}

static PyObject *
face_get_active_connections(PyObject *op, void *Py_UNUSED(closure))
{
    return wsm_manager_connections(wsm_manager_here(op));
}

static PyObject *
face_get_metrics(PyObject *op, void *Py_UNUSED(closure))
{
    return wsm_get_stats(op, NULL, 0, NULL);
}

/* A mapping that a test may have put in place of ours. What else is in the
 * dict compares as it likes, and may replace the dict meanwhile. */
static PyObject *
face_get_connections(PyObject *op, void *Py_UNUSED(closure))
{
    WsmManager *self = wsm_manager_here(op);
    PyObject *own = NULL, *attributes;
    int found = 0;

    Py_BEGIN_CRITICAL_SECTION(op);
    attributes = Py_XNewRef(self->attributes);
    Py_END_CRITICAL_SECTION();
    if (attributes != NULL) {
        found = PyDict_GetItemRef(attributes, self->state->names._connections,
                                  &own);
        Py_DECREF(attributes);
    }
    return found != 0 ? own : wsm_manager_connections(self);
}

static int
face_set_connections(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *name = ((WsmManager *)op)->state->names._connections;
    PyObject *attributes = PyObject_GenericGetDict(op, NULL), *old = NULL;
    int result;

    if (attributes == NULL) {
        return -1;
    }
    if (value != NULL) {
        result = PyDict_SetItem(attributes, name, value);
    }
    else {
        result = PyDict_Pop(attributes, name, &old);
        Py_XDECREF(old);
    }
    Py_DECREF(attributes);
    return result < 0 ? -1 : 0;
}

static Py_ssize_t
face_length(PyObject *op)
{
    return wsm_manager_count(wsm_manager_here(op));
}

static int
face_bool(PyObject *Py_UNUSED(op))
{
    return 1; /* a manager without connections is still a manager */
}

/* The id may be an address: a digest tells managers apart as well. */
static PyObject *
face_repr(PyObject *op)
{
    WsmManager *self = (WsmManager *)op;
    Py_ssize_t count = wsm_manager_count(self);

    if (self->key == Py_None) {
        return PyUnicode_FromFormat(
            "<UnifiedWebSocketManager of no user, %zd connection%s>", count,
            count == 1 ? "" : "s");
    }
    Py_hash_t hash = PyObject_Hash(self->key);
    if (hash == -1) {
        return NULL;
    }
    char digest[16];
    PyOS_snprintf(digest, sizeof(digest), "#%08lx",
                  (unsigned long)((uint64_t)hash & 0xffffffffu));
    return PyUnicode_FromFormat(
        "<UnifiedWebSocketManager of user %s, %zd connection%s>", digest,
        count, count == 1 ? "" : "s");
}

#define WSM_ROW(name, function, doc)                                  \
    {name, (PyCFunction)(void (*)(void))wsm_##function,               \
     METH_FASTCALL | METH_KEYWORDS, doc}

#define WSM_SHAPES "($self, /, *args, **kwargs)\n--\n\n"

#define WSM_EMIT_DOC                                                      \
    WSM_SHAPES "Send an event to the user's connections; from any thread, with or\n" \
    "without a loop, awaited or not. Shapes: (type, data=None),\n"        \
    "(connection_id, type, data). Keywords: event_type, data (or\n"       \
    "event_data), user_id, connection_id, thread_id, run_id, critical,\n" \
    "detail (outcome and reason for each connection), ack (the client is\n" \
    "asked to acknowledge it), idempotency_key (a retry with the same key\n" \
    "within idempotency_window seconds sends nothing and gives the first\n" \
    "Delivery).\n\nGives a Delivery; its await gives a Receipt. Raises\n"    \
    "EncodeError or EventTooLarge (then nothing was sent to anyone),\n"   \
    "ConnectionNotFound for an unknown connection_id, and\n"              \
    "UserIsolationError for another user's id."

static PyMethodDef face_methods[] = {
    WSM_ROW(
        "add_connection", add_connection,
        "add_connection($self, /, websocket, connection_id=None, "
        "thread_id=None, resume=None,\n               channel=None, "
        "loop=None)\n--\n\n"
        "Register an accepted socket (or a WebSocketConnection) of this "
        "user, bound to the\nrunning event loop; gives its ConnectionId, "
        "which may also be awaited.\n\nresume is how far the client got: "
        "the id of the last event it has, or '' at its\nfirst connect. "
        "The first frame is then {\"type\": \"resumed\", \"payload\": "
        "{\"recovered\":\nbool, \"replayed\": int, \"position\": id, "
        "\"reason\": str | null}}; if recovered, exactly\nthe events it "
        "has missed follow, before any other.\n\nRaises RuntimeError without a "
        "running loop (pass loop=), ConnectionLimitError,\n"
        "UserIsolationError if the socket or the record is another "
        "user's, TypeError for\nan object that can send nothing, "
        "ValueError for websocket=None, ServerDraining while\nthe "
        "process drains."),
    WSM_ROW("remove_connection", remove_connection,
            "remove_connection($self, /, connection_id)\n--\n\n"
            "Unregister a connection, by its id, Connection, record or "
            "socket; the socket is\nnot closed. Gives an Answer: True if it "
            "was registered. A ConnectionId removes only\nthe connection it "
            "was given for, never a successor of the same id."),
    WSM_ROW("remove_connection_by_user", remove_connection_by_user,
            "remove_connection_by_user($self, /, user_id=None)\n--\n\n"
            "Unregister all of the user's connections; gives how many."),
    WSM_ROW("connect_user", connect_user,
            "connect_user($self, /, user_id, websocket, connection_id=None, "
            "thread_id=None)\n--\n\n"
            "add_connection() that names the user; the manager of None "
            "routes to that user."),
    WSM_ROW("disconnect_user", disconnect_user,
            "disconnect_user($self, /, user_id, websocket=None, code=1000, "
            "reason='')\n--\n\n"
            "Unregister and close the user's connections (or the one of "
            "websocket); gives how\nmany. code and reason: RFC 6455 section "
            "7.4."),
    WSM_ROW("close_all_connections", close_all_connections,
            "close_all_connections($self, /, code=1000, reason='')\n--\n\n"
            "Unregister and close every connection of the user; gives how "
            "many."),
    WSM_ROW("get_connection", get_connection,
            "get_connection($self, /, connection_id)\n--\n\n"
            "The Connection of that id, or None."),
    WSM_ROW("get_user_connections", get_user_connections,
            "get_user_connections($self, /, user_id=None)\n--\n\n"
            "The ids of the user's connections, a new set."),
    WSM_ROW("get_connection_id_by_websocket", get_connection_id_by_websocket,
            "get_connection_id_by_websocket($self, /, websocket)\n--\n\n"
            "The ConnectionId of that socket, or None; one dict lookup."),
    WSM_ROW("update_connection_thread", update_connection_thread,
            "update_connection_thread($self, /, connection_id, thread_id)"
            "\n--\n\nSay which chat thread the connection shows now; False "
            "if there is no such\nconnection."),
    WSM_ROW("is_connection_active", is_connection_active,
            "is_connection_active($self, /, user_id=None)\n--\n\n"
            "True if the user has a connection that is not known to be "
            "closed; also takes a\nconnection id."),
    WSM_ROW("get_connection_health", get_connection_health,
            "get_connection_health($self, /, user_id=None)\n--\n\n"
            "A dict: total_connections, active_connections, healthy, "
            "has_active_connections,\nconnections (a row each: channel, "
            "queued_events, queued_bytes, ...). With a\nconnection id: its "
            "row."),
    WSM_ROW("wait_for_connection", wait_for_connection,
            "wait_for_connection($self, /, timeout=None)\n--\n\n"
            "A future of the running loop: True once the user has a "
            "connection, False after\ntimeout seconds."),
    WSM_ROW("get_stats", get_stats,
            "get_stats($self, /)\n--\n\n"
            "Counts of this manager, a new dict without ids."),
    WSM_ROW("emit_event", emit_event, "emit_event" WSM_EMIT_DOC),
    WSM_ROW("send_event", emit_event, "send_event" WSM_EMIT_DOC),
    WSM_ROW("emit_critical_event", emit_critical_event,
            "emit_critical_event" WSM_SHAPES
            "emit_event() for an event that is never dropped: (type, data), "
            "(user_id, type, data),\nor the same by keyword."),
    WSM_ROW("acknowledge", acknowledge,
            "acknowledge($self, /, event_id)\n--\n\n"
            "A client of the user says that it has the event of that id, "
            "which was emitted with\nack=True. Gives an Answer: True if that "
            "was still waited for. What is no id of an\nevent is False, not "
            "an error: it came from outside."),
    WSM_ROW("send_to_user", send_to_user,
            "send_to_user" WSM_SHAPES
            "Send a message, send_to_user(message) or send_to_user(user_id, "
            "message), to all of\nthe user's connections; gives a "
            "Delivery."),
    WSM_ROW("send_to_thread", send_to_thread,
            "send_to_thread($self, /, thread_id, message=None, "
            "message_data=None)\n--\n\n"
            "Send a message to the user's connections that show this chat "
            "thread; the Delivery\nis false if there are none. A thread id "
            "is never a user id."),
    WSM_ROW("broadcast_to_thread", send_to_thread,
            "broadcast_to_thread($self, /, thread_id, message=None, "
            "message_data=None)\n--\n\n"
            "The same as send_to_thread()."),
    WSM_ROW("send_message", send_message,
            "send_message($self, /, connection_id, message)\n--\n\n"
            "Send a message to one connection, or, by the user's own id, to "
            "all of them. Raises\nConnectionNotFound."),
    WSM_ROW("send_error", send_error,
            "send_error" WSM_SHAPES
            "Send an error message: send_error(text) or send_error(user_id, "
            "text)."),
    WSM_ROW("send_error_to_user", send_error,
            "send_error_to_user" WSM_SHAPES "The same as send_error()."),
    WSM_ROW("broadcast", broadcast_to_user,
            "broadcast($self, /, message)\n--\n\n"
            "Send a message to all of this user's connections; "
            "wsmanager.broadcast() reaches\neveryone."),
    WSM_ROW("broadcast_system_message", broadcast_to_user,
            "broadcast_system_message($self, /, message)\n--\n\n"
            "The same as broadcast()."),
    {NULL, NULL, 0, NULL},
};

#define WSM_FACE(name, doc) {#name, face_get_##name, NULL, doc, NULL}

static PyGetSetDef face_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    WSM_FACE(user_context, "The very object the manager was made for."),
    WSM_FACE(user_id, "The user's id, a str; None of the manager of None."),
    WSM_FACE(mode, "Always UNIFIED; kept for old callers."),
    WSM_FACE(service_available,
             "What the availability check said when it was made."),
    WSM_FACE(active_connections, "{connection id: Connection}, a new dict."),
    WSM_FACE(metrics, "The same as get_stats()."),
    WSM_FACE(position,
             "\"<epoch>:<seq>\" of the last event: where the stream is now."),
    {"_connections", face_get_connections, face_set_connections,
     "{connection id: Connection}; a test may replace it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef face_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(WsmManager, attributes), READONLY,
     NULL},
    WSM_WEAKREF_MEMBER(WsmManager){NULL, 0, 0, 0, NULL},
};

static PyType_Slot face_slots[] = {
    {Py_tp_doc,
     (void *)"The one manager of a user in this interpreter.\n\nTaken with "
             "get_websocket_manager(user_context). Every method may be "
             "called from\nany thread."},
    {Py_tp_new, face_new},
    {Py_tp_dealloc, wsm_manager_dealloc},
    {Py_tp_traverse, wsm_manager_traverse},
    {Py_tp_clear, wsm_manager_clear},
    {Py_tp_repr, face_repr},
    {Py_sq_length, face_length},
    {Py_nb_bool, face_bool},
    {Py_tp_methods, face_methods},
    {Py_tp_getset, face_getset},
    {Py_tp_members, face_members},
    {0, NULL},
};

PyType_Spec wsm_face_spec = {
    .name = "wsmanager._wsmanager.UnifiedWebSocketManager",
    .basicsize = sizeof(WsmManager),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
             Py_TPFLAGS_IMMUTABLETYPE | WSM_TPFLAGS_MANAGED_WEAKREF,
    .slots = face_slots,
};

/* -- awaitable, while a team migrates ------------------------------------ */

/* Tell of the call site, with file and line, once each (the warnings filter
 * does that), and let it work. */
static PyObject *
face_await(PyObject *op)
{
    WsmManager *self = (WsmManager *)op;

    if (PyErr_WarnEx(PyExc_DeprecationWarning,
                     "get_websocket_manager() is a plain function: drop the "
                     "await, or use get_websocket_manager_async()",
                     1) < 0) {
        return NULL;
    }
    wsm_add(&wsm_totals(self->state)->tolerated, 1);
    wsm_report(self->state, "await", "tolerated", NULL);
    return wsm_answer_new(self->state, Py_NewRef(op));
}

static PyType_Slot face_awaitable_slots[] = {
    {Py_tp_doc, (void *)"A manager that tolerates a wrong await."},
    {Py_tp_new, face_new},
    {Py_tp_dealloc, wsm_manager_dealloc},
    {Py_tp_traverse, wsm_manager_traverse},
    {Py_tp_clear, wsm_manager_clear},
    {Py_am_await, face_await},
    {0, NULL},
};

PyType_Spec wsm_face_awaitable_spec = {
    .name = "wsmanager._wsmanager.AwaitableWebSocketManager",
    .basicsize = sizeof(WsmManager),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | WSM_TPFLAGS_MANAGED_WEAKREF,
    .slots = face_awaitable_slots,
};
