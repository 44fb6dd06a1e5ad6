/* One table of "this peer is gone", by class name and module prefix.
 * Invariant: what the table does not know is an application error. */
#include "verdict.h"

#include <string.h>

#include "compat.h"

typedef struct {
    const char *module; /* a prefix: "" for any module */
    const char *name;
} WsmGone;

static const WsmGone gone_classes[] = {
    {"starlette.", "WebSocketDisconnect"},
    {"fastapi.", "WebSocketDisconnect"},
    {"litestar.", "WebSocketDisconnect"},
    {"uvicorn.", "ClientDisconnected"},
    {"websockets.", "ConnectionClosed"},
    {"websockets.", "ConnectionClosedOK"},
    {"websockets.", "ConnectionClosedError"},
    {"aiohttp.", "ClientConnectionResetError"},
    {"aiohttp.", "ClientConnectionError"},
    {"anyio", "ClosedResourceError"},
    {"anyio", "BrokenResourceError"},
    {"anyio", "EndOfStream"},
    {"wsproto.", "LocalProtocolError"},
    {"picows.", "WSTransportClosed"},
    {"builtins", "ConnectionError"},
};

static const char *const gone_texts[] = {
    "once a close message has been sent",
    "after sending 'websocket.close'",
    "after sending \"websocket.close\"",
    "response already completed",
    "WebSocket is not connected",
    "Cannot write to closing transport",
    "unable to perform operation on <TCPTransport closed",
    "the handler is closed",
};

static bool
verdict_text_of(PyObject *op, const char **text)
{
    *text = op != NULL && PyUnicode_Check(op) ? PyUnicode_AsUTF8(op) : NULL;
    if (*text == NULL) {
        wsm_overlook(op); /* a name that is no text names none of ours */
        return false;
    }
    return true;
}

static bool
verdict_class_is_gone(WsmState *state, PyTypeObject *type)
{
    PyObject *module = NULL, *name = NULL;
    const char *module_text, *name_text;
    bool gone = false;

    if (PyObject_GetOptionalAttr((PyObject *)type, state->names.__module__,
                                 &module) < 0 ||
        PyObject_GetOptionalAttr((PyObject *)type, state->names.__name__,
                                 &name) < 0) {
        /* A class that hides its name is not in the table. */
        wsm_overlook((PyObject *)type);
    }
    else if (verdict_text_of(module, &module_text) &&
             verdict_text_of(name, &name_text)) {
        for (size_t i = 0; i < Py_ARRAY_LENGTH(gone_classes); i++) {
            const WsmGone *row = &gone_classes[i];
            gone = gone || (strcmp(row->name, name_text) == 0 &&
                            strncmp(row->module, module_text,
                                    strlen(row->module)) == 0);
        }
    }
    Py_XDECREF(module);
    Py_XDECREF(name);
    return gone;
}

static bool
verdict_any_class_is_gone(WsmState *state, PyObject *error)
{
    PyObject *mro = Py_TYPE(error)->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *type = PyTuple_GET_ITEM(mro, i);
        if (PyType_Check(type) &&
            verdict_class_is_gone(state, (PyTypeObject *)type)) {
            return true;
        }
    }
    return false;
}

static bool
verdict_text_is_gone(PyObject *error)
{
    const char *text;
    bool gone = false;
    PyObject *message = PyObject_Str(error);

    if (verdict_text_of(message, &text)) {
        for (size_t i = 0; i < Py_ARRAY_LENGTH(gone_texts); i++) {
            gone = gone || strstr(text, gone_texts[i]) != NULL;
        }
    }
    Py_XDECREF(message);
    return gone;
}

/* An attribute of the socket, or of its enum's name; NULL where absent. */
static PyObject *
verdict_attribute(PyObject *op, PyObject *name)
{
    PyObject *value = NULL;
    if (PyObject_GetOptionalAttr(op, name, &value) < 0) {
        wsm_overlook(op); /* a state that cannot be read says nothing */
    }
    return value;
}

static bool
verdict_state_is(WsmState *state, PyObject *websocket, PyObject *attribute,
                 const char *wanted)
{
    bool is = false;
    const char *text;
    PyObject *value = verdict_attribute(websocket, attribute);
    PyObject *name =
        value == NULL ? NULL : verdict_attribute(value, state->names.name);

    if (verdict_text_of(name, &text)) {
        is = strcmp(text, wanted) == 0;
    }
    Py_XDECREF(name);
    Py_XDECREF(value);
    return is;
}

bool
wsm_websocket_says_closed(WsmState *state, PyObject *websocket)
{
    if (websocket == NULL) {
        return false;
    }
    PyObject *saved = wsm_error_take();
    bool closed =
        verdict_state_is(state, websocket, state->names.client_state,
                         "DISCONNECTED") ||
        verdict_state_is(state, websocket, state->names.application_state,
                         "DISCONNECTED");
    if (!closed) {
        PyObject *flag = verdict_attribute(websocket, state->names.closed);
        closed = flag == Py_True;
        Py_XDECREF(flag);
    }
    wsm_error_restore(saved);
    return closed;
}

bool
wsm_websocket_is_connecting(WsmState *state, PyObject *websocket)
{
    PyObject *saved = wsm_error_take();
    bool is = verdict_state_is(state, websocket,
                               state->names.application_state, "CONNECTING");
    wsm_error_restore(saved);
    return is;
}

WsmVerdict
wsm_verdict(WsmState *state, PyObject *error, PyObject *websocket)
{
    int cancelled =
        PyErr_GivenExceptionMatches(error, state->asyncio.cancelled_error);
    if (cancelled) {
        return WSM_VERDICT_CANCELLED;
    }
    if (!PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        return WSM_VERDICT_FATAL;
    }
    if (verdict_any_class_is_gone(state, error)) {
        return WSM_VERDICT_GONE;
    }
    if (PyErr_GivenExceptionMatches(error, PyExc_RuntimeError) &&
        verdict_text_is_gone(error)) {
        return WSM_VERDICT_GONE;
    }
    return wsm_websocket_says_closed(state, websocket) ? WSM_VERDICT_GONE
                                                       : WSM_VERDICT_ERROR;
}

const char *
wsm_verdict_name(WsmVerdict verdict)
{
    static const char *const names[] = {"gone", "cancelled", "error", "fatal"};
    return names[verdict];
}
