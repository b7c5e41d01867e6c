#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What ingest's tests share: a real store in a temporary directory, streams, and what an agent says
 * on them. */

#include <check.h>
#include <pthread.h>

#include "server/ingest/ingest.h"

#define NOW_US INT64_C(1795428000000000) /* 2026-11-23 */
#define MINUTE INT64_C(60000000)
#define N(rows) (sizeof(rows) / sizeof((rows)[0]))
#define SPOOL "spool-of-16-byte"

extern struct store *store;
extern struct ingest *ingest;
extern uint32_t agent;

void set_up(void);
void tear_down(void);
void open_store(uint64_t queue_bytes);
void close_store(void);
struct store_stats stats(void);

/* A stream and what its wake() has to say. */
struct line {
    struct ingest_stream *stream;
    struct ingest_welcome welcome;
    struct ingest_problem problem;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool is_woken;
    uint64_t acked;
    unsigned n_acks;
};

/* The next event that is not an ack; acks are noted. Waits for it. */
struct ingest_event next_event(struct line *line);
void wait_for_ack(struct line *line, uint64_t sequence);

struct ingest_hello hello_of(const char *spool, uint64_t first, uint64_t last);
int try_hello(struct line *line, const struct ingest_hello *hello);
void open_line(struct line *line, uint64_t first, uint64_t last);
void close_line(struct line *line);

/* Series 7, 9 and 8, a layout 3 of 8, 9 and 7, and the values 8.5, 9.5 and 7.5. */
extern const struct store_attribute cpu1[2];
extern const struct ingest_series three_series[3];
extern const struct ingest_layout one_layout[1];
struct ingest_scrape scrape_at(int64_t time_us);
struct ingest_batch first_batch(const struct ingest_scrape *scrape);

/* Again after each INGEST_WAIT. */
int give(struct line *line, const struct ingest_batch *batch);
void give_first(struct line *line);
int give_next(struct line *line, uint64_t sequence);
/* Opens a stream, gives batches 1 .. last, waits for their acks, closes. */
void store_run_up_to(uint64_t last);
