/* Invariant: at most one look is due on a loop, and one is while the loop has
 * connections. */
#include "stray.h"

#include "compat.h"
#include "counters.h"
#include "evict.h"
#include "registry.h"
#include "verdict.h"

/* So many are looked at in one turn of the loop, then others have theirs. */
#define WSM_STRAY_SLICE 256
#define WSM_STRAY_PAUSE 20000000 /* ns between two slices */

typedef struct {
    WsmConnection *items[WSM_STRAY_SLICE]; /* owned */
    int count;
} WsmSlice;

/* The loop's own among the next sockets of the table. False: the table is
 * at its end, and the next look begins anew. */
static bool
stray_slice(WsmMailbox *mailbox, WsmSlice *slice)
{
    PyObject *sockets = mailbox->state->registry->sockets;
    PyObject *key, *value;
    bool more = true;

    slice->count = 0;
    Py_BEGIN_CRITICAL_SECTION(sockets);
    for (int i = 0; more && i < WSM_STRAY_SLICE; i++) {
        more = PyDict_Next(sockets, &mailbox->stray_at, &key, &value);
        if (more && ((WsmConnection *)value)->mailbox == mailbox) {
            slice->items[slice->count++] = (WsmConnection *)Py_NewRef(value);
        }
    }
    Py_END_CRITICAL_SECTION();
    if (!more) {
        mailbox->stray_at = 0;
    }
    return more;
}

static bool
stray_is_gone(WsmConnection *connection)
{
    if (connection->channel != NULL) {
        return wsm_channel_check(connection->channel) == WSM_WAY_GONE;
    }
    return wsm_websocket_says_closed(connection->state, connection->websocket);
}

static int64_t
stray_interval(const WsmMailbox *mailbox)
{
    return (int64_t)(mailbox->state->settings.stray_interval * 1e9);
}

/* Claim the right to schedule the one look that may be due. */
static bool
stray_claim(WsmMailbox *mailbox)
{
    wsm_lock(&mailbox->lock);
    bool claimed = !mailbox->stray_due && mailbox->connections > 0 &&
                   stray_interval(mailbox) > 0;
    mailbox->stray_due = mailbox->stray_due || claimed;
    wsm_unlock(&mailbox->lock);
    return claimed;
}

static void
stray_unclaim(WsmMailbox *mailbox)
{
    wsm_lock(&mailbox->lock);
    mailbox->stray_due = false;
    wsm_unlock(&mailbox->lock);
}

int
wsm_stray_watch(WsmMailbox *mailbox)
{
    PyObject *loop;

    if (!stray_claim(mailbox)) {
        return 0;
    }
    int due = wsm_stray_prune(mailbox->state);
    if (due == 0) {
        due = wsm_running_loop(mailbox->state, &loop);
    }
    if (due >= 0) {
        due = wsm_mailbox_look_later(mailbox, stray_interval(mailbox),
                                     due > 0 && loop == mailbox->loop);
    }
    if (due <= 0) {
        stray_unclaim(mailbox);
    }
    return due < 0 ? -1 : 0;
}

int
wsm_stray_prune(WsmState *state)
{
    PyObject *mailboxes = PyDict_Values(state->registry->mailboxes);
    int result = mailboxes == NULL ? -1 : 0;

    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(mailboxes);
         i++) {
        WsmMailbox *mailbox = (WsmMailbox *)PyList_GET_ITEM(mailboxes, i);
        PyObject *closed =
            PyObject_CallMethodNoArgs(mailbox->loop, state->names.is_closed);
        if (closed == NULL) {
            result = -1;
        }
        else if (closed == Py_True) {
            stray_unclaim(mailbox);
            wsm_registry_rest(state->registry, mailbox);
        }
        Py_XDECREF(closed);
    }
    Py_XDECREF(mailboxes);
    return result;
}

/* The next look, or the end of looking. */
static void
stray_again(WsmMailbox *mailbox, bool more)
{
    stray_unclaim(mailbox);
    if (!stray_claim(mailbox)) {
        wsm_registry_rest(mailbox->state->registry, mailbox);
        return;
    }
    int64_t pause = more ? WSM_STRAY_PAUSE : stray_interval(mailbox);
    if (wsm_mailbox_look_later(mailbox, pause, true) < 0) {
        stray_unclaim(mailbox);
        wsm_unraisable((PyObject *)mailbox);
    }
}

int
wsm_stray_look(PyObject *op)
{
    WsmMailbox *mailbox = (WsmMailbox *)op;
    WsmSlice slice;

    Py_INCREF(op);
    bool more = stray_slice(mailbox, &slice);
    for (int i = 0; i < slice.count; i++) {
        if (slice.items[i]->open && stray_is_gone(slice.items[i]) &&
            wsm_evict(slice.items[i], "stray")) {
            wsm_add(&wsm_totals(mailbox->state)->stray, 1);
        }
        Py_DECREF(slice.items[i]);
    }
    stray_again(mailbox, more);
    Py_DECREF(op);
    return 0;
}
