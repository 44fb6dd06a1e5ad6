/* What one module object owns: types, names, exceptions, hooks, settings,
 * and the registry. There is no other mutable state anywhere. */
#ifndef WSM_STATE_H
#define WSM_STATE_H

#include "lock.h"
#include "python.h"

/* Interned names: WSM_NAME(identifier) for those spelled as they are. */
#define WSM_NAMES(X)                                                       \
    X(user_id) X(user_context) X(websocket) X(connection_id)               \
    X(thread_id) X(run_id) X(metadata) X(data) X(type) X(payload) X(id)    \
    X(timestamp) X(agent_name) X(tool_name) X(send_text) X(send_str)       \
    X(send) X(send_json) X(get_extra_info) X(is_closing)                   \
    X(get_write_buffer_size) X(fileno) X(write) X(abort) X(call_soon)      \
    X(call_soon_threadsafe) X(get_debug) X(call_later) X(cancel) X(create_task) \
    X(create_future) X(is_closed) X(done) X(set_result)                    \
    X(add_done_callback) X(context) X(value) X(socket) X(ssl_object)       \
    X(sslcontext) X(__await__) X(throw) X(close) X(__dict__)               \
    X(__dataclass_fields__) X(__module__) X(__name__) X(__str__)           \
    X(client_state) X(application_state) X(closed) X(name) X(ack)          \
    X(_connections) X(error_message) X(get_loop) X(_closing) X(_buffer)    \
    X(_sock) X(close_code) X(exception)

typedef struct WsmNames {
#define WSM_NAME_FIELD(name) PyObject *name;
    WSM_NAMES(WSM_NAME_FIELD)
#undef WSM_NAME_FIELD
} WsmNames;

#define WSM_ERRORS(X)                                                     \
    X(WebSocketManagerError) X(InvalidUserContext) X(UserIsolationError)  \
    X(ConnectionLimitError) X(UserLimitError) X(ConnectionNotFound)       \
    X(EncodeError) X(EventTooLarge) X(ResumeError) X(BackplaneError)      \
    X(ServerDraining)

#define WSM_TYPES(X)                                                      \
    X(Receipt) X(Delivery) X(Answer) X(ConnectionId) X(ManagerAcquire)    \
    X(Connection) X(Channel) X(Event) X(Mailbox) X(Driver) X(Manager)     \
    X(AwaitableManager) X(Turns) X(Parting)

/* Given once by the Python package; see _install() in module.c. */
#define WSM_HOOKS(X)                                                      \
    X(encode) X(encode_any) X(decode) X(resolve) X(close) X(as_mapping)   \
    X(report) X(record_type) X(mode) X(trace)                             \
    X(pump_send_text) X(pump_send_str) X(pump_send) X(waker)

typedef enum {
    WSM_ENVELOPE_PAYLOAD,
    WSM_ENVELOPE_MIXED,
    WSM_ENVELOPE_DATA,
    WSM_ENVELOPE_FLAT,
    WSM_ENVELOPE_CALLABLE,
} WsmEnvelope;

typedef enum {
    WSM_SLOW_CLOSE,
    WSM_SLOW_DROP_OLDEST,
    WSM_SLOW_DROP_NEWEST,
    WSM_SLOW_COALESCE,
} WsmSlowPolicy;

typedef struct {
    WSM_SHARED(Py_ssize_t) max_event_bytes;
    WSM_SHARED(Py_ssize_t) max_users;
    WSM_SHARED(Py_ssize_t) max_connections_per_user;
    WSM_SHARED(Py_ssize_t) max_idle_users;
    WSM_SHARED(Py_ssize_t) outbox_max_events;
    WSM_SHARED(Py_ssize_t) outbox_max_bytes;
    WSM_SHARED(Py_ssize_t) error_limit;
    WSM_SHARED(Py_ssize_t) journal_max_events; /* 0: no journal */
    WSM_SHARED(Py_ssize_t) journal_max_bytes; /* of one user */
    WSM_SHARED(Py_ssize_t) journal_budget; /* bytes of all users */
    WSM_SHARED(double) journal_max_age; /* seconds */
    WSM_SHARED(double) idempotency_window; /* seconds */
    WSM_SHARED(double)
    stray_interval; /* seconds; 0: no look at idle connections */
    WSM_SHARED(double) outbox_max_age; /* seconds */
    WSM_SHARED(double) idle_ttl; /* seconds */
    WSM_SHARED(double) tcp_user_timeout; /* seconds; 0: the kernel's own */
    WSM_SHARED(WsmEnvelope) envelope;
    WSM_SHARED(WsmSlowPolicy) slow_policy;
    WSM_SHARED(bool) tolerate_await;
    PyObject *envelope_callable; /* owned or NULL; guarded by the lock */
    PyObject *coalesce_key; /* owned or NULL; guarded by the lock */
    PyObject *availability_check; /* owned or NULL; guarded by the lock */
} WsmSettings;

