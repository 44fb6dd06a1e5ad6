/* The benchmark's client: many WebSocket connections, one epoll, every frame
 * of every connection counted and its sequence number checked.
 *
 *     client PORT CONNECTIONS PATH GO_FD HELLO NAP
 *
 * It connects, says "connected" on standard output, and then obeys lines on
 * standard input:
 *
 *     run EVENTS BURST SIZE
 *
 * EVENTS times it writes an order to GO_FD and waits until each connection
 * has received BURST frames whose ids follow the last one's ("id":"epoch:n",
 * n + 1 each time). It answers
 *
 *     done EVENTS FRAMES BYTES ERRORS STRAY NANOSECONDS
 *
 * or "timeout GOT WANTED" and exits. HELLO, when not "-", is sent as a text
 * frame on each new connection (python-socketio wants "40"), and a connection
 * counts as open when a text frame that begins with HELLO has come back. NAP,
 * when not 0, is how many microseconds the client sleeps between two looks at
 * its sockets, in place of waiting in epoll: then no send pays for waking it,
 * which is dear on one machine and which a remote client never costs. */

#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum {
    BUFFER = 1 << 20,
    HANDSHAKES_AT_ONCE = 32,
    PATIENCE_MS = 30000,
    EPOLL_EVENTS = 256,
};

struct connection {
    int fd;
    int greeted;
    uint64_t sequence; /* of the last frame, 0 before the first */
    char *rest; /* a frame that has not come whole, or NULL */
    size_t rest_size;
};

static struct connection *connections;
static int connection_count;
static int poller;
static const char *hello;
static size_t hello_size;
static char buffer[BUFFER];

static unsigned nap_us;

static uint64_t frames, bytes, errors, stray;
static int greeted_count;

static uint64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A masked client frame; the mask is all zero, which masks nothing. */
static void
send_frame(int fd, int opcode, const char *payload, size_t size)
{
    char frame[6 + 125] = {0};

    if (size > 125) {
        return;
    }
    frame[0] = (char)(0x80 | opcode);
    frame[1] = (char)(0x80 | size);
    memcpy(frame + 6, payload, size);
    if (send(fd, frame, 6 + size, MSG_NOSIGNAL) < 0) {
        fail("send");
    }
}

/* The number after the colon inside the first "id" of the text, 0 if none. */
static uint64_t
sequence_of(const char *text, size_t size)
{
    const char *end = text + size;
    const char *at = memmem(text, size < 128 ? size : 128, "\"id\":", 5);

    if (at == NULL) {
        return 0;
    }
    at = memchr(at + 5, ':', (size_t)(end - at - 5));
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

static void
take_text(struct connection *c, const char *payload, size_t size)
{
    uint64_t sequence;

    if (!c->greeted) {
        if (size >= hello_size && memcmp(payload, hello, hello_size) == 0) {
            c->greeted = 1;
            greeted_count++;
        }
        return;
    }
    sequence = sequence_of(payload, size);
    if (sequence == 0) {
        stray++;
        return;
    }
    if (c->sequence != 0 && sequence != c->sequence + 1) {
        errors++;
    }
    c->sequence = sequence;
    frames++;
    bytes += size;
}

static void
take_frame(struct connection *c, int first, const char *payload, size_t size)
{
    switch (first) {
    case 0x81:
        take_text(c, payload, size);
        break;
    case 0x89:
        send_frame(c->fd, 10, payload, size);
        break;
    case 0x88:
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    default:
        errors++;
    }
}

/* Takes every whole frame of data; the number of bytes used. */
static size_t
take_frames(struct connection *c, const char *data, size_t size)
{
    size_t at = 0;

    while (size - at >= 2) {
        const unsigned char *p = (const unsigned char *)data + at;
        size_t left = size - at, head = 2, length = p[1] & 0x7f;

        if (length == 126) {
            if (left < 4) {
                break;
            }
            length = (size_t)p[2] << 8 | p[3];
            head = 4;
        }
        else if (length == 127) {
            if (left < 10) {
                break;
            }
            length = 0;
            for (int i = 2; i < 10; i++) {
                length = length << 8 | p[i];
            }
            head = 10;
        }
        if (left < head + length) {
            break;
        }
        take_frame(c, p[0], data + at + head, length);
        at += head + length;
    }
    return at;
}

static void
keep_rest(struct connection *c, const char *data, size_t size)
{
    char *rest = NULL;

    if (size > 0) {
        rest = allocate(1, size);
        memcpy(rest, data, size);
    }
    free(c->rest);
    c->rest = rest;
    c->rest_size = size;
}

/* Takes `fresh` bytes that were read into the buffer behind the rest. */
static void
take_bytes(struct connection *c, size_t fresh)
{
    size_t size = c->rest_size + fresh;
    size_t used = take_frames(c, buffer, size);

    keep_rest(c, buffer + used, size - used);
}

static void
readable(struct connection *c)
{
    ssize_t n;

    if (c->rest_size > 0) {
        memcpy(buffer, c->rest, c->rest_size);
    }
    n = recv(c->fd, buffer + c->rest_size, BUFFER - c->rest_size,
             MSG_DONTWAIT);
    if (n == 0) {
        fprintf(stderr, "the server hung up\n");
        exit(1);
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return;
        }
        fail("recv");
    }
    take_bytes(c, (size_t)n);
}

