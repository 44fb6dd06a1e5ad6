/* The direct way to a transport: ready-made frames by sendmsg(2), on the
 * thread of the loop that owns it, while nothing of the library's own is on
 * its way. The loop closes the socket on that same thread, so the number
 * cannot be another connection's meanwhile. */
#ifndef WSM_CHANNEL_H
#define WSM_CHANNEL_H

#include "event.h"
#include "lock.h"
#include "state.h"

typedef enum {
    WSM_WAY_DIRECT, /* write now */
    WSM_WAY_WAIT, /* the transport still holds bytes */
    WSM_WAY_LIBRARY, /* not now: the library's own send decides */
    WSM_WAY_GONE, /* closing or closed */
} WsmWay;

typedef struct {
    PyObject_HEAD
    WsmState *state; /* borrowed: our type keeps the module alive */
    PyObject *transport; /* owned */
    PyObject *socket; /* owned: asked for its number before each write */
    PyObject *ready; /* owned or NULL */
    WsmLock lock;
    PyObject *connection; /* owned while it is registered, guarded by lock */
    uint64_t written; /* bytes given to the kernel by us */
    uint64_t acknowledged; /* bytes, as seen at the last look */
    int64_t stuck_since; /* ns; 0: the peer takes what is sent */
    int fd;
    WSM_SHARED(uint32_t) code; /* that it closed with; 0: not known */
    bool open;
    bool closed;
    bool known; /* asyncio's own transport: read, where that says enough */
#ifdef WSM_PLANT_COOKIE
    uint64_t cookie;
#endif
} WsmChannel;

/* Tell it its connection: false if it serves another one already. */
bool wsm_channel_bind(WsmChannel *channel, PyObject *connection);
void wsm_channel_unbind(WsmChannel *channel);

/* Its connection, a new reference; NULL without an exception. */
PyObject *wsm_channel_connection(WsmChannel *channel);

/* May the next frame go the direct way? Runs the transport's methods. */
WsmWay wsm_channel_check(WsmChannel *channel);

#ifdef WSM_PLANT_COOKIE
/* End the process if its number is another socket's by now. */
void wsm_channel_tripwire(const WsmChannel *channel);
#endif

/* Give the transport bytes that must follow what was written. 0 or -1. */
int wsm_channel_handover(WsmChannel *channel, const unsigned char *data,
                         size_t size);

/* Bytes the transport still holds; -1 with an exception. */
Py_ssize_t wsm_channel_buffered(WsmChannel *channel);

/* Bytes in the kernel's send queue (SIOCOUTQ), 0 where unknown. */
size_t wsm_channel_unsent(const WsmChannel *channel);

/* A number that grows whenever the peer takes bytes, ours or others', of
 * which so many are unsent. */
uint64_t wsm_channel_acknowledged(const WsmChannel *channel, size_t unsent);

/* TCP_USER_TIMEOUT (RFC 5482), seconds; ignored where there is none. */
void wsm_channel_user_timeout(WsmChannel *channel, double seconds);

/* Drop the connection at once, as the transport's abort() does. */
void wsm_channel_abort(WsmChannel *channel);

extern PyType_Spec wsm_channel_spec;

#endif
