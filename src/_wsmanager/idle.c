/* Invariant: a list is in the order in which its managers' times began. */
#include "idle.h"

WsmManager *
wsm_idle_first(const WsmChain *list)
{
    return WSM_LINKED(list->head, WsmManager, idle);
}

bool
wsm_idle_is_due(const WsmManager *manager, int64_t now)
{
    double ttl = manager->state->settings.idle_ttl; /* seconds */
    return (double)(now - manager->idle_since) >= ttl * 1e9;
}

void
wsm_idle_append(WsmChain *list, WsmManager *manager)
{
    manager->idle_since = wsm_now_ns();
    manager->touched = false;
    wsm_chain_append(list, &manager->idle);
}
