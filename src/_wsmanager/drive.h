/* A pass over some connections of the running loop: each send's first steps. */
#ifndef WSM_DRIVE_H
#define WSM_DRIVE_H

#include "driver.h"
#include "histogram.h"

/* Zero it, set state and loop, drive, end. */
typedef struct {
    WsmState *state;
    PyObject *loop; /* borrowed: it is running */
    PyObject *previous; /* owned: the task that was current, or NULL */
    WsmDriver *driver; /* owned; current while set */
    WsmClock clock; /* for sends, which follow each other fast */
    PyObject *fatal; /* owned: the first KeyboardInterrupt or the like */
} WsmDrive;

/* Send event (stolen; may be NULL), then what the outbox holds, as long as
 * nothing suspends; from the first suspension on a task goes on with it.
 * The caller has made the connection busy; it is not when its writer is
 * done. Never fails: outcomes are settled. Runs the object's code. */
void wsm_drive(WsmDrive *drive, WsmConnection *connection, WsmEvent *event);

/* Restore the current task. 0, or -1 with the fatal error raised. */
int wsm_drive_end(WsmDrive *drive);

/* See that the pass has a driver of its own and that it is current. -1 with
 * an exception. */
int wsm_drive_prepare(WsmDrive *drive);

/* Whether the pass's driver may serve another send: nobody kept it as the
 * task that was current. */
bool wsm_drive_may_reuse(const WsmDrive *drive);

/* A send suspended: from here a task drives, and the pass needs another
 * driver. Steals inner (what to step) and awaiting (what it waits for). */
void wsm_drive_suspend(WsmDrive *drive, WsmConnection *connection,
                       WsmEvent *event, PyObject *inner, PyObject *awaiting);

/* A send raised what is set: judge and settle it, keep it if it is fatal. */
void wsm_drive_failed(WsmDrive *drive, WsmConnection *connection,
                      WsmEvent *event);

#endif
