/* What one connection of the load generator does: it opens, sends messages, and holds what comes
   back against them.

   Messages are pieces of one random sequence, at places that differ by connection and by message:
   so neither what is sent nor what is awaited has to be kept, however large it is. */

#ifndef EXCHANGE_H
#define EXCHANGE_H

#include <sys/epoll.h>
#include <sys/uio.h>

#include "connect.h"
#include "histogram.h"
#include "load.h"

enum {
    HEADER = 4,
    /* Up to this size messages are gathered into one piece; larger ones go as they are. */
    GATHERED = 16 << 10,
    BUFFER = 256 << 10,
    /* In how many places of the random sequence a message may begin. */
    PLACES = 4093,
};

/* How far a connection's stream has gone: messages, and bytes of the next one. */
struct place {
    uint64_t message;
    size_t offset;
};

struct connection {
    int fd, blocked;
    uint32_t number;
    struct place sent, received;
    /* When each message in flight was begun: a ring. */
    uint64_t *begun;
};

static int poller;
static char *sequence, *gathered, *input;
static size_t header_size, wire_size;
static uint32_t header;

/* How many connections were opened; how many messages were begun and came back; how many may be
   begun at all, and on a connection. */
static uint64_t opened, begun, returned, quota, most;
static struct histogram latencies;

/* The messages. */

static void make_messages(void)
{
    gathered = allocate(BUFFER);
    input = allocate(BUFFER);
    uint64_t state = 0x9e3779b97f4a7c15ull;
    sequence = allocate(options.size + PLACES);
    for (size_t i = 0; i < options.size + PLACES; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sequence[i] = (char)(state >> 32);
    }
    header = htonl(options.size);
    header_size = options.framed ? HEADER : 0;
    wire_size = header_size + options.size;
}

static const char *payload(const struct connection *c, uint64_t message)
{
    return sequence + (c->number * 2654435761u + message * 40503u) % PLACES;
}

static void advance(struct place *place, size_t size)
{
    place->offset += size;
    place->message += place->offset / wire_size;
    place->offset %= wire_size;
}

/* Sending. */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

/* The message before which a connection has to stop. */
static uint64_t stop_before(const struct connection *c)
{
    uint64_t next = c->sent.message + (c->sent.offset > 0);
    uint64_t stop = c->received.message + options.in_flight;
    if (stop > most)
        stop = most;
    return stop > next + (quota - begun) ? next + (quota - begun) : stop;
}

/* What is to be sent next, in up to two parts. */
static int next_piece(struct connection *c, uint64_t stop, struct iovec parts[2], size_t *size)
{
    struct place place = c->sent;
    int count = 0;
    if (wire_size > GATHERED) {
        const char *data = payload(c, place.message);
        if (place.offset < header_size) {
            parts[count++] = (struct iovec){(char *)&header + place.offset,
                                            header_size - place.offset};
            place.offset = header_size;
        }
        parts[count++] = (struct iovec){(char *)data + place.offset - header_size,
                                        wire_size - place.offset};
        *size = wire_size - c->sent.offset;
        return count;
    }
    char *at = gathered;
    while (place.message < stop && at + wire_size <= gathered + BUFFER) {
        memcpy(at, &header, header_size);
        memcpy(at + header_size, payload(c, place.message), options.size);
        at += wire_size;
        place.message++;
    }
    parts[0] = (struct iovec){gathered + place.offset, at - gathered - place.offset};
    *size = parts[0].iov_len;
    return 1;
}

/* Note what the system took, and when the messages that begin in it were handed over. */
static void note_sent(struct connection *c, size_t size, uint64_t time)
{
    uint64_t message = c->sent.message + (c->sent.offset > 0);
    advance(&c->sent, size);
    for (; message < c->sent.message + (c->sent.offset > 0); message++, begun++)
        if (!options.churn)
            c->begun[message % options.in_flight] = time;
}

static void send_more(struct connection *c)
{
    uint64_t stop;
    while (!c->blocked && c->sent.message < (stop = stop_before(c))) {
        struct iovec parts[2];
        size_t size;
        struct msghdr piece = {.msg_iov = parts, .msg_iovlen = next_piece(c, stop, parts, &size)};
        uint64_t time = now();
        ssize_t sent = sendmsg(c->fd, &piece, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            fail("connection %u: %s", c->number, strerror(errno));
        if (sent > 0)
            note_sent(c, sent, time);
        if (sent < (ssize_t)size) {
            c->blocked = 1;
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
        }
    }
}

/* Opening. */

static void open_connection(struct connection *c)
{
    c->begun[0] = now();
    c->fd = start_connecting();
    c->blocked = 0;
    opened++;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    send_more(c);
}

/* Receiving. */

/* Hold a piece of what came against what was sent. */
static void compare(struct connection *c, const char *came, const char *sent, size_t size)
{
    if (memcmp(came, sent, size) == 0)
        return;
    size_t i = 0;
    while (came[i] == sent[i])
        i++;
    fail("connection %u: wrong byte at offset %zu of message %llu: 0x%02x for 0x%02x", c->number,
         c->received.offset + i, (unsigned long long)c->received.message, (unsigned char)came[i],
         (unsigned char)sent[i]);
}

static void check(struct connection *c, const char *came, size_t left)
{
    uint64_t time = now();
    uint64_t owed = (c->sent.message - c->received.message) * wire_size + c->sent.offset
        - c->received.offset;
    if (left > owed)
        fail("connection %u: %llu bytes came back that had not been sent", c->number,
             (unsigned long long)(left - owed));
    while (left > 0) {
        size_t offset = c->received.offset;
        int in_header = offset < header_size;
        size_t size = (in_header ? header_size : wire_size) - offset;
        if (size > left)
            size = left;
        compare(c, came,
                in_header ? (const char *)&header + offset
                          : payload(c, c->received.message) + offset - header_size,
                size);
        uint64_t message = c->received.message;
        advance(&c->received, size);
        if (c->received.message > message) {
            record(&latencies, time - c->begun[message % options.in_flight]);
            returned++;
        }
        came += size;
        left -= size;
    }
}

static void on_readable(struct connection *c)
{
    ssize_t size = recv(c->fd, input, BUFFER, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size < 0)
        fail("connection %u: %s", c->number, strerror(errno));
    if (size == 0)
        fail("connection %u: the server closed it, with %llu bytes to come", c->number,
             (unsigned long long)((c->sent.message - c->received.message) * wire_size
                                  + c->sent.offset - c->received.offset));
    uint64_t message = c->received.message;
    check(c, input, size);
    if (!options.churn) {
        send_more(c);
    } else if (c->received.message > message) {
        close(c->fd);
        if (begun < quota)
            open_connection(c);
    }
}

static void on_event(struct connection *c, uint32_t events)
{
    if (c->blocked && events & ~EPOLLIN) {
        c->blocked = 0;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        send_more(c);
    }
    if (events & EPOLLIN)
        on_readable(c);
}

#endif
