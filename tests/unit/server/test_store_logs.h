#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the suites of the store's logs share. A record is made of its number and its time alone, so
 * that one which comes back can be looked at bit by bit.
 */

#include "server/store/logs/logs.h"
#include "test_store.h"

#define SECOND_US INT64_C(1000000)
#define NOON_US (INT64_C(1790000000) / 86400 * DAY_US + DAY_US / 2)
#define LINES_MAX 200000

struct log_put {
    uint32_t agent;
    uint8_t spool;
    uint64_t sequence;
    unsigned source;   /* which one */
    uint32_t first;    /* number of the first record */
    uint32_t n;        /* records */
    int64_t time_us;   /* of the first */
    int64_t step_us;   /* to the next */
    size_t body_bytes; /* of each, at least; 0: some ten to hundred */
};
/* Submits and waits: the outcome of submit or of done. ret_last may be NULL. */
int put_logs(struct store *store, struct log_put put, uint64_t *ret_last);
/* A batch that is not submitted yet. */
struct store_batch *logs_batch(struct log_put put);
int put_logs_skip(struct store *store, struct log_put put, uint64_t records);

/* Fails when it is not, bit by bit, the record of its number; returns that. */
uint32_t check_line(const struct logblock_source *source, const struct logblock_record *record);

struct line {
    uint32_t n;
    int64_t time_us;
    struct logblock_place place;
};
struct lines {
    size_t n, n_blocks, n_parts, n_damaged; /* parts: blocks one behind the other count each */
    struct line lines[LINES_MAX];
};
/* Every record of an agent, packs and blocks, in order of number; static memory. Fails where one is
 * there twice, or two have one place. */
const struct lines *read_logs(struct store *store, uint32_t agent);
/* Numbers [0, n) and no others. */
void check_lines(struct store *store, uint32_t agent, uint32_t n);

/* What is not sealed yet. */
struct packs {
    size_t n, n_blocks;
    uint64_t n_bytes, max_bytes, max_raw_bytes;
};
struct packs count_packs(struct store *store, uint32_t agent);

struct store_logs_of logs_of(struct store *store, uint32_t agent);
struct store_stats stats_now(struct store *store);

TCase *case_logs(void);
TCase *case_logs_days(void);
TCase *case_logs_hard(void);
TCase *case_logs_search(void);
TCase *case_tail(void);