static void
poll_once(int timeout_ms)
{
    struct epoll_event events[EPOLL_EVENTS];
    int n = epoll_wait(poller, events, EPOLL_EVENTS, timeout_ms);

    if (n < 0 && errno != EINTR) {
        fail("epoll_wait");
    }
    for (int i = 0; i < n; i++) {
        readable(events[i].data.ptr);
    }
}

/* Polls until *counter reaches the target; false when nothing came for long. */
static int
wait_until(const uint64_t *counter, uint64_t target)
{
    uint64_t last = now_ns(), seen = *counter;

    while (*counter < target) {
        if (nap_us > 0) {
            usleep(nap_us);
        }
        poll_once(nap_us > 0 ? 0 : 1000);
        if (*counter != seen) {
            seen = *counter;
            last = now_ns();
        }
        else if (now_ns() - last > PATIENCE_MS * UINT64_C(1000000)) {
            return 0;
        }
    }
    return 1;
}

static void
open_one(struct connection *c, int port, const char *path)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port)};
    char request[1024];
    int one = 1;
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                        "Sec-WebSocket-Version: 13\r\n\r\n",
                        path, port);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 ||
        connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fail("connect");
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    write_all(c->fd, request, (size_t)size);
}

/* Reads the answer to the upgrade; what follows it are frames already. */
static void
shake(struct connection *c)
{
    size_t have = 0;
    char *end = NULL;

    while (end == NULL) {
        ssize_t n = recv(c->fd, buffer + have, BUFFER - have - 1, 0);
        if (n <= 0) {
            fail("handshake");
        }
        have += (size_t)n;
        buffer[have] = 0;
        end = strstr(buffer, "\r\n\r\n");
    }
    if (strncmp(buffer, "HTTP/1.1 101", 12) != 0) {
        fprintf(stderr, "refused: %.200s\n", buffer);
        exit(1);
    }
    end += 4;
    have -= (size_t)(end - buffer);
    memmove(buffer, end, have);
    take_bytes(c, have);
    if (hello_size > 0) {
        send_frame(c->fd, 1, hello, hello_size);
    }
    else {
        c->greeted = 1;
        greeted_count++;
    }
}

static void
watch(struct connection *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0) {
        fail("epoll_ctl");
    }
}

static void
open_all(int port, const char *path)
{
    uint64_t deadline;

    for (int i = 0; i < connection_count; i += HANDSHAKES_AT_ONCE) {
        int end = i + HANDSHAKES_AT_ONCE;
        if (end > connection_count) {
            end = connection_count;
        }
        for (int k = i; k < end; k++) {
            open_one(&connections[k], port, path);
        }
        for (int k = i; k < end; k++) {
            shake(&connections[k]);
            watch(&connections[k]);
        }
    }
    deadline = now_ns() + PATIENCE_MS * UINT64_C(1000000);
    while (greeted_count < connection_count && now_ns() < deadline) {
        poll_once(100);
    }
    if (greeted_count < connection_count) {
        fprintf(stderr, "%d of %d connections were greeted\n", greeted_count,
                connection_count);
        exit(1);
    }
}

static void
run(int go, unsigned events, struct order order)
{
    uint64_t frames0 = frames, bytes0 = bytes, errors0 = errors;
    uint64_t stray0 = stray, target = frames, start = now_ns(), end;

    for (unsigned i = 0; i < events; i++) {
        target += (uint64_t)order.burst * (uint64_t)connection_count;
        write_all(go, &order, sizeof order);
        if (!wait_until(&frames, target)) {
            printf("timeout %lu %lu\n", (unsigned long)(frames - frames0),
                   (unsigned long)(target - frames0));
            exit(1);
        }
    }
    end = now_ns();
    poll_once(2); /* a frame too many would come about now */
    if (frames != target) {
        errors += frames - target;
    }
    printf("done %u %lu %lu %lu %lu %lu\n", events,
           (unsigned long)(frames - frames0), (unsigned long)(bytes - bytes0),
           (unsigned long)(errors - errors0), (unsigned long)(stray - stray0),
           (unsigned long)(end - start));
}

/* Reads a line of standard input, and answers pings until one comes. */
static int
next_line(char *line, int size)
{
    struct pollfd both[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = poller, .events = POLLIN}};

    for (;;) {
        if (poll(both, 2, -1) < 0 && errno != EINTR) {
            fail("poll");
        }
        if (both[1].revents != 0) {
            poll_once(0);
        }
        if (both[0].revents != 0) {
            return fgets(line, size, stdin) != NULL;
        }
    }
}

int
main(int argc, char **argv)
{
    char line[256];

    if (argc != 7) {
        fprintf(stderr,
                "usage: client PORT CONNECTIONS PATH GO_FD HELLO NAP\n");
        return 2;
    }
    nap_us = (unsigned)atoi(argv[6]);
    connection_count = atoi(argv[2]);
    connections = allocate((size_t)connection_count, sizeof *connections);
    hello = argv[5];
    hello_size = strcmp(hello, "-") == 0 ? 0 : strlen(hello);
    poller = epoll_create1(EPOLL_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, 0);

    open_all(atoi(argv[1]), argv[3]);
    printf("connected %d\n", connection_count);
    while (next_line(line, sizeof line)) {
        struct order order;
        unsigned events;

        if (sscanf(line, "run %u %u %u", &events, &order.burst, &order.size) !=
            3) {
            fprintf(stderr, "not understood: %s", line);
            return 2;
        }
        run(atoi(argv[4]), events, order);
    }
    return 0;
}
