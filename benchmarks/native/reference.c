/* The reference (h): what the machine allows a plain C program to do.
 *
 *     reference WAY CONNECTIONS READY_FD GO_FD
 *
 * It listens on a free port of 127.0.0.1, writes the port to READY_FD, takes
 * CONNECTIONS upgrades and then obeys the orders in GO_FD. An event is a
 * ready-made text frame; only its sequence number changes. WAY is
 *
 *     send   one send(2) per event and connection: the (h) of the table
 *     batch  the first event of an order at once, the others of the order
 *            together, in one send(2) per connection
 *     uring  as send, but the sends of one event go to the kernel in one
 *            io_uring_enter(2) */

#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum {
    RING_ENTRIES = 1024
};

static int *sockets;
static int socket_count;
static uint64_t sequence;

/* -- frames -- */

/* Writes one text frame of `size` bytes of JSON; its length. */
static size_t
write_frame(char *at, unsigned size, uint64_t number)
{
    char head[256];
    size_t header;
    int length = snprintf(
        head, sizeof head,
        "{\"id\":\"0123456789abcdef:%lu\",\"type\":\"agent_thinking\","
        "\"payload\":{\"text\":\"",
        (unsigned long)number);

    if (size < (unsigned)length + 3) {
        size = (unsigned)length + 3;
    }
    at[0] = (char)0x81;
    if (size < 126) {
        at[1] = (char)size;
        header = 2;
    }
    else {
        at[1] = 126;
        at[2] = (char)(size >> 8);
        at[3] = (char)size;
        header = 4;
    }
    memcpy(at + header, head, (size_t)length);
    memset(at + header + length, 'x', size - (unsigned)length - 3);
    memcpy(at + header + size - 3, "\"}}", 3);
    return header + size;
}

/* -- one send per event and connection -- */

static void
send_whole(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, -1);
            continue;
        }
        if (n < 0) {
            fail("send");
        }
        data += n;
        size -= (size_t)n;
    }
}

static void
send_to_all(const char *data, size_t size)
{
    for (int i = 0; i < socket_count; i++) {
        send_whole(sockets[i], data, size);
    }
}

static void
emit_send(struct order order, char *room)
{
    for (unsigned i = 0; i < order.burst; i++) {
        send_to_all(room, write_frame(room, order.size, ++sequence));
    }
}

static void
emit_batch(struct order order, char *room)
{
    size_t size = 0;

    send_to_all(room, write_frame(room, order.size, ++sequence));
    for (unsigned i = 1; i < order.burst; i++) {
        size += write_frame(room + size, order.size, ++sequence);
    }
    if (size > 0) {
        send_to_all(room, size);
    }
}

/* -- io_uring by its bare system calls -- */

static struct {
    int fd;
    struct io_uring_sqe *entries;
    unsigned *tail, *mask, *array;
    unsigned *done_head, *done_tail, *done_mask;
    struct io_uring_cqe *done;
} ring;

static void *
ring_map(size_t size, off_t offset)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_POPULATE, ring.fd, offset);

    if (memory == MAP_FAILED) {
        fail("io_uring mmap");
    }
    return memory;
}

static void
ring_open(void)
{
    struct io_uring_params p = {0};
    char *queue, *completions;

    ring.fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &p);
    if (ring.fd < 0) {
        fail("io_uring_setup");
    }
    queue = ring_map(p.sq_off.array + p.sq_entries * sizeof(unsigned),
                     IORING_OFF_SQ_RING);
    completions =
        ring_map(p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
                 IORING_OFF_CQ_RING);
    ring.entries =
        ring_map(p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    ring.tail = (unsigned *)(queue + p.sq_off.tail);
    ring.mask = (unsigned *)(queue + p.sq_off.ring_mask);
    ring.array = (unsigned *)(queue + p.sq_off.array);
    ring.done_head = (unsigned *)(completions + p.cq_off.head);
    ring.done_tail = (unsigned *)(completions + p.cq_off.tail);
    ring.done_mask = (unsigned *)(completions + p.cq_off.ring_mask);
    ring.done = (struct io_uring_cqe *)(completions + p.cq_off.cqes);
}

