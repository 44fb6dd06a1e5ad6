/* LD_PRELOAD: one system call of the core fails or falls short, as told.
 *
 * Calls that come from a library whose name holds "_wsmanager" are counted,
 * by name; of the armed one the at-th from then on (0: every one) fails with
 * an errno, or is given only so many bytes, which do go. All other callers,
 * asyncio's own sockets among them, are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

static struct {
    char name[32];
    int error;
    long limit; /* bytes, or -1: fail with error */
    int at;
    int seen;
    int hits;
    long calls; /* of ours, of any name */
} fault = {.limit = -1};

/* Arm; an empty name disarms. */
void
faultio_arm(const char *name, int error, long limit, int at)
{
    strncpy(fault.name, name, sizeof(fault.name) - 1);
    fault.error = error;
    fault.limit = limit;
    fault.at = at;
    fault.seen = 0;
    fault.hits = 0;
}

/* How often the armed call was made to fail or fall short. */
int
faultio_hits(void)
{
    return fault.hits;
}

/* How many sends of the core there were since the start. */
long
faultio_sends(void)
{
    return fault.calls;
}

static int
is_ours(const void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname != NULL &&
           strstr(info.dli_fname, "_wsmanager") != NULL;
}

static int
is_due(const char *name, const void *caller)
{
    if (!is_ours(caller)) {
        return 0;
    }
    if (name[0] == 's' && name[1] == 'e' && name[2] == 'n') {
        fault.calls++;
    }
    if (strcmp(fault.name, name) != 0) {
        return 0;
    }
    fault.seen++;
    if (fault.at != 0 && fault.at != fault.seen) {
        return 0;
    }
    fault.hits++;
    errno = fault.error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALLER __builtin_return_address(0)

ssize_t
send(int fd, const void *data, size_t size, int flags)
{
    if (is_due("send", CALLER)) {
        if (fault.limit < 0) {
            return -1;
        }
        size = size < (size_t)fault.limit ? size : (size_t)fault.limit;
        return size == 0 ? 0 : REAL(send)(fd, data, size, flags);
    }
    return REAL(send)(fd, data, size, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!is_due("sendmsg", CALLER)) {
        return REAL(sendmsg)(fd, message, flags);
    }
    if (fault.limit < 0) {
        return -1;
    }
    struct iovec iov[64];
    struct msghdr cut = *message;
    size_t left = (size_t)fault.limit, n = 0;
    for (; n < message->msg_iovlen && n < 64 && left > 0; n++) {
        iov[n] = message->msg_iov[n];
        if (iov[n].iov_len > left) {
            iov[n].iov_len = left;
        }
        left -= iov[n].iov_len;
    }
    cut.msg_iov = iov;
    cut.msg_iovlen = n;
    return n == 0 ? 0 : REAL(sendmsg)(fd, &cut, flags);
}

int
getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    return is_due("getsockopt", CALLER)
               ? -1
               : REAL(getsockopt)(fd, level, name, value, size);
}

int
setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    return is_due("setsockopt", CALLER)
               ? -1
               : REAL(setsockopt)(fd, level, name, value, size);
}

int
getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    return is_due("getsockname", CALLER)
               ? -1
               : REAL(getsockname)(fd, address, size);
}

int
ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return is_due("ioctl", CALLER) ? -1 : REAL(ioctl)(fd, request, argument);
}
