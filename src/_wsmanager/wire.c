/* Invariant: nothing here knows a Python object's reference count. */
#include "wire.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __linux__
#include <linux/sockios.h>
#endif

#define WSM_IOV_MAX 64

/* struct tcp_info of <linux/tcp.h>, whose members never move and which grows
 * at its end: libraries' and older kernels' headers lack tcpi_bytes_acked. */
#define WSM_TCP_INFO_WORDS 32
#define WSM_BYTES_ACKED_WORD 15

#ifdef WSM_PLANT_COOKIE
/* A tripwire for tests, no guard: the kernel's own name of a socket, which
 * is never used again (SO_COOKIE), compared just before a write. */
uint64_t
wsm_wire_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof(cookie);
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) {
        Py_FatalError("wsmanager: no SO_COOKIE");
    }
    return cookie;
}
#endif

static Py_ssize_t
wire_sendmsg(int fd, struct iovec *iov, size_t n)
{
    struct msghdr message;
    ssize_t taken;

    memset(&message, 0, sizeof(message));
    message.msg_iov = iov;
    message.msg_iovlen = n;
    do {
        taken = n == 1 ? send(fd, iov->iov_base, iov->iov_len,
                              MSG_DONTWAIT | MSG_NOSIGNAL)
                       : sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (taken < 0 && errno == EINTR);
    return taken < 0 ? -(Py_ssize_t)errno : taken;
}

Py_ssize_t
wsm_wire_send(int fd, PyObject *const *events, uint32_t n)
{
    struct iovec iov[WSM_IOV_MAX];
    Py_ssize_t total = 0;
    uint32_t at = 0;

    while (at < n) {
        size_t count = 0, wanted = 0;
        for (; at < n && count < WSM_IOV_MAX; at++, count++) {
            size_t size;
            const unsigned char *data =
                wsm_event_frame((const WsmEvent *)events[at], &size);
            iov[count].iov_base = (void *)data;
            iov[count].iov_len = size;
            wanted += size;
        }
        Py_ssize_t taken = wire_sendmsg(fd, iov, count);
        if (taken < 0) {
            return total > 0 ? total : taken;
        }
        total += taken;
        if ((size_t)taken < wanted) {
            break;
        }
    }
    return total;
}

bool
wsm_wire_wake(int fd)
{
    ssize_t taken;
    do {
        taken = send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (taken < 0 && errno == EINTR);
    return taken == 1 || errno == EAGAIN || errno == EWOULDBLOCK;
}

size_t
wsm_wire_unsent(int fd)
{
#ifdef SIOCOUTQ
    int unsent = 0;
    if (ioctl(fd, SIOCOUTQ, &unsent) == 0 && unsent > 0) {
        return (size_t)unsent;
    }
#endif
    return 0;
}

bool
wsm_wire_acknowledged(int fd, uint64_t *bytes)
{
#if defined(__linux__) && defined(TCP_INFO)
    uint64_t info[WSM_TCP_INFO_WORDS];
    socklen_t size = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0 &&
        size >= (WSM_BYTES_ACKED_WORD + 1) * sizeof(info[0])) {
        *bytes = info[WSM_BYTES_ACKED_WORD];
        return true;
    }
#else
    (void)fd;
    (void)bytes;
#endif
    return false;
}

void
wsm_wire_user_timeout(int fd, double seconds)
{
#ifdef TCP_USER_TIMEOUT
    unsigned int ms = (unsigned int)(seconds * 1000.0);
    if (ms > 0) {
        /* Fails on a Unix socket, where no peer can vanish silently. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
    }
#endif
}

bool
wsm_wire_is_stream(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    int type = 0;
    socklen_t type_size = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        return false;
    }
    return type == SOCK_STREAM &&
           (address.ss_family == AF_INET || address.ss_family == AF_INET6 ||
            address.ss_family == AF_UNIX);
}