static void
ring_push(int fd, const char *data, size_t size)
{
    unsigned tail = *ring.tail, slot = tail & *ring.mask;
    struct io_uring_sqe *entry = &ring.entries[slot];

    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_SEND;
    entry->fd = fd;
    entry->addr = (uintptr_t)data;
    entry->len = (unsigned)size;
    entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    entry->user_data = size;
    ring.array[slot] = slot;
    __atomic_store_n(ring.tail, tail + 1, __ATOMIC_RELEASE);
}

/* Submits `count` sends and takes their completions. */
static void
ring_flush(unsigned count)
{
    unsigned head = *ring.done_head;

    while (syscall(SYS_io_uring_enter, ring.fd, count, count,
                   IORING_ENTER_GETEVENTS, NULL, 0) < 0) {
        if (errno != EINTR) {
            fail("io_uring_enter");
        }
        count = 0;
    }
    while (head != __atomic_load_n(ring.done_tail, __ATOMIC_ACQUIRE)) {
        struct io_uring_cqe *done = &ring.done[head++ & *ring.done_mask];
        if (done->res < 0 || (uint64_t)done->res != done->user_data) {
            errno = done->res < 0 ? -done->res : EIO;
            fail("io_uring send");
        }
    }
    __atomic_store_n(ring.done_head, head, __ATOMIC_RELEASE);
}

static void
emit_uring(struct order order, char *room)
{
    for (unsigned i = 0; i < order.burst; i++) {
        size_t size = write_frame(room, order.size, ++sequence);
        unsigned pushed = 0;

        for (int k = 0; k < socket_count; k++) {
            ring_push(sockets[k], room, size);
            if (++pushed == RING_ENTRIES) {
                ring_flush(pushed);
                pushed = 0;
            }
        }
        if (pushed > 0) {
            ring_flush(pushed);
        }
    }
}

/* -- the server -- */

static int
listen_somewhere(int ready)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    char text[16];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), length;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
        listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        fail("listen");
    }
    length = snprintf(text, sizeof text, "%d\n", ntohs(address.sin_port));
    write_all(ready, text, (size_t)length);
    return fd;
}

/* The client here does not check the accept key, so any will do. */
static void
shake(int fd)
{
    static const char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char request[2048] = "";
    size_t have = 0;

    while (strstr(request, "\r\n\r\n") == NULL) {
        ssize_t n = read(fd, request + have, sizeof request - have - 1);
        if (n <= 0) {
            fail("handshake");
        }
        have += (size_t)n;
        request[have] = 0;
    }
    write_all(fd, answer, sizeof answer - 1);
}

int
main(int argc, char **argv)
{
    void (*emit)(struct order, char *) = NULL;
    struct order order;
    char *room = NULL;
    int listener, one = 1;

    if (argc == 5) {
        emit = strcmp(argv[1], "send") == 0    ? emit_send
               : strcmp(argv[1], "batch") == 0 ? emit_batch
               : strcmp(argv[1], "uring") == 0 ? emit_uring
                                               : NULL;
    }
    if (emit == NULL) {
        fprintf(stderr, "usage: reference send|batch|uring CONNECTIONS "
                        "READY_FD GO_FD\n");
        return 2;
    }
    if (emit == emit_uring) {
        ring_open();
    }
    socket_count = atoi(argv[2]);
    sockets = allocate((size_t)socket_count, sizeof *sockets);
    listener = listen_somewhere(atoi(argv[3]));
    for (int i = 0; i < socket_count; i++) {
        sockets[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (sockets[i] < 0) {
            fail("accept");
        }
        shake(sockets[i]);
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    while (read_all(atoi(argv[4]), &order, sizeof order)) {
        room = realloc(room, ((size_t)order.size + 256) * order.burst);
        if (room == NULL) {
            fail("realloc");
        }
        emit(order, room);
    }
    return 0;
}
