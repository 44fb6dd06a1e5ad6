/* Managers without connections, which may be dropped when nobody holds them:
 * those first whose time began first. The lists are guarded by the lock of the
 * table that the managers are in. */
#ifndef WSM_IDLE_H
#define WSM_IDLE_H

#include "manager.h"

/* The one whose time is over first, borrowed; NULL if there is none. */
WsmManager *wsm_idle_first(const WsmChain *list);

/* Is its time over? */
bool wsm_idle_is_due(const WsmManager *manager, int64_t now);

/* Last in the list, and in no other; its time begins now. */
void wsm_idle_append(WsmChain *list, WsmManager *manager);

#endif
