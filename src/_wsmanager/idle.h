/* Managers that may be dropped when nobody holds them, by deadline. */
#ifndef WSM_IDLE_H
#define WSM_IDLE_H

#include "manager.h"

/* Guarded by the lock of the table that the managers are in. */
typedef struct WsmIdleList {
    WsmManager *head, *tail; /* borrowed: the table owns them */
    Py_ssize_t count;
} WsmIdleList;

/* Last in the list, and in no other; its time begins now. */
void wsm_idle_append(WsmIdleList *list, WsmManager *manager);

/* In no list any more. */
void wsm_idle_unlink(WsmManager *manager);

#endif
