/* The Python type of a connection. */
#ifndef WSM_CONNECTION_TYPE_H
#define WSM_CONNECTION_TYPE_H

#include "python.h"

extern PyType_Spec wsm_connection_spec;

#endif
