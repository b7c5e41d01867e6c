#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Load: what agents send, as a pure function of agent, series and scrape. Numbers of our own (a
 * third constants, a third counters, a third gauges), or those of a recording (replay.h).
 *
 * Glossary:   scrape   one agent's values of one instant, counted from 0
 *             group    the series that have a metric's name in common
 * Threads:    after load_init() any; a message is one thread's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "bench/lines.h"
#include "bench/replay.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

#define LOAD_MAX_SERIES 4096u   /* one batch declares them all */
#define LOAD_MAX_SAMPLES 65536u /* of a batch */
#define LOAD_RUN_BYTES 17

/* Series of our own are these by turns: "bench.constant", "bench.counter", "bench.gauge". */
enum load_kind { LOAD_CONSTANT, LOAD_COUNTER, LOAD_GAUGE, LOAD_N_KINDS };

struct load_group {
    const char *name, *unit;
    bool is_counter;
    bool is_integer;  /* every value is: they add up exactly, in any order */
    uint32_t *series; /* ascending */
    uint32_t n_series;
};

/* What all agents of a run have in common. */
struct load {
    uint32_t n_agents, n_series, batch_scrapes;
    int64_t first_us;    /* a multiple of interval_us: where the step of the first scrape begins */
    int64_t interval_us; /* between an agent's scrapes; synthetic time, it passes as fast as the
                            load runs */
    char run[LOAD_RUN_BYTES];    /* an attribute of every series: runs on one hub are told apart by
                                    it */
    const struct replay *replay; /* NULL: numbers of our own; else with `tracks` */
    const struct tracks *tracks;
    const struct lines *lines; /* not NULL: logs instead, one "series" of batch_lines "scrapes" */
    /* made by load_init() */
    struct arena arena;
    struct load_group *groups;
    uint32_t n_groups;
    uint32_t *group_of;      /* by series */
    struct buf declarations; /* the series and layouts of a MetricBatch, encoded */
};

/* The fields above `arena` are set. Faults: no memory. */
int load_init(struct load *load) MUST_USE;
void load_deinit(struct load *load);

/* Series have the attributes `item` (their number) and `run`, beside those of the recording. */

/*
 * The value of a series in an agent's n-th scrape (from 0): of nothing but these three. Of our own,
 * constants and counters are integers, and counters never fall; gauges have one or two decimals.
 * Never negative.
 */
double load_value(const struct load *load, uint32_t agent, uint32_t series, uint64_t scrape);
/* Agents lie apart within a step, as real ones do; those of a recording are also late by up to
 * half a millisecond, as real ones are. */
int64_t load_time_us(const struct load *load, uint32_t agent, uint64_t scrape);
/* How many series of an agent keep one value over its first n scrapes. */
uint32_t load_n_constant(const struct load *load, uint32_t agent, uint64_t n_scrapes);

/* The method that takes it. */
const char *load_path(const struct load *load);

/* One agent's StreamMetricsRequest with a batch, made once and patched in place for each sequence;
 * of logs, a StreamLogsRequest made anew. The two have the same numbers for the same fields, all
 * but the batch's own. */
struct load_message {
    uint8_t *bytes; /* room for the changing front, then the scrapes */
    size_t scrapes_bytes;
    uint32_t agent;
    struct buf logs;
    uint32_t body_bytes; /* of the logs in it; 0 for metrics */
};

int load_message_init(struct load_message *message,
                      const struct load *load,
                      uint32_t agent) MUST_USE;
void load_message_deinit(struct load_message *message);
/* Batch `sequence` (from 1), without declarations. Borrowed until the next change of the message.
 */
struct span
load_message_patch(struct load_message *message, const struct load *load, uint64_t sequence);
/* What StreamHello.crc32c_before_first says of that batch. */
uint32_t
load_message_checksum(struct load_message *message, const struct load *load, uint64_t sequence);
/* As load_message_patch(), with all declarations: the first of a stream. Replaces what is in `to`.
 */
int load_message_declare(struct load_message *message,
                         const struct load *load,
                         uint64_t sequence,
                         struct buf *to) MUST_USE;
