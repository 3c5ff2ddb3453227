/* What every part of the load generator knows: its options, and how it fails. */

#ifndef LOAD_H
#define LOAD_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct {
    int connections, idle, in_flight, framed, churn, buffer, wait;
    size_t size;
    uint64_t count;
    double warmup, seconds, patience;
} options = {.connections = 1, .in_flight = 1, .size = 64, .seconds = 1, .patience = 10};

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("{\"error\": \"");
    vprintf(format, arguments);
    printf("\"}\n");
    va_end(arguments);
    exit(1);
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

#endif
