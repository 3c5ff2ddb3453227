/* A load generator for TCP echo servers, that checks every byte which comes back.

   usage: load [options] ADDRESS PORT

   -c COUNT     connections that send (default 1; 0: none does, and nothing is measured)
   -i COUNT     further connections that are opened, echo once, and then stand idle (default 0)
   -m COUNT     messages in flight on each connection (default 1)
   -s BYTES     size of a message (default 64)
   -f FRAMING   raw (default) or length-prefixed (4 bytes, big-endian)
   -k           churn: each connection echoes one message, closes, and opens anew
   -w SECONDS   warm-up before the measured window (default 0)
   -t SECONDS   the measured window (default 1)
   -n COUNT     end the measured window after so many messages (default 0: by time alone)
   -b BYTES     SO_SNDBUF and SO_RCVBUF of its sockets (default 0: the system's)
   -T SECONDS   how long nothing may come back before the run has failed (default 10)
   -g           wait for a line on stdin after each of the lines `connected`, `begin` and `end`

   ADDRESS is a literal of either family. Every connection echoes one message when it is opened;
   once all have, `connected` is told on stdout. `begin` and `end` stand around the measured
   window: at these moments nothing is in flight, so that whoever reads the server's CPU time then
   has all of the window's and nothing else. The last line is the result as one JSON object: what
   came back within the window, how long it took, and latencies from before a message's first byte
   was handed to the system until its last byte had been read (churn: from before connect()).

   Messages are pieces of one random sequence, at places that differ by connection and by message,
   so that bytes which are lost, swapped, repeated or sent to another connection are noticed.
   Whatever is wrong ends the run with {"error": ...} and exit code 1; bad usage with 2. */

#define _GNU_SOURCE
#include <string.h>
#include <sys/resource.h>

#include "exchange.h"

enum {
    EVENTS = 256,
    /* How many connections are being opened at a time: some servers queue no more. */
    OPENING = 8,
};

static struct connection *connections;

/* Wait for events and handle them, until `deadline` at the latest. */
static void turn(uint64_t deadline)
{
    struct epoll_event events[EVENTS];
    uint64_t time = now(), patience = options.patience * 1e9;
    uint64_t wait = deadline > time && deadline - time < patience ? deadline - time : patience;
    int ready = epoll_wait(poller, events, EVENTS, wait / 1000000 + 1);
    if (ready < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    if (ready == 0 && wait == patience)
        fail("nothing came back for %g s, with %llu messages in flight", options.patience,
             (unsigned long long)(begun - returned));
    for (int i = 0; i < ready; i++)
        on_event(events[i].data.ptr, events[i].events);
}

/* Let each connection echo one message, a few at a time. */
static void open_all(void)
{
    most = 1;
    quota = UINT64_MAX;
    int first = options.churn ? options.connections : 0;
    int count = options.connections + options.idle - first;
    while (returned < (uint64_t)count) {
        while (opened < (uint64_t)count && opened < returned + OPENING)
            open_connection(&connections[first + opened]);
        turn(0);
    }
}

/* Send until the time is over or the messages are, and until all has come back; how long, in ns. */
static uint64_t run(double seconds, uint64_t count)
{
    uint64_t start = now(), deadline = start + seconds * 1e9;
    if (options.connections == 0)
        return 0;
    most = UINT64_MAX;
    quota = count ? begun + count : UINT64_MAX;
    memset(&latencies, 0, sizeof latencies);
    for (int i = 0; i < options.connections && begun < quota; i++) {
        if (options.churn)
            open_connection(&connections[i]);
        else
            send_more(&connections[i]);
    }
    while (begun < quota || returned < begun) {
        if (now() >= deadline)
            quota = begun;
        turn(begun < quota ? deadline : 0);
    }
    return now() - start;
}

static void tell(const char *moment)
{
    char line[16];
    puts(moment);
    fflush(stdout);
    if (options.wait && fgets(line, sizeof line, stdin) == NULL)
        exit(1);
}

static double cpu_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void measure(void)
{
    tell("begin");
    double cpu = cpu_us();
    uint64_t before = opened;
    double seconds = run(options.seconds, options.count) / 1e9;
    cpu = cpu_us() - cpu;
    tell("end");
    const struct histogram *h = &latencies;
    printf("{\"messages\": %llu, \"payload_bytes\": %llu, \"connects\": %llu, "
           "\"seconds\": %.6f, \"cpu_us\": %.1f, ",
           (unsigned long long)h->total, (unsigned long long)h->total * options.size,
           (unsigned long long)(opened - before), seconds, cpu);
    printf("\"mean_us\": %.3f, \"p50_us\": %.3f, \"p90_us\": %.3f, \"p99_us\": %.3f, "
           "\"p99_9_us\": %.3f, \"max_us\": %.3f}\n",
           h->total ? h->sum / 1e3 / h->total : 0, percentile(h, 0.5) / 1e3,
           percentile(h, 0.9) / 1e3, percentile(h, 0.99) / 1e3, percentile(h, 0.999) / 1e3,
           h->max / 1e3);
}

static void usage(void)
{
    fprintf(stderr,
            "usage: load [-c COUNT] [-i COUNT] [-m COUNT] [-s BYTES] [-f raw|length-prefixed] [-k]\n"
            "            [-w SECONDS] [-t SECONDS] [-n COUNT] [-b BYTES] [-T SECONDS] [-g]\n"
            "            ADDRESS PORT\n");
    exit(2);
}

static double number(double least)
{
    char *rest;
    double value = strtod(optarg, &rest);
    if (*optarg == '\0' || *rest != '\0' || !(value >= least))
        usage();
    return value;
}

static void read_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "c:i:m:s:f:kw:t:n:b:T:g")) != -1) {
        switch (option) {
        case 'c': options.connections = number(0); break;
        case 'i': options.idle = number(0); break;
        case 'm': options.in_flight = number(1); break;
        case 's': options.size = number(1); break;
        case 'f':
            options.framed = strcmp(optarg, "length-prefixed") == 0;
            if (!options.framed && strcmp(optarg, "raw") != 0)
                usage();
            break;
        case 'k': options.churn = 1; break;
        case 'w': options.warmup = number(0); break;
        case 't': options.seconds = number(0); break;
        case 'n': options.count = number(0); break;
        case 'b': options.buffer = number(0); break;
        case 'T': options.patience = number(0); break;
        case 'g': options.wait = 1; break;
        default: usage();
        }
    }
    if (argc - optind != 2 || (options.churn && options.in_flight > 1))
        usage();
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    if (!read_target(argv[optind], argv[optind + 1]))
        usage();
    raise_descriptor_limit();
    make_messages();
    poller = epoll_create1(EPOLL_CLOEXEC);
    int all = options.connections + options.idle;
    connections = allocate(all * sizeof *connections);
    for (int i = 0; i < all; i++) {
        connections[i].number = i;
        connections[i].begun = allocate(options.in_flight * sizeof(uint64_t));
    }
    open_all();
    tell("connected");
    if (options.warmup > 0)
        run(options.warmup, 0);
    measure();
    return 0;
}
