/* Drives the sends of objects that are not ours to their end. */
#ifndef WSM_DRIVER_H
#define WSM_DRIVER_H

#include "connection.h"
#include "event.h"
#include "histogram.h"
#include "state.h"

struct WsmDriver;

/* One pass over some connections of the running loop. Zero it, set state
 * and loop, drive, end. */
typedef struct {
    WsmState *state;
    PyObject *loop; /* borrowed: it is running */
    PyObject *previous; /* owned: the task that was current, or NULL */
    struct WsmDriver *driver; /* owned; current while set */
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

extern PyType_Spec wsm_driver_spec;

#endif
