/* The Python types of a manager. */
#ifndef WSM_FACE_H
#define WSM_FACE_H

#include "python.h"

/* UnifiedWebSocketManager. */
extern PyType_Spec wsm_face_spec;

/* The same, awaitable for a team in the middle of its migration; its base
 * is the type of wsm_face_spec. */
extern PyType_Spec wsm_face_awaitable_spec;

#endif
