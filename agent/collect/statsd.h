#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Statsd: what programs of this machine send over UDP, as metrics. Private to agent/collect.
 *
 *     name:value|type[|@rate][|#tag:value,tag,...]        types c, g, ms, h, d, s
 *
 * with the tags of DogStatsD and several values as name:1:2:3|ms. A datagram holds lines. What
 * becomes of a line, in each round:
 *
 *     c         NAME             counter: the sum of value / rate since the agent started
 *     g         NAME             gauge: the last value; +1 and -1 change it
 *     ms, h, d  NAME.count .sum  counters, as with c
 *               NAME.min .max .p50 .p95 .p99     gauges of this round's values
 *     s         NAME.unique      gauge: how many different values this round had
 *
 * Series are bounded; one that nobody wrote to for STATSD_KEEP_US is forgotten.
 *
 * Thread: the loop's. The parser is pure.
 */

#include "agent/collect/collector.h"
#include "common/loop/loop.h"

#define STATSD_KEEP_US (600 * INT64_C(1000000))
#define STATSD_MAX_TAGS 30
#define STATSD_NAME_BYTES 255
#define STATSD_VALUES 16

enum statsd_type { STATSD_COUNTER, STATSD_GAUGE, STATSD_TIMER, STATSD_SET };

struct statsd_line {
    struct span name;
    enum statsd_type type;
    bool is_ms;
    double rate; /* over 0, up to 1 */
    struct span values[STATSD_VALUES];
    double numbers[STATSD_VALUES]; /* unless it is a set */
    size_t n_values;
    struct {
        struct span key, value;
    } tags[STATSD_MAX_TAGS];
    size_t n_tags;
};

enum statsd_outcome {
    STATSD_OK = 0,
    STATSD_BAD, /* no line of statsd, or an event or service check of DogStatsD */
};

/* Without the end of line. All spans borrow. Outcomes: STATSD_BAD. */
int statsd_parse(struct span line, struct statsd_line *ret) MUST_USE;

struct statsd;

struct statsd_options {
    size_t max_series;
    size_t max_set; /* values of a set in a round */
};
struct statsd *statsd_new(const struct statsd_options *options);
struct statsd *statsd_free(struct statsd *statsd);
void statsd_set_options(struct statsd *statsd, const struct statsd_options *options);
/* A datagram. */
void statsd_take(struct statsd *statsd, struct span bytes, int64_t now_us);
/* Adds all to the round, and begins the next. */
void statsd_tell(struct statsd *statsd, struct probe *probe, int64_t now_us);

/* Where collect.statsd.listen is ADDRESS:PORT on this machine. NULL: it is fine; else the remedy.
 */
const char *statsd_check_listen(const char *listen);
/* Binds and begins to hear. False: it is in the log. */
bool statsd_listen(struct statsd *statsd, struct loop *loop, const char *listen);
void statsd_hang_up(struct statsd *statsd);
