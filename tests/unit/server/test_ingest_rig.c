/* SPDX-License-Identifier: Apache-2.0 */

#include "test_ingest_rig.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/file.h"

static char directory[64];
struct store *store;
struct ingest *ingest;
uint32_t agent;

static void wake(void *ctx)
{
    struct line *line = ctx;

    pthread_mutex_lock(&line->lock);
    ck_assert_msg(!line->is_woken, "woken again before it was drained");
    line->is_woken = true;
    pthread_cond_signal(&line->woken);
    pthread_mutex_unlock(&line->lock);
}

static void line_init(struct line *line)
{
    *line = (struct line){ .lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER };
}

/* The next event that is not an ack; acks are noted. Waits for it. */
struct ingest_event next_event(struct line *line)
{
    struct timespec until;
    struct ingest_event event;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    for (;;) {
        ingest_stream_next(line->stream, &event);
        if (event.type == INGEST_ACK) {
            ck_assert_uint_ge(event.sequence, line->acked);
            line->acked = event.sequence;
            line->n_acks++;
            continue;
        }
        if (event.type != INGEST_NOTHING)
            return event;
        pthread_mutex_lock(&line->lock);
        while (!line->is_woken)
            ck_assert_msg(pthread_cond_timedwait(&line->woken, &line->lock, &until) == 0,
                          "nothing came");
        line->is_woken = false;
        pthread_mutex_unlock(&line->lock);
    }
}

void wait_for_ack(struct line *line, uint64_t sequence)
{
    struct timespec until;
    struct ingest_event event;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    while (line->acked < sequence) {
        ingest_stream_next(line->stream, &event);
        if (event.type == INGEST_ACK) {
            line->acked = event.sequence;
            line->n_acks++;
        } else if (event.type == INGEST_NOTHING) {
            pthread_mutex_lock(&line->lock);
            while (!line->is_woken)
                ck_assert_int_eq(pthread_cond_timedwait(&line->woken, &line->lock, &until), 0);
            line->is_woken = false;
            pthread_mutex_unlock(&line->lock);
        } else {
            ck_assert_int_eq(event.type, INGEST_READY);
        }
    }
}

void open_store(uint64_t queue_bytes)
{
    struct store_options options = {
        .directory = directory,
        .segment_bytes = 16 << 20,
        .queue_bytes = queue_bytes,
        .full_percent = 100,
        .allow_any_filesystem = true,
    };
    struct ingest_limits limits;
    struct store_why why;

    ck_assert_msg(store_open(&store, &options, &why) == STORE_OK, "%s", why.text);
    ck_assert_int_eq(store_agent_intern(store, "web-1", &agent), 0);
    ingest_default_limits(&limits);
    ck_assert_int_eq(ingest_new(&ingest, store, &limits), 0);
}

void close_store(void)
{
    store_stop(store);
    ingest = ingest_free(ingest);
    store = store_close(store);
}

void set_up(void)
{
    (void) snprintf(directory, sizeof(directory), "/tmp/test-ingest-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(store_create(directory), 0);
    open_store(64 << 20);
}

void tear_down(void)
{
    close_store();
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

/* ---- what an agent says ---- */

struct ingest_hello hello_of(const char *spool, uint64_t first, uint64_t last)
{
    return (struct ingest_hello){
        .agent = agent,
        .signal = STORE_METRICS,
        .spool_id = span_of_text(spool),
        .first_sequence = first,
        .last_sequence = last,
        .instance = span_of_text("instance-16-byte"),
        .time_us = NOW_US,
        .agent_version = "0.1.0",
        .address = "127.0.0.1:1",
        .now = { NOW_US },
    };
}

int try_hello(struct line *line, const struct ingest_hello *hello)
{
    line_init(line);
    return ingest_stream_open(&line->stream, ingest, hello, wake, line, &line->welcome,
                              &line->problem);
}

void open_line(struct line *line, uint64_t first, uint64_t last)
{
    const struct ingest_hello hello = hello_of(SPOOL, first, last);

    ck_assert_msg(try_hello(line, &hello) == INGEST_OK, "%s: %s", line->problem.field,
                  line->problem.description);
}

void close_line(struct line *line)
{
    line->stream = ingest_stream_close(line->stream);
}

static const struct store_attribute cpu0[] = { { "mode", "user" }, { "cpu", "0" } };
const struct store_attribute cpu1[2] = { { "cpu", "1" }, { "mode", "user" } };

const struct ingest_series three_series[3] = {
    { .id = 7,
      .name = "system.cpu.time",
      .unit = "s",
      .kind = 2,
      .attributes = cpu1,
      .n_attributes = 2 },
    { .id = 9, .name = "system.memory.usage", .unit = "By", .kind = 1 },
    { .id = 8,
      .name = "system.cpu.time",
      .unit = "s",
      .kind = 2,
      .attributes = cpu0,
      .n_attributes = 2 },
};
static const uint32_t ids_789[] = { 8, 9, 7 };
const struct ingest_layout one_layout[1] = { { .id = 3, .series_ids = ids_789, .n_series = 3 } };
static const double values_3[] = { 8.5, 9.5, 7.5 };

struct ingest_scrape scrape_at(int64_t time_us)
{
    return (struct ingest_scrape){
        .time_us = time_us, .layout_id = 3, .values = values_3, .n_values = 3
    };
}

/* Declares everything and brings one scrape. */
struct ingest_batch first_batch(const struct ingest_scrape *scrape)
{
    return (struct ingest_batch){
        .sequence = 1,
        .crc32c = 1001,
        .series = three_series,
        .n_series = N(three_series),
        .layouts = one_layout,
        .n_layouts = 1,
        .scrapes = scrape,
        .n_scrapes = 1,
    };
}

int give(struct line *line, const struct ingest_batch *batch)
{
    int r;

    for (;;) {
        r = ingest_stream_batch(line->stream, batch, (wall_us){ NOW_US }, &line->problem);
        if (r != INGEST_WAIT)
            return r;
        ck_assert_int_eq(next_event(line).type, INGEST_READY);
    }
}

void give_first(struct line *line)
{
    const struct ingest_scrape scrape = scrape_at(NOW_US);
    const struct ingest_batch batch = first_batch(&scrape);

    ck_assert_msg(give(line, &batch) == INGEST_OK, "%s: %s", line->problem.field,
                  line->problem.description);
}

int give_next(struct line *line, uint64_t sequence)
{
    const struct ingest_scrape scrape = scrape_at(NOW_US + (int64_t) sequence);
    const struct ingest_batch batch = { .sequence = sequence,
                                        .crc32c = (uint32_t) (1000 + sequence),
                                        .scrapes = &scrape,
                                        .n_scrapes = 1 };

    return give(line, &batch);
}

/* Opens a stream, gives batches 1 .. last, waits for their acks, closes. */
void store_run_up_to(uint64_t last)
{
    struct line line;

    open_line(&line, 1, last);
    give_first(&line);
    for (uint64_t i = 2; i <= last; i++)
        ck_assert_int_eq(give_next(&line, i), INGEST_OK);
    wait_for_ack(&line, last);
    close_line(&line);
}

struct store_stats stats(void)
{
    struct store_stats all;

    store_get_stats(store, &all);
    return all;
}
