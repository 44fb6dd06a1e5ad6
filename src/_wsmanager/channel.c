/* Invariant: `open && !closed` only between the accepted handshake and the
 * first sign of an end. */
#include "channel.h"

#include "args.h"
#include "compat.h"
#include "wire.h"

/* A method without arguments as a truth value: 1, 0, or -1 with an error. */
static int
channel_ask(PyObject *op, PyObject *name)
{
    PyObject *answer = PyObject_CallMethodNoArgs(op, name);
    if (answer == NULL) {
        return -1;
    }
    int is = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return is;
}

static int
channel_number(WsmChannel *channel)
{
    PyObject *fd = PyObject_CallMethodNoArgs(channel->socket,
                                             channel->state->names.fileno);
    if (fd == NULL) {
        return -1;
    }
    int number = PyLong_AsInt(fd);
    Py_DECREF(fd);
    return number;
}

/* True if asyncio's own transport is not closing, or holds nothing: what its
 * methods come down to, read without running Python. False: ask them. */
static bool
channel_reads_open(WsmChannel *channel)
{
    PyObject *closing =
        PyObject_GetAttr(channel->transport, channel->state->names._closing);
    bool open = closing == Py_False;
    if (closing == NULL) {
        PyErr_Clear(); /* then its method tells */
    }
    Py_XDECREF(closing);
    return open;
}

static bool
channel_reads_empty(WsmChannel *channel)
{
    PyObject *buffer =
        PyObject_GetAttr(channel->transport, channel->state->names._buffer);
    Py_ssize_t size = buffer == NULL ? -1 : PyObject_Size(buffer);
    if (size < 0) {
        PyErr_Clear(); /* then its method tells */
    }
    Py_XDECREF(buffer);
    return size == 0;
}

static int
channel_is_closing(WsmChannel *channel)
{
    return channel->known && channel_reads_open(channel)
               ? 0
               : channel_ask(channel->transport,
                             channel->state->names.is_closing);
}

Py_ssize_t
wsm_channel_buffered(WsmChannel *channel)
{
    if (channel->known && channel_reads_empty(channel)) {
        return 0;
    }
    PyObject *size = PyObject_CallMethodNoArgs(
        channel->transport, channel->state->names.get_write_buffer_size);
    if (size == NULL) {
        return -1;
    }
    Py_ssize_t bytes = PyLong_AsSsize_t(size);
    Py_DECREF(size);
    return bytes;
}

/* An error of asking leaves the answer to the library's own send. */
static WsmWay
channel_judge(WsmChannel *channel)
{
#ifdef WSM_PLANT_KEEP_FD
    return channel->fd < 0 ? WSM_WAY_GONE : WSM_WAY_DIRECT;
#endif
    int closing = channel_is_closing(channel);
    if (closing != 0) {
        return closing < 0 ? WSM_WAY_LIBRARY : WSM_WAY_GONE;
    }
    int number = channel_number(channel);
    if (number != channel->fd) {
        return PyErr_Occurred() ? WSM_WAY_LIBRARY : WSM_WAY_GONE;
    }
    if (channel->ready != NULL) {
        PyObject *ready = PyObject_CallNoArgs(channel->ready);
        int is = ready == NULL ? -1 : PyObject_IsTrue(ready);
        Py_XDECREF(ready);
        if (is <= 0) {
            return WSM_WAY_LIBRARY;
        }
    }
#ifdef WSM_PLANT_BUFFERED_DIRECT
    return WSM_WAY_DIRECT;
#endif
    Py_ssize_t buffered = wsm_channel_buffered(channel);
    if (buffered != 0) {
        return buffered < 0 ? WSM_WAY_LIBRARY : WSM_WAY_WAIT;
    }
    return WSM_WAY_DIRECT;
}

