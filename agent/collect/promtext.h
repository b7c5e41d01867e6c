#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Promtext: Prometheus' text exposition format, version 0.0.4, and what OpenMetrics 1.0 adds to it
 * that a reader can pass over (# UNIT, # EOF, exemplars). Private to agent/collect.
 *
 *     # TYPE http_requests_total counter
 *     http_requests_total{code="200",method="get"} 1027 1395066363000
 *
 * Bytes in, samples out; no file, no socket. Labels with an empty value are left out, as Prometheus
 * does. Kinds: what its TYPE calls a counter, and the buckets, sums and counts of histograms and
 * summaries, are counters; all else is a gauge. The unit comes from the end of the name: _seconds,
 * _bytes, _celsius, _ratio, ...; else it is empty.
 *
 * Thread: none; pure.
 */

#include "agent/spool/spool.h"

#define PROMTEXT_NAME_BYTES 255
#define PROMTEXT_VALUE_BYTES 1023
#define PROMTEXT_MAX_LABELS 30
#define PROMTEXT_PROBLEM_BYTES 160

struct promtext_sample {
    const char *name;
    const char *unit;
    enum spool_kind kind;
    double value;                         /* NaN and infinities too */
    const struct spool_attribute *labels; /* ends with a row without a key */
    size_t n_labels;
};

struct promtext_rules {
    size_t max_samples;
    bool allows_times; /* behind the value; passed over */
    bool allows_dots;  /* and dashes in names: "queue.length 3" */
};

struct promtext_problem {
    size_t line; /* from 1 */
    char text[PROMTEXT_PROBLEM_BYTES];
};

/* Borrows everything until it returns. */
typedef void promtext_fn(void *ctx, const struct promtext_sample *sample);

enum promtext_outcome {
    PROMTEXT_OK = 0,
    PROMTEXT_BAD, /* ret_problem says where; samples before it were given */
};

/*
 * Reads `len` bytes, which are overwritten; text[len] must be NUL.
 * Outcomes: PROMTEXT_BAD.
 */
int promtext_parse(char *text,
                   size_t len,
                   const struct promtext_rules *rules,
                   promtext_fn *fn,
                   void *ctx,
                   struct promtext_problem *ret_problem) MUST_USE;
