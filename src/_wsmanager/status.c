/* Counts of the whole registry; nothing here changes it, but for managers
 * whose time is over. */
#include "status.h"

#include "counters.h"
#include "registry.h"
#include "stray.h"

static PyObject *
status_totals(WsmState *state)
{
    WsmRegistry *registry = state->registry;

    wsm_registry_sweep(registry, 16);
    if (wsm_stray_prune(state) < 0) {
        return NULL;
    }
    const WsmTotals sum = wsm_totals_sum(state), *totals = &sum;
    return Py_BuildValue(
        "{s:n,s:n,s:n,s:O,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K}",
        "total_registered_managers",
        wsm_registry_users(registry) + (registry->none != NULL),
        "total_connections", PyDict_GET_SIZE(registry->sockets), "total_loops",
        PyDict_GET_SIZE(registry->mailboxes), "has_system_manager",
        registry->none != NULL ? Py_True : Py_False, "events_emitted",
        (unsigned long long)totals->emitted, "deliveries_sent",
        (unsigned long long)totals->sent, "deliveries_dropped",
        (unsigned long long)totals->dropped, "deliveries_failed",
        (unsigned long long)totals->failed, "deliveries_direct",
        (unsigned long long)totals->direct, "deliveries_generic",
        (unsigned long long)totals->generic, "wakeups",
        (unsigned long long)totals->wakeups, "connections_opened",
        (unsigned long long)totals->opened, "connections_closed",
        (unsigned long long)totals->closed, "slow_consumers",
        (unsigned long long)totals->slow, "tolerated_awaits",
        (unsigned long long)totals->tolerated);
}

/* What is kept for clients that come back, and what became of them. */
static PyObject *
status_kept(WsmState *state)
{
    const WsmTotals sum = wsm_totals_sum(state), *totals = &sum;
    WsmRegistry *registry = state->registry;

    wsm_lock(&registry->lock);
    Py_ssize_t users = registry->kept.managers.count;
    wsm_unlock(&registry->lock);
    Py_ssize_t bytes = (Py_ssize_t)wsm_kept_bytes(&registry->kept);
    return Py_BuildValue(
        "{s:n,s:n,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:O}", "journal_users", users,
        "journal_bytes", bytes, "events_stored",
        (unsigned long long)totals->stored, "resumed",
        (unsigned long long)totals->resumed, "not_resumed",
        (unsigned long long)totals->not_resumed, "events_replayed",
        (unsigned long long)totals->replayed, "events_acknowledged",
        (unsigned long long)totals->acked, "repeated_emits",
        (unsigned long long)totals->repeated, "stray_connections",
        (unsigned long long)totals->stray, "draining",
        state->draining ? Py_True : Py_False);
}

PyObject *
wsm_status(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    PyObject *status = status_totals(wsm_state_of(module));
    PyObject *kept = status_kept(wsm_state_of(module));

    if (status == NULL || kept == NULL || PyDict_Update(status, kept) < 0) {
        Py_CLEAR(status);
    }
    Py_XDECREF(kept);
    return status;
}

PyObject *
wsm_status_connections(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyDict_Values(wsm_state_of(module)->registry->sockets);
}