WsmWay
wsm_channel_check(WsmChannel *channel)
{
    if (channel->closed) {
        return WSM_WAY_GONE;
    }
    if (!channel->open) {
        return WSM_WAY_LIBRARY;
    }
    WsmWay way = channel_judge(channel);
    if (PyErr_Occurred()) {
        wsm_unraisable((PyObject *)channel);
    }
    return way;
}

int
wsm_channel_handover(WsmChannel *channel, const unsigned char *data,
                     size_t size)
{
    PyObject *bytes =
        PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
    if (bytes == NULL) {
        return -1;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        channel->transport, channel->state->names.write, bytes);
    Py_DECREF(bytes);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    return 0;
}

#ifdef WSM_PLANT_COOKIE
void
wsm_channel_tripwire(const WsmChannel *channel)
{
    if (wsm_wire_cookie(channel->fd) != channel->cookie) {
        Py_FatalError("wsmanager: a write to another connection's socket");
    }
}
#endif

size_t
wsm_channel_unsent(const WsmChannel *channel)
{
    return channel->closed ? 0 : wsm_wire_unsent(channel->fd);
}

uint64_t
wsm_channel_acknowledged(const WsmChannel *channel, size_t unsent)
{
    uint64_t bytes;
    return wsm_wire_acknowledged(channel->fd, &bytes)
               ? bytes
               : channel->written - unsent;
}

void
wsm_channel_user_timeout(WsmChannel *channel, double seconds)
{
    wsm_wire_user_timeout(channel->fd, seconds);
}

void
wsm_channel_abort(WsmChannel *channel)
{
    PyObject *saved = wsm_error_take();
    PyObject *result = PyObject_CallMethodNoArgs(channel->transport,
                                                 channel->state->names.abort);
    if (result == NULL) {
        wsm_unraisable(channel->transport);
    }
    Py_XDECREF(result);
    wsm_error_restore(saved);
}

bool
wsm_channel_bind(WsmChannel *channel, PyObject *connection)
{
    wsm_lock(&channel->lock);
    bool free_ = channel->connection == NULL;
    if (free_) {
        channel->connection = Py_NewRef(connection);
    }
    wsm_unlock(&channel->lock);
    return free_;
}

void
wsm_channel_unbind(WsmChannel *channel)
{
    wsm_lock(&channel->lock);
    PyObject *back = channel->connection;
    channel->connection = NULL;
    wsm_unlock(&channel->lock);
    Py_XDECREF(back);
}

PyObject *
wsm_channel_connection(WsmChannel *channel)
{
    wsm_lock(&channel->lock);
    PyObject *connection = Py_XNewRef(channel->connection);
    wsm_unlock(&channel->lock);
    return connection;
}

/* -- the Python face ----------------------------------------------------- */

static PyObject *
channel_info(WsmState *state, PyObject *transport, PyObject *name)
{
    return PyObject_CallMethodOneArg(transport, state->names.get_extra_info,
                                     name);
}

/* TLS would get plaintext in its stream: refused here, once and for all. */
static int
channel_refuse_tls(WsmState *state, PyObject *transport)
{
#ifdef WSM_PLANT_TLS_DIRECT
    return 0;
#endif
    PyObject *const names[] = {state->names.sslcontext,
                               state->names.ssl_object};
    for (size_t i = 0; i < 2; i++) {
        PyObject *info = channel_info(state, transport, names[i]);
        if (info == NULL) {
            return -1;
        }
        Py_DECREF(info);
        if (info != Py_None) {
            PyErr_SetString(PyExc_ValueError,
                            "a TLS transport has no direct channel");
            return -1;
        }
    }
    return 0;
}

