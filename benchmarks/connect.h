/* Sockets that connect to the target. */

#ifndef CONNECT_H
#define CONNECT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum {
    /* The ports that churn on loopback comes from, in turn: outside of those that systems hand
       out, so that these do not run out, and connect() does not search long for a free one. */
    FIRST_PORT = 16384,
    PORTS = 16384,
};

static struct sockaddr_storage target;
static socklen_t target_size;
static uint32_t next_port;

/* Take a literal of either family and a port; 0 if it is none. */
static int read_target(const char *address, const char *port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&target;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&target;
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(atoi(port));
        target_size = sizeof *v4;
    } else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(atoi(port));
        target_size = sizeof *v6;
    } else {
        return 0;
    }
    return 1;
}

static int is_loopback(void)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&target;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&target;
    if (v4->sin_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Come from the target's own address and the next of our ports; 0 if somebody has it. */
static int choose_source(int fd)
{
    struct sockaddr_storage source = target;
    in_port_t port = htons(FIRST_PORT + next_port++ % PORTS);
    if (source.ss_family == AF_INET)
        ((struct sockaddr_in *)&source)->sin_port = port;
    else
        ((struct sockaddr_in6 *)&source)->sin6_port = port;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&source, target_size) == 0)
        return 1;
    if (errno != EADDRINUSE && errno != EACCES)
        fail("binding: %s", strerror(errno));
    return 0;
}

/* A socket that is connecting. */
static int start_connecting(void)
{
    for (int tries = 0; tries < PORTS; tries++) {
        int fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            fail("socket: %s", strerror(errno));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (options.buffer) {
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options.buffer, sizeof(int));
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &options.buffer, sizeof(int));
        }
        int ours = !options.churn || !is_loopback() || choose_source(fd);
        if (ours && (connect(fd, (struct sockaddr *)&target, target_size) == 0
                     || errno == EINPROGRESS))
            return fd;
        if (ours && (!options.churn || errno != EADDRNOTAVAIL))
            fail("connecting: %s", strerror(errno));
        close(fd);
    }
    fail("no port is free to connect from");
}

#endif
