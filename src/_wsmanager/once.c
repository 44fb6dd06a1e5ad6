/* Invariant: the keys of a manager are in the order in which they were
 * claimed, so the first is the oldest. */
#include "once.h"

#include "compat.h"

/* So many keys of a user are remembered at most. */
#define WSM_ONCE_KEYS 1024

/* The dict of keys, made when first needed; a new reference. */
static PyObject *
once_keys(WsmManager *manager)
{
    int64_t now = wsm_now_ns();
    wsm_lock(&manager->lock);
    manager->once_at = now; /* before what is claimed can be taken for old */
    PyObject *keys = Py_XNewRef(manager->once);
    wsm_unlock(&manager->lock);
    if (keys != NULL) {
        return keys;
    }
    PyObject *made = PyDict_New();
    if (made == NULL) {
        return NULL;
    }
    wsm_lock(&manager->lock);
    if (manager->once == NULL) {
        manager->once = made;
        made = NULL;
    }
    keys = Py_NewRef(manager->once);
    wsm_unlock(&manager->lock);
    Py_XDECREF(made);
    return keys;
}

static bool
once_is_over(const WsmManager *manager, PyObject *keys, const WsmEvent *event,
             int64_t oldest)
{
    const WsmSettings *settings = &manager->state->settings;
    if (event->emitted_at == 0) {
        return false; /* on its way in another thread */
    }
    return event->emitted_at < oldest ||
           PyDict_GET_SIZE(keys) >= WSM_ONCE_KEYS ||
           manager->once_bytes > (size_t)settings->journal_max_bytes;
}

/* The key of the oldest claim if that is over, a new reference. */
static PyObject *
once_oldest(const WsmManager *manager, PyObject *keys, int64_t oldest)
{
    PyObject *key = NULL, *found = NULL, *delivery;
    Py_ssize_t at = 0;

    Py_BEGIN_CRITICAL_SECTION(keys);
    if (PyDict_Next(keys, &at, &key, &delivery) &&
        once_is_over(manager, keys, ((WsmDelivery *)delivery)->event,
                     oldest)) {
        found = Py_NewRef(key);
    }
    Py_END_CRITICAL_SECTION();
    return found;
}

/* If the manager has let go of these keys meanwhile, it counts them no more. */
static void
once_count(WsmManager *manager, const PyObject *keys,
           const WsmDelivery *delivery, bool more)
{
    size_t size = wsm_event_memory(delivery->event);
    wsm_lock(&manager->lock);
    if (manager->once == keys) {
        manager->once_bytes += more ? size : -size;
    }
    wsm_unlock(&manager->lock);
}

static int
once_drop(WsmManager *manager, PyObject *keys, PyObject *key)
{
    PyObject *delivery = NULL;
    int popped = PyDict_Pop(keys, key, &delivery);
    if (delivery != NULL) {
        once_count(manager, keys, (WsmDelivery *)delivery, false);
        Py_DECREF(delivery);
    }
    return popped < 0 ? -1 : 0;
}

static int
once_prune(WsmManager *manager, PyObject *keys)
{
    double window = manager->state->settings.idempotency_window;
    int64_t oldest = wsm_now_ns() - (int64_t)(window * 1e9);
    PyObject *key;
    int result = 0;

    while (result == 0 && (key = once_oldest(manager, keys, oldest)) != NULL) {
        result = once_drop(manager, keys, key);
        Py_DECREF(key);
    }
    return result;
}

WsmDelivery *
wsm_once_claim(WsmManager *manager, PyObject *key, WsmDelivery *own)
{
    PyObject *winner = NULL;
    PyObject *keys = once_keys(manager);

    if (keys == NULL) {
        return NULL;
    }
    if (once_prune(manager, keys) < 0 ||
        wsm_dict_claim(keys, key, (PyObject *)own, &winner) < 0) {
        winner = NULL;
    }
    else if (winner == (PyObject *)own) {
        once_count(manager, keys, own, true);
    }
    Py_DECREF(keys);
    return (WsmDelivery *)winner;
}

void
wsm_once_release(WsmManager *manager, PyObject *key)
{
    PyObject *saved = wsm_error_take();
    PyObject *keys = once_keys(manager);
    if (keys == NULL || once_drop(manager, keys, key) < 0) {
        wsm_unraisable((PyObject *)manager);
    }
    Py_XDECREF(keys);
    wsm_error_restore(saved);
}
