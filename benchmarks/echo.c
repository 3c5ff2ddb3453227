/* The limit: a TCP echo server that does the system calls, and nothing else.

   usage: echo [-f raw|length-prefixed] [-s BYTES] [ADDRESS [PORT]]

   -f FRAMING   raw (default): what is read is written. length-prefixed: whole messages, behind
                their 4-byte big-endian length, are written; over 16 MiB the connection is closed
   -s BYTES     the most that one read asks for (default 131072: less costs more at 1 MiB messages,
                more leaves the processor's caches)

   ADDRESS is a literal of either family (default 127.0.0.1), PORT 0 (default) a free one. The port
   is told on stdout as "port N". One thread, level-triggered epoll. What a peer does not take
   waits, and until it has gone nothing more is read. SIGTERM ends it. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, BACKLOG = 4096, HEADER = 4, LIMIT = 16 << 20 };

struct connection {
    int fd;
    /* What the peer has not taken. */
    char *unsent;
    size_t unsent_size, unsent_at;
    /* A message cut by the end of a read: what there is of it, and its whole size (before the
       header is whole, that of the header). */
    char *part;
    size_t part_size, part_whole;
};

static int poller;
static size_t chunk_size = 128 << 10;
static int framed;
static char *chunk;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL)
        die("memory");
    return memory;
}

static void watch(int operation, int fd, uint32_t events, void *of)
{
    struct epoll_event event = {.events = events, .data.ptr = of};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        die("epoll_ctl");
}

static void end(struct connection *c)
{
    close(c->fd);
    free(c->unsent);
    free(c->part);
    free(c);
}

/* Send; what is not taken waits. 0 once the connection has ended. */
static int transmit(struct connection *c, const char *data, size_t size)
{
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        end(c);
        return 0;
    }
    if (sent < 0)
        sent = 0;
    if ((size_t)sent < size) {
        char *unsent = allocate(size - sent);
        memcpy(unsent, data + sent, size - sent);
        c->unsent = unsent;
        c->unsent_size = size - sent;
        c->unsent_at = 0;
        watch(EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
    }
    return 1;
}

static void on_writable(struct connection *c)
{
    ssize_t sent = send(c->fd, c->unsent + c->unsent_at, c->unsent_size - c->unsent_at,
                        MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            end(c);
        return;
    }
    c->unsent_at += sent;
    if (c->unsent_at == c->unsent_size) {
        free(c->unsent);
        c->unsent = NULL;
        watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
    }
}

static size_t wire_size(const char *header)
{
    uint32_t length;
    memcpy(&length, header, HEADER);
    return HEADER + (size_t)ntohl(length);
}

/* Keep the beginning of a message, and room for all of it once its size is known. */
static void keep(struct connection *c, const char *data, size_t size)
{
    size_t whole = size < HEADER ? HEADER : wire_size(data);
    char *part = allocate(whole);
    memcpy(part, data, size);
    free(c->part);
    c->part = part;
    c->part_size = size;
    c->part_whole = whole;
}

/* Go on with a cut message, of which `size` more bytes have been read into place. */
static void on_part(struct connection *c, size_t size)
{
    c->part_size += size;
    if (c->part_size < c->part_whole)
        return;
    size_t whole = wire_size(c->part);
    if (whole > HEADER + (size_t)LIMIT) {
        end(c);
        return;
    }
    if (c->part_whole < whole) {
        keep(c, c->part, c->part_size);
        return;
    }
    char *message = c->part;
    c->part = NULL;
    transmit(c, message, whole);
    free(message);
}

/* Send the whole messages of a chunk in one piece, and keep the rest. */
static void on_messages(struct connection *c, size_t size)
{
    size_t at = 0;
    while (size - at >= HEADER) {
        size_t whole = wire_size(chunk + at);
        if (whole > HEADER + (size_t)LIMIT) {
            end(c);
            return;
        }
        if (whole > size - at)
            break;
        at += whole;
    }
    if (at < size)
        keep(c, chunk + at, size - at);
    if (at > 0)
        transmit(c, chunk, at);
}

static void on_readable(struct connection *c)
{
    ssize_t size = c->part != NULL
        ? recv(c->fd, c->part + c->part_size, c->part_whole - c->part_size, 0)
        : recv(c->fd, chunk, chunk_size, 0);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN)
            end(c);
    } else if (!framed) {
        transmit(c, chunk, size);
    } else if (c->part != NULL) {
        on_part(c, size);
    } else {
        on_messages(c, size);
    }
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED)
                die("accept");
            return;
        }
        struct connection *c = allocate(sizeof *c);
        *c = (struct connection){.fd = fd};
        watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

static int listen_on(const char *address, int port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int six = inet_pton(AF_INET, address, &v4.sin_addr) != 1;
    if (six && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) {
        fprintf(stderr, "%s is no address\n", address);
        exit(2);
    }
    struct sockaddr *bound = six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t size = six ? sizeof v6 : sizeof v4;
    int fd = socket(bound->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    /* Accepted sockets inherit it. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (bind(fd, bound, size) < 0 || listen(fd, BACKLOG) < 0)
        die(address);
    getsockname(fd, bound, &size);
    printf("port %d\n", ntohs(six ? v6.sin6_port : v4.sin_port));
    fflush(stdout);
    return fd;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void read_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "f:s:")) != -1) {
        if (option == 'f' && strcmp(optarg, "raw") == 0) {
            framed = 0;
        } else if (option == 'f' && strcmp(optarg, "length-prefixed") == 0) {
            framed = 1;
        } else if (option == 's' && atol(optarg) > 0) {
            chunk_size = atol(optarg);
        } else {
            fprintf(stderr,
                    "usage: echo [-f raw|length-prefixed] [-s BYTES] [ADDRESS [PORT]]\n");
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    raise_descriptor_limit();
    chunk = allocate(chunk_size);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(optind < argc ? argv[optind] : "127.0.0.1",
                             optind + 1 < argc ? atoi(argv[optind + 1]) : 0);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL)
                accept_all(listener);
            else if (c->unsent != NULL)
                on_writable(c);
            else
                on_readable(c);
        }
    }
}
