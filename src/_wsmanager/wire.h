/* The system calls on a connection's socket. */
#ifndef WSM_WIRE_H
#define WSM_WIRE_H

#include "event.h"

/* Write the frames of n events (borrowed) as one call; bytes taken, or
 * -errno. Touches no Python object's reference count: the GIL may be
 * released. */
Py_ssize_t wsm_wire_send(int fd, PyObject *const *events, uint32_t n);

/* Write the byte that lets the other end's select() return. True if it can
 * be read there, or others can. */
bool wsm_wire_wake(int fd);

/* Bytes that the kernel holds and the peer's has not acknowledged; 0 where
 * that cannot be known. */
size_t wsm_wire_unsent(int fd);

/* How many bytes the peer's kernel has acknowledged in all, whoever wrote
 * them; false where that cannot be known. */
bool wsm_wire_acknowledged(int fd, uint64_t *bytes);

/* TCP_USER_TIMEOUT, where there is one; 0 seconds: the kernel's own. */
void wsm_wire_user_timeout(int fd, double seconds);

/* True of a connected TCP or Unix stream. */
bool wsm_wire_is_stream(int fd);

#ifdef WSM_PLANT_COOKIE
uint64_t wsm_wire_cookie(int fd);
#endif

#endif
