/* Which connections there are, by their sockets and by their ids.
 * Invariant: one that is not open is in no table, or is about to leave it by
 * the hand that closed it. */
#include "compat.h"
#include "counters.h"
#include "registry.h"

WsmConnection *
wsm_registry_by_socket(WsmRegistry *self, PyObject *socket)
{
    PyObject *found = NULL;
    PyObject *address = PyLong_FromVoidPtr(socket);
    if (address == NULL) {
        return NULL;
    }
    if (PyDict_GetItemRef(self->sockets, address, &found) < 0) {
        found = NULL;
    }
    Py_DECREF(address);
    return (WsmConnection *)found;
}

WsmConnection *
wsm_registry_routed(WsmRegistry *self, PyObject *id)
{
    PyObject *found = NULL;

    if (PyDict_GetItemRef(self->routed, id, &found) > 0 &&
        !((WsmConnection *)found)->open) {
        Py_CLEAR(found); /* just leaving, in another thread */
    }
    return (WsmConnection *)found;
}

/* In place of a connection that is leaving, if there is one: *gone is the
 * caller's to drop. 1; 0: there is another user's; -1 with an exception. */
static int
table_route(WsmRegistry *self, WsmConnection *connection, PyObject **gone)
{
    if (PyDict_GetItemRef(self->routed, connection->id, gone) < 0) {
        return -1;
    }
    const WsmConnection *other = (const WsmConnection *)*gone;
    if (other != NULL && other->open &&
        other->manager != connection->manager) {
        return 0;
    }
    return PyDict_SetItem(self->routed, connection->id,
                          (PyObject *)connection) < 0
               ? -1
               : 1;
}

/* Into the tables; in that of sockets too there may be one that is leaving. */
static int
table_enter(WsmRegistry *self, PyObject *address, WsmConnection *connection,
            PyObject *gone[2])
{
    int result = connection->routed ? table_route(self, connection, gone) : 1;

    if (result > 0 &&
        PyDict_GetItemRef(self->sockets, address, &gone[1]) >= 0 &&
        PyDict_SetItem(self->sockets, address, (PyObject *)connection) == 0) {
        wsm_chain_unlink(&connection->manager->idle);
        return 1;
    }
    return result > 0 ? -1 : result;
}

/* Out of a table, if it is still this one that is in it; *gone is the
 * caller's to drop. -1 with an exception. */
static int
table_leave(PyObject *table, PyObject *key, WsmConnection *connection,
            PyObject **gone)
{
    int result = PyDict_Pop(table, key, gone);
    if (result > 0 && *gone != (PyObject *)connection) {
        result = PyDict_SetItem(table, key, *gone);
    }
    return result < 0 ? -1 : 0;
}

void
wsm_registry_rest(WsmRegistry *self, WsmMailbox *mailbox)
{
    PyObject *gone = NULL;

    wsm_lock(&mailbox->lock);
    bool rests = mailbox->connections == 0 && !mailbox->stray_due;
    wsm_unlock(&mailbox->lock);
    if (!rests) {
        return;
    }
    PyObject *address = PyLong_FromVoidPtr(mailbox->loop);
    if (address == NULL ||
        PyDict_GetItemRef(self->mailboxes, address, &gone) < 0 ||
        (gone == (PyObject *)mailbox && /* not the loop's next one */
         PyDict_Pop(self->mailboxes, address, NULL) < 0)) {
        wsm_unraisable((PyObject *)mailbox);
    }
    Py_XDECREF(address);
    Py_XDECREF(gone);
}

/* Its last connection may have let go of the mailbox while this one came. */
static int
registry_enter_mailbox(WsmRegistry *self, WsmMailbox *mailbox)
{
    PyObject *there = NULL;
    PyObject *address = PyLong_FromVoidPtr(mailbox->loop);

    if (address == NULL) {
        return -1;
    }
    wsm_lock(&mailbox->lock);
    mailbox->connections++;
    wsm_unlock(&mailbox->lock);
    int claimed =
        wsm_dict_claim(self->mailboxes, address, (PyObject *)mailbox, &there);
    Py_DECREF(address);
    Py_XDECREF(there);
    if (claimed < 0) {
        wsm_lock(&mailbox->lock);
        mailbox->connections--;
        wsm_unlock(&mailbox->lock);
    }
    return claimed < 0 ? -1 : 0;
}

/* Out of both tables; what held it there is the caller's to drop. */
static int
table_leave_both(WsmRegistry *self, PyObject *address,
                 WsmConnection *connection, PyObject *gone[2])
{
    wsm_lock(&self->lock);
    int left = table_leave(self->sockets, address, connection, &gone[0]);
    if (left == 0 && connection->routed) {
        left = table_leave(self->routed, connection->id, connection, &gone[1]);
    }
    wsm_unlock(&self->lock);
    return left;
}

static void
registry_leave_tables(WsmRegistry *self, WsmConnection *connection)
{
    PyObject *gone[2] = {NULL, NULL};
    PyObject *address = PyLong_FromVoidPtr(connection->websocket);

    if (address == NULL ||
        table_leave_both(self, address, connection, gone) < 0) {
        wsm_unraisable((PyObject *)connection);
    }
    Py_XDECREF(gone[0]);
    Py_XDECREF(gone[1]);
    Py_XDECREF(address);
}

static int
registry_enter_tables(WsmRegistry *self, WsmConnection *connection)
{
    PyObject *gone[2] = {NULL, NULL};
    PyObject *address = PyLong_FromVoidPtr(connection->websocket);
    if (address == NULL) {
        return -1;
    }
    wsm_lock(&self->lock);
    int entered = table_enter(self, address, connection, gone);
    wsm_unlock(&self->lock);
    Py_XDECREF(gone[0]);
    Py_XDECREF(gone[1]);
    Py_DECREF(address);
    if (entered == 0) {
        PyErr_Format(self->state->errors.UserIsolationError,
                     "%R is the id of another user's connection, which was "
                     "added through the manager of None too",
                     connection->id);
    }
    return entered > 0 ? 0 : -1;
}

int
wsm_registry_enter(WsmRegistry *self, WsmConnection *connection)
{
    if (registry_enter_tables(self, connection) < 0) {
        return -1;
    }
    if (registry_enter_mailbox(self, connection->mailbox) < 0) {
        PyObject *saved = wsm_error_take();
        registry_leave_tables(self, connection);
        wsm_error_restore(saved);
        return -1;
    }
    wsm_add(&wsm_totals(self->state)->opened, 1);
    if (connection->manager->suspended) { /* while it was coming */
        wsm_registry_adopt(self, connection->manager);
    }
    if (!connection->open) {
        registry_leave_tables(self, connection); /* it left meanwhile */
        wsm_registry_rest(self, connection->mailbox);
    }
    return 0;
}

static void
registry_leave_mailbox(WsmRegistry *self, WsmMailbox *mailbox)
{
    wsm_lock(&mailbox->lock);
    mailbox->connections--;
    wsm_unlock(&mailbox->lock);
    wsm_registry_rest(self, mailbox);
}

void
wsm_registry_leave(WsmRegistry *self, WsmConnection *connection)
{
    PyObject *saved = wsm_error_take();
    registry_leave_tables(self, connection);
    wsm_add(&wsm_totals(self->state)->closed, 1);
    registry_leave_mailbox(self, connection->mailbox);
    wsm_error_restore(saved);
}
