/* Invariant: the stripes' bytes are the sum of what managers in the table have
 * told, and who has told of some is in the list, or about to be put there by
 * the thread that told. */
#include "kept.h"

/* A place in the list is good for so long. */
#define WSM_KEPT_PLACE 1000000000 /* ns */
/* So many of the oldest are looked at for one event. */
#define WSM_KEPT_LOOKS 2
/* Where threads run at once each looks once in so many events, or sooner if
 * it has told of so large a part of the budget: that times the stripes is how
 * far the budget may be passed. With the GIL, each event. */
#define WSM_KEPT_TURNS (WSM_STRIPES > 1 ? 32 : 1)
#define WSM_KEPT_PART (32 * WSM_STRIPES)

static void
kept_add(WsmKept *self, size_t before, size_t now)
{
    wsm_add(&self->stripes[wsm_stripe()].bytes, (uint64_t)now - before);
}

size_t
wsm_kept_bytes(const WsmKept *self)
{
    uint64_t sum = 0;
    for (int i = 0; i < WSM_STRIPES; i++) {
        sum += wsm_read(&self->stripes[i].bytes);
    }
    return (int64_t)sum < 0 ? 0 : (size_t)sum;
}

/* -- the list, under the lock -------------------------------------------- */

void
wsm_kept_enter(WsmManager *manager)
{
    size_t out = WSM_KEPT_OUT;
    (void)wsm_shared_change(&manager->kept_bytes, &out, 0);
}

void
wsm_kept_leave(WsmKept *self, WsmManager *manager)
{
    size_t before = manager->kept_bytes;

    wsm_chain_unlink(&manager->kept);
    while (!wsm_shared_change(&manager->kept_bytes, &before, WSM_KEPT_OUT)) {
    }
    if (before != WSM_KEPT_OUT) {
        kept_add(self, before, 0);
    }
}

/* Where it belongs by what it has told. */
static void
kept_place(WsmKept *self, WsmManager *manager, int64_t now)
{
    size_t bytes = manager->kept_bytes;

    if (bytes == 0 || bytes == WSM_KEPT_OUT) {
        wsm_chain_unlink(&manager->kept);
    }
    else if (manager->kept.chain == NULL ||
             now - manager->kept_at >= WSM_KEPT_PLACE) {
        wsm_chain_append(&self->managers, &manager->kept);
        manager->kept_at = now;
    }
}

/* The first of the list, a new reference, if it is time to let go of what it
 * keeps: all of it, or what is too old. */
static WsmManager *
kept_due(WsmKept *self, const WsmSettings *settings, int64_t now, bool *all)
{
    WsmManager *first = WSM_LINKED(self->managers.head, WsmManager, kept);
    int64_t age = (int64_t)(settings->journal_max_age * 1e9);

    *all = wsm_kept_bytes(self) > (size_t)settings->journal_budget;
#ifdef WSM_PLANT_NO_LIMIT
    *all = false;
#endif
    if (first == NULL ||
        !(*all || now - first->kept_at > age + WSM_KEPT_PLACE)) {
        return NULL;
    }
    return (WsmManager *)Py_NewRef((PyObject *)first);
}

/* -- what is told -------------------------------------------------------- */

/* Count what it keeps now. True if its place in the list may be another for
 * that. */
static bool
kept_tell(WsmKept *self, WsmManager *manager, int64_t now, size_t *more)
{
    size_t before, bytes = wsm_manager_tell(manager, &before);

    if (bytes == WSM_KEPT_OUT) {
        return false;
    }
    kept_add(self, before, bytes);
    *more = bytes > before ? bytes - before : 0;
    return (bytes == 0) != (before == 0) ||
           (bytes != 0 && now - manager->kept_at >= WSM_KEPT_PLACE);
}

/* Whether it is this thread's turn to look at the account. */
static bool
kept_turn(WsmKept *self, const WsmSettings *settings, size_t more)
{
    WsmKeptStripe *stripe = &self->stripes[wsm_stripe()];

    if (WSM_KEPT_TURNS == 1) {
        return true;
    }
    wsm_add(&stripe->grown, more);
    wsm_add(&stripe->turns, 1);
    if (wsm_read(&stripe->turns) % WSM_KEPT_TURNS != 0 &&
        wsm_read(&stripe->grown) * WSM_KEPT_PART <
            (uint64_t)settings->journal_budget) {
        return false;
    }
    wsm_clear(&stripe->grown);
    return true;
}

void
wsm_kept_count(WsmKept *self, WsmManager *manager, int64_t now)
{
    const WsmSettings *settings = &manager->state->settings;
    size_t more = 0;
    int looks = 0;
    bool moves = kept_tell(self, manager, now, &more);

    if (!kept_turn(self, settings, more) && !moves) {
        return;
    }
    WsmManager *due = (WsmManager *)Py_NewRef((PyObject *)manager);
    while (due != NULL) {
        bool all;
        wsm_lock(self->lock);
        kept_place(self, due, now);
        WsmManager *next = kept_due(self, settings, now, &all);
        wsm_unlock(self->lock);
        Py_DECREF(due);
        due = next;
        if (due != NULL && !all && ++looks > WSM_KEPT_LOOKS * WSM_KEPT_TURNS) {
            Py_CLEAR(due);
        }
        if (due != NULL) {
            wsm_manager_expire(due, all);
            (void)kept_tell(self, due, now, &more);
        }
    }
}