struct WsmRegistry;
struct WsmStripe;

typedef struct WsmState {
    WsmNames names; /* owned */
    struct {
#define WSM_ERROR_FIELD(name) PyObject *name;
        WSM_ERRORS(WSM_ERROR_FIELD)
#undef WSM_ERROR_FIELD
    } errors; /* owned */
    struct {
#define WSM_TYPE_FIELD(name) PyTypeObject *name;
        WSM_TYPES(WSM_TYPE_FIELD)
#undef WSM_TYPE_FIELD
    } types; /* owned */
    struct {
#define WSM_HOOK_FIELD(name) PyObject *name;
        WSM_HOOKS(WSM_HOOK_FIELD)
#undef WSM_HOOK_FIELD
    } hooks; /* owned, NULL until _install() */
    struct {
        PyObject *get_running_loop; /* asyncio's, None outside a loop */
        PyObject *swap_current_task; /* 3.12 on, else NULL */
        PyObject *current_tasks; /* before 3.12, else NULL */
        PyObject *shield;
        PyObject *cancelled_error;
    } asyncio; /* owned */
    PyObject *settle_future; /* owned: set a future's result if pending */
    PyObject *spawn; /* owned: run a coroutine as a task of this loop */
    PyObject *check_done; /* owned: forget a finished availability check */
    PyObject *checks; /* owned dict: address of a loop to its check's task */
    PyObject *spawned; /* owned set: tasks of ours that still run */
    PyObject *context_names; /* owned: ("context",), for call_soon() */
    PyObject *checking; /* owned contextvar: True within a check */
    PyObject *stop; /* owned or NULL: a StopIteration to use again */
    PyObject *spare_acquire; /* memory of one, or NULL */
    WsmLock lock; /* guards changes of settings, and their objects */
    WsmSettings settings;
    struct WsmStripe *counters; /* owned, raw: WSM_STRIPES of them */
    struct WsmRegistry *registry; /* owned */
    /* Set by the layers above at exec: nouns call up only through these.
     * on_turn: a loop reached a mailbox's callback. on_tick: its timer.
     * on_look: it is time to look at idle connections.
     * on_lost: a channel learned that its connection is over. */
    int (*on_turn)(PyObject *mailbox);
    int (*on_tick)(PyObject *mailbox);
    int (*on_look)(PyObject *mailbox);
    void (*on_lost)(PyObject *connection, const char *reason);
    void (*on_resume)(PyObject *connection);
    void (*on_flush)(PyObject *connection, bool whole);
    uint64_t fork_generation; /* how many forks away from the first process */
    WSM_SHARED(uint64_t) next_connection; /* for generated connection ids */
    WSM_SHARED(uint64_t) next_generation; /* of connections */
    WSM_SHARED(uint64_t) epoch_seed[2];
    WSM_SHARED(bool) draining; /* no connection is taken in any more */
} WsmState;

/* The state of a module object, borrowed; never NULL after exec. */
WsmState *wsm_state_of(PyObject *module);

/* Fill names, exceptions, asyncio's functions and default settings, and add
 * the exceptions to the module. -1 with an exception on failure. */
int wsm_state_init(WsmState *state, PyObject *module);

/* What epochs and ids are made of, by chance, anew: for each process. */
int wsm_state_seed(WsmState *state);

int wsm_state_traverse(WsmState *state, visitproc visit, void *arg);
void wsm_state_clear(WsmState *state);

/* Tell the Python package of something worth a log record. Never fails: an
 * error of the hook itself is written as unraisable. May run Python. */
void wsm_report(WsmState *state, const char *kind, const char *reason,
                PyObject *fields);

/* A class of a module that somebody has imported already, a new reference;
 * NULL if there is none, or with an exception. */
PyTypeObject *wsm_loaded_type(const char *module, const char *name);

/* Nanoseconds of a clock that never goes back. */
int64_t wsm_now_ns(void);

/* asyncio's running loop of this thread: 1 and *loop borrowed (the thread
 * itself keeps it), 0 if none runs here, -1 with an exception. */
int wsm_running_loop(WsmState *state, PyObject **loop);

#endif
