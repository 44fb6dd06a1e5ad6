/* One event to many connections whose send is a coroutine function. A
 * coroutine of the package calls and awaits them one after the other: from
 * Python to Python the interpreter calls faster than from C. */
#ifndef WSM_PUMP_H
#define WSM_PUMP_H

#include "batch.h"
#include "drive.h"

/* Send the event of a job of the batch to its connection and to those of as
 * many of the jobs after it as one coroutine can do; gives the first job that
 * is still to be done, the given one if none was. Like wsm_drive() it never
 * fails and runs the objects' code. */
WsmJob *wsm_pump(WsmDrive *drive, const WsmBatch *batch, WsmJob *job);

extern PyType_Spec wsm_turns_spec;

#endif
