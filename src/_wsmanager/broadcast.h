/* One message to every connection of every user of this process. */
#ifndef WSM_BROADCAST_H
#define WSM_BROADCAST_H

#include "python.h"

PyObject *wsm_broadcast(PyObject *module, PyObject *message);

#endif
