/* Invariant: a manager's idle_list is the one list that it is in. */
#include "idle.h"

void
wsm_idle_unlink(WsmManager *manager)
{
    WsmIdleList *list = manager->idle_list;
    if (list == NULL) {
        return;
    }
    if (manager->idle_prev == NULL) {
        list->head = manager->idle_next;
    }
    else {
        manager->idle_prev->idle_next = manager->idle_next;
    }
    if (manager->idle_next == NULL) {
        list->tail = manager->idle_prev;
    }
    else {
        manager->idle_next->idle_prev = manager->idle_prev;
    }
    list->count--;
    manager->idle_list = NULL;
}

void
wsm_idle_append(WsmIdleList *list, WsmManager *manager)
{
    wsm_idle_unlink(manager);
    manager->idle_deadline =
        wsm_now_ns() + (int64_t)(manager->state->settings.idle_ttl * 1e9);
    manager->touched = false;
    manager->idle_prev = list->tail;
    manager->idle_next = NULL;
    if (list->tail == NULL) {
        list->head = manager;
    }
    else {
        list->tail->idle_next = manager;
    }
    list->tail = manager;
    list->count++;
    manager->idle_list = list;
}
