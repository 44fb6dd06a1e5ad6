/* Invariant: a list is in the order of its managers' deadlines, as long as the
 * time they are given stays the same. */
#include "idle.h"

WsmManager *
wsm_idle_first(const WsmChain *list)
{
    return WSM_LINKED(list->head, WsmManager, idle);
}

void
wsm_idle_append(WsmChain *list, WsmManager *manager)
{
    manager->idle_deadline =
        wsm_now_ns() + (int64_t)(manager->state->settings.idle_ttl * 1e9);
    manager->touched = false;
    wsm_chain_append(list, &manager->idle);
}
