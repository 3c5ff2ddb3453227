/* Latencies in logarithmic buckets, as an HDR histogram has them: 128 to each power of two, so that
   a value is told to within 0.8 %, from 1 ns to 2^40 ns (18 minutes) in a fixed 34 KiB. */

#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

enum { FINE_BITS = 7, FINE = 1 << FINE_BITS, POWERS = 40 - FINE_BITS, BUCKETS = (POWERS + 1) * FINE };

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total, sum, max;
};

static inline int bucket_of(uint64_t value)
{
    if (value < FINE)
        return (int)value;
    int power = 63 - __builtin_clzll(value) - FINE_BITS;
    if (power >= POWERS)
        return BUCKETS - 1;
    return (power + 1) * FINE + (int)(value >> power) - FINE;
}

/* The largest value that falls into a bucket. */
static inline uint64_t top_of(int bucket)
{
    if (bucket < FINE)
        return bucket;
    int power = bucket / FINE - 1;
    return ((uint64_t)(bucket % FINE + FINE + 1) << power) - 1;
}

static inline void record(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->total++;
    h->sum += value;
    if (value > h->max)
        h->max = value;
}

/* The value that `share` of all are no larger than; never above the maximum. */
static inline uint64_t percentile(const struct histogram *h, double share)
{
    uint64_t rank = (uint64_t)(share * h->total + 0.5), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += h->counts[bucket];
        if (seen >= rank && seen > 0)
            return top_of(bucket) < h->max ? top_of(bucket) : h->max;
    }
    return h->max;
}

#endif
