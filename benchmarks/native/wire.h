/* What client.c and reference.c share: the order a client sends through the
 * go pipe, and reads and writes that do not stop halfway. */

#ifndef WSM_BENCH_WIRE_H
#define WSM_BENCH_WIRE_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One order to a server: emit `burst` events of about `size` bytes of JSON
 * in one turn of its loop. benchmarks/peers/stage.py reads the same. */
struct order {
    uint32_t burst;
    uint32_t size;
};

static inline void
fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline void *
allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        fail("calloc");
    }
    return memory;
}

static inline void
write_all(int fd, const void *data, size_t size)
{
    const char *at = data;

    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            fail("write");
        }
        at += n;
        size -= (size_t)n;
    }
}

/* 1 when all of it was read, 0 at the end of the stream. */
static inline int
read_all(int fd, void *data, size_t size)
{
    char *at = data;

    while (size > 0) {
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            fail("read");
        }
        if (n == 0) {
            return 0;
        }
        at += n;
        size -= (size_t)n;
    }
    return 1;
}

#endif
