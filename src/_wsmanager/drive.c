/* Invariant: while a pass has a driver, that is the loop's current task; what
 * was current before is put back at the pass's end. */
#include "drive.h"

#include "compat.h"
#include "mailbox.h"
#include "send.h"
#include "task.h"

#define WSM_DRIVER_REFS 2 /* the pass's and asyncio's */
#define WSM_WATCH_NS 500000000

bool
wsm_drive_may_reuse(const WsmDrive *drive)
{
    return Py_REFCNT(drive->driver) <= WSM_DRIVER_REFS &&
           !WSM_HAS_WEAKREFS(drive->driver);
}

int
wsm_drive_prepare(WsmDrive *drive)
{
    WsmDriver *kept = NULL;

    if (drive->driver != NULL) {
        if (wsm_drive_may_reuse(drive)) {
            return 0;
        }
        kept = drive->driver;
    }
    drive->driver = wsm_driver_new(drive->state, drive->loop);
    if (drive->driver == NULL) {
        drive->driver = kept;
        return -1;
    }
    PyObject *before =
        wsm_task_swap(drive->state, drive->loop, (PyObject *)drive->driver);
    if (before == NULL) {
        Py_XSETREF(drive->driver, kept);
        return -1;
    }
    if (drive->previous == NULL) {
        drive->previous = before;
    }
    else {
        Py_DECREF(before);
    }
    Py_XDECREF(kept);
    return 0;
}

void
wsm_drive_suspend(WsmDrive *drive, WsmConnection *connection, WsmEvent *event,
                  PyObject *inner, PyObject *awaiting)
{
    WsmDriver *self = drive->driver;
    WsmMailbox *mailbox = connection->mailbox;

    Py_INCREF(self);
    self->connection = (WsmConnection *)Py_NewRef((PyObject *)connection);
    self->event = (WsmEvent *)Py_NewRef((PyObject *)event);
    self->inner = inner;
    self->awaiting = awaiting;
    wsm_connection_set_driver(connection, (PyObject *)self);
    connection->since = wsm_now_ns();
    wsm_mailbox_watch(mailbox, connection);
    if (mailbox->timer == NULL) {
        wsm_mailbox_schedule(mailbox, WSM_WATCH_NS);
    }
    /* Out of the way while the task is made: it may be an eager one. */
    wsm_task_restore(drive->state, drive->loop, drive->previous);
    drive->previous = NULL;
    drive->driver = NULL;
    if (wsm_driver_go_on(self) < 0) {
        PyObject *error = wsm_send_failed(connection, event);
        Py_XDECREF(error);
        wsm_driver_release(self);
        wsm_lock(connection->lock);
        connection->busy = false;
        wsm_unlock(connection->lock);
    }
    Py_DECREF(self);
    Py_DECREF(self);
}

void
wsm_drive_failed(WsmDrive *drive, WsmConnection *connection, WsmEvent *event)
{
    PyObject *error = wsm_send_failed(connection, event);
    if (error != NULL && drive->fatal == NULL &&
        !PyErr_GivenExceptionMatches(error,
                                     drive->state->asyncio.cancelled_error)) {
        drive->fatal = error;
    }
    else {
        Py_XDECREF(error);
    }
}

/* True if the connection's writer may go on with the next event. */
static bool
drive_one(WsmDrive *drive, WsmConnection *connection, WsmEvent *event)
{
    PyObject *inner = NULL, *result = NULL;
    bool entered = wsm_send_enter(connection);
    PySendResult how = wsm_send_call(connection, event, &inner, &result);

    if (how == PYGEN_NEXT) {
        /* Only what awaits asks whose task it is. */
        if (wsm_drive_prepare(drive) == 0) {
            how = wsm_send_step(&inner, &result);
        }
        else {
            Py_CLEAR(inner);
            how = PYGEN_ERROR;
        }
    }
    wsm_send_exit(connection, entered);
    if (how == PYGEN_NEXT) {
        wsm_drive_suspend(drive, connection, event, inner, result);
        return false;
    }
    if (how == PYGEN_RETURN) {
        Py_DECREF(result);
        wsm_send_done(connection, event, wsm_clock_now(&drive->clock));
        return true;
    }
    wsm_drive_failed(drive, connection, event);
    return true;
}

void
wsm_drive(WsmDrive *drive, WsmConnection *connection, WsmEvent *event)
{
    Py_INCREF(connection);
    if (event == NULL) {
        event = wsm_send_next(connection);
    }
    while (event != NULL) {
        bool more = drive_one(drive, connection, event);
        Py_DECREF(event);
        event = more ? wsm_send_next(connection) : NULL;
    }
    Py_DECREF(connection);
}

int
wsm_drive_end(WsmDrive *drive)
{
    if (drive->previous != NULL) {
        wsm_task_restore(drive->state, drive->loop, drive->previous);
        drive->previous = NULL;
    }
    Py_CLEAR(drive->driver);
    if (drive->fatal != NULL) {
        wsm_error_restore(drive->fatal);
        drive->fatal = NULL;
        return -1;
    }
    return 0;
}