/* An attribute of a module that is imported already: 1, 0 or -1. */
static int
channel_imported(const char *module, const char *attribute, PyObject **found)
{
    *found = NULL;
    PyObject *name = PyUnicode_FromString(module);
    PyObject *imported = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (imported == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int is = PyObject_GetOptionalAttrString(imported, attribute, found);
    Py_DECREF(imported);
    return is;
}

/* The transport and the socket's wrapper exactly as asyncio makes them: then
 * what they would answer is read, or asked of the socket inside. */
static int
channel_recognize(WsmChannel *self)
{
    PyObject *type;
    if (channel_imported("asyncio.selector_events", "_SelectorSocketTransport",
                         &type) < 0) {
        return -1;
    }
    self->known = type == (PyObject *)Py_TYPE(self->transport);
    Py_XDECREF(type);
    if (channel_imported("asyncio.trsock", "TransportSocket", &type) < 0) {
        return -1;
    }
    if (type == (PyObject *)Py_TYPE(self->socket)) {
        PyObject *inside =
            PyObject_GetAttr(self->socket, self->state->names._sock);
        if (inside == NULL) {
            Py_DECREF(type);
            return -1;
        }
        Py_SETREF(self->socket, inside);
    }
    Py_XDECREF(type);
    return 0;
}

static int
channel_attach(WsmChannel *self, PyObject *transport)
{
    WsmState *state = self->state;

    self->transport = Py_NewRef(transport);
    if (channel_refuse_tls(state, transport) < 0) {
        return -1;
    }
    self->socket = channel_info(state, transport, state->names.socket);
    if (self->socket == NULL) {
        return -1;
    }
    if (self->socket == Py_None) {
        PyErr_SetString(PyExc_ValueError, "the transport has no socket");
        return -1;
    }
    if (channel_recognize(self) < 0) {
        return -1;
    }
    self->fd = channel_number(self);
    if (self->fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (self->fd < 0 || !wsm_wire_is_stream(self->fd)) {
        PyErr_SetString(PyExc_ValueError,
                        "the transport's socket is not a connected TCP or "
                        "Unix stream");
        return -1;
    }
#ifdef WSM_PLANT_COOKIE
    self->cookie = wsm_wire_cookie(self->fd);
#endif
    /* What every write will ask; better refused now than at the first. */
    if (wsm_channel_buffered(self) < 0 ||
        channel_ask(transport, state->names.is_closing) < 0) {
        return -1;
    }
    return 0;
}

static PyObject *
channel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"transport", "ready", "open", NULL};
    PyObject *transport, *ready = Py_None;
    int open = 1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$Op:Channel", names,
                                     &transport, &ready, &open)) {
        return NULL;
    }
    if (ready != Py_None && !PyCallable_Check(ready)) {
        PyErr_SetString(PyExc_TypeError, "ready must be callable or None");
        return NULL;
    }
    WsmChannel *self = (WsmChannel *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = PyType_GetModuleState(type);
    self->ready = ready == Py_None ? NULL : Py_NewRef(ready);
    self->open = open != 0;
    if (channel_attach(self, transport) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *
channel_opened(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ((WsmChannel *)op)->open = true;
    Py_RETURN_NONE;
}

static PyObject *
channel_closed(PyObject *op, PyObject *args)
{
    WsmChannel *self = (WsmChannel *)op;
    unsigned short code = 0;

    if (!PyArg_ParseTuple(args, "|H:closed", &code)) {
        return NULL;
    }
    if (!self->closed) {
        self->code = code; /* what comes later is its echo */
    }
    self->closed = true;
    PyObject *connection = wsm_channel_connection(self);
    if (connection != NULL) {
        self->state->on_lost(connection, "closed");
        Py_DECREF(connection);
    }
    Py_RETURN_NONE;
}

static PyObject *
channel_pause(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    /* Paused means a write buffer that is not empty: each write looks. */
    Py_RETURN_NONE;
}

static PyObject *
channel_resume(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    WsmChannel *self = (WsmChannel *)op;
    PyObject *connection = wsm_channel_connection(self);
    if (connection != NULL) {
        self->state->on_resume(connection);
        Py_DECREF(connection);
    }
    Py_RETURN_NONE;
}

static PyObject *
channel_flush(PyObject *op, PyObject *args)
{
    WsmChannel *self = (WsmChannel *)op;
    int whole = 1;

    if (!PyArg_ParseTuple(args, "|p:flush", &whole)) {
        return NULL;
    }
    PyObject *connection = wsm_channel_connection(self);
    if (connection != NULL) {
        self->state->on_flush(connection, whole != 0);
        Py_DECREF(connection);
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
channel_get_is_open(PyObject *op, void *Py_UNUSED(closure))
{
    WsmChannel *self = (WsmChannel *)op;
    return PyBool_FromLong(self->open && !self->closed);
}

static PyObject *
channel_get_transport(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((WsmChannel *)op)->transport);
}

static int
channel_traverse(PyObject *op, visitproc visit, void *arg)
{
    WsmChannel *self = (WsmChannel *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->transport);
    Py_VISIT(self->socket);
    Py_VISIT(self->ready);
    Py_VISIT(self->connection);
    return 0;
}

static int
channel_clear(PyObject *op)
{
    WsmChannel *self = (WsmChannel *)op;
    Py_CLEAR(self->transport);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->ready);
    Py_CLEAR(self->connection);
    return 0;
}

static void
channel_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    channel_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(channel_doc,
"Channel(transport, *, ready=None, open=True)\n--\n\n"
"The direct way to an asyncio transport over plain TCP or a Unix socket.\n\n"
"A server's protocol makes one for each connection and tells it what\n"
"happens: opened() when the handshake is accepted, closed() at the first\n"
"sign of an end, pause() and resume() as its transport does. ready, if\n"
"given, is called without arguments before each write; while it is false\n"
"the library's own send is used. Raises ValueError for TLS and for\n"
"anything that is not a connected stream socket. Use it only on the\n"
"thread of the loop that owns the transport.");

PyDoc_STRVAR(channel_opened_doc, "opened($self, /)\n--\n\n"
"The handshake is accepted: frames may go (RFC 6455 section 4.2.2).");
PyDoc_STRVAR(channel_closed_doc, "closed($self, code=0, /)\n--\n\n"
"A close frame was sent or received, or the transport is lost: no frame "
"may go any more; the connection leaves its user's manager. code is the\n"
"close code, 0 where there is none; the first call's is counted.");
PyDoc_STRVAR(channel_pause_doc, "pause($self, /)\n--\n\n"
"The transport's buffer is over its high-water mark.");
PyDoc_STRVAR(channel_resume_doc, "resume($self, /)\n--\n\n"
"The transport's buffer is low again: what waits may go.");

PyDoc_STRVAR(channel_flush_doc,
             "flush($self, whole=True, /)\n--\n\n"
             "Write now what waits for the end of the loop's turn: the "
             "server is about to\nwrite a message of the application's "
             "own. With whole, what waits for a slow\npeer goes to the "
             "transport too; before a close frame it need not.");

static PyMethodDef channel_methods[] = {
    {"flush", channel_flush, METH_VARARGS, channel_flush_doc},
    {"opened", channel_opened, METH_NOARGS, channel_opened_doc},
    {"closed", channel_closed, METH_VARARGS, channel_closed_doc},
    {"pause", channel_pause, METH_NOARGS, channel_pause_doc},
    {"resume", channel_resume, METH_NOARGS, channel_resume_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef channel_getset[] = {
    {"is_open", channel_get_is_open, NULL, "True while frames may go.", NULL},
    {"transport", channel_get_transport, NULL, "The transport.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot channel_slots[] = {
    {Py_tp_doc, (void *)channel_doc},
    {Py_tp_new, channel_new},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_traverse, channel_traverse},
    {Py_tp_clear, channel_clear},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_getset},   {0, NULL},
};

PyType_Spec wsm_channel_spec = {
    .name = "wsmanager._wsmanager.Channel",
    .basicsize = sizeof(WsmChannel),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = channel_slots,
};
