/* SPDX-License-Identifier: Apache-2.0 */

/* Ingest over a real store in a temporary directory. */

#include "suite.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/file.h"
#include "server/ingest/ingest.h"

#define NOW_US  INT64_C(1795428000000000) /* 2026-11-23 */
#define MINUTE  INT64_C(60000000)
#define N(rows) (sizeof(rows) / sizeof((rows)[0]))

static char directory[64];
static struct store *store;
static struct ingest *ingest;
static uint32_t agent;

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
static struct ingest_event next_event(struct line *line)
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

static void wait_for_ack(struct line *line, uint64_t sequence)
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

static void open_store(uint64_t queue_bytes)
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

static void close_store(void)
{
    store_stop(store);
    ingest = ingest_free(ingest);
    store = store_close(store);
}

static void set_up(void)
{
    (void) snprintf(directory, sizeof(directory), "/tmp/test-ingest-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(store_create(directory), 0);
    open_store(64 << 20);
}

static void tear_down(void)
{
    close_store();
    ck_assert_int_eq(file_remove_tree(directory), 0);
}

/* ---- what an agent says ---- */

static struct ingest_hello hello_of(const char *spool, uint64_t first, uint64_t last)
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

#define SPOOL "spool-of-16-byte"

static int try_hello(struct line *line, const struct ingest_hello *hello)
{
    line_init(line);
    return ingest_stream_open(&line->stream, ingest, hello, wake, line, &line->welcome,
                              &line->problem);
}

static void open_line(struct line *line, uint64_t first, uint64_t last)
{
    const struct ingest_hello hello = hello_of(SPOOL, first, last);

    ck_assert_msg(try_hello(line, &hello) == INGEST_OK, "%s: %s", line->problem.field,
                  line->problem.description);
}

static void close_line(struct line *line)
{
    line->stream = ingest_stream_close(line->stream);
}

static const struct store_attribute cpu0[] = { { "mode", "user" }, { "cpu", "0" } };
static const struct store_attribute cpu1[] = { { "cpu", "1" }, { "mode", "user" } };

static const struct ingest_series three_series[] = {
    { .id = 7, .name = "system.cpu.time", .unit = "s", .kind = 2, .attributes = cpu1, .n_attributes = 2 },
    { .id = 9, .name = "system.memory.usage", .unit = "By", .kind = 1 },
    { .id = 8, .name = "system.cpu.time", .unit = "s", .kind = 2, .attributes = cpu0, .n_attributes = 2 },
};
static const uint32_t ids_789[] = { 8, 9, 7 };
static const struct ingest_layout one_layout[] = { { .id = 3, .series_ids = ids_789, .n_series = 3 } };
static const double values_3[] = { 8.5, 9.5, 7.5 };

static struct ingest_scrape scrape_at(int64_t time_us)
{
    return (struct ingest_scrape){ .time_us = time_us, .layout_id = 3, .values = values_3, .n_values = 3 };
}

/* Declares everything and brings one scrape. */
static struct ingest_batch first_batch(const struct ingest_scrape *scrape)
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

static int give(struct line *line, const struct ingest_batch *batch)
{
    int r;

    for (;;) {
        r = ingest_stream_batch(line->stream, batch, (wall_us){ NOW_US }, &line->problem);
        if (r != INGEST_WAIT)
            return r;
        ck_assert_int_eq(next_event(line).type, INGEST_READY);
    }
}

static void give_first(struct line *line)
{
    const struct ingest_scrape scrape = scrape_at(NOW_US);
    const struct ingest_batch batch = first_batch(&scrape);

    ck_assert_msg(give(line, &batch) == INGEST_OK, "%s: %s", line->problem.field,
                  line->problem.description);
}

static int give_next(struct line *line, uint64_t sequence)
{
    const struct ingest_scrape scrape = scrape_at(NOW_US + (int64_t) sequence);
    const struct ingest_batch batch = {
        .sequence = sequence, .crc32c = (uint32_t) (1000 + sequence), .scrapes = &scrape, .n_scrapes = 1
    };

    return give(line, &batch);
}

/* Opens a stream, gives batches 1 .. last, waits for their acks, closes. */
static void store_run_up_to(uint64_t last)
{
    struct line line;

    open_line(&line, 1, last);
    give_first(&line);
    for (uint64_t i = 2; i <= last; i++)
        ck_assert_int_eq(give_next(&line, i), INGEST_OK);
    wait_for_ack(&line, last);
    close_line(&line);
}

static struct store_stats stats(void)
{
    struct store_stats all;

    store_get_stats(store, &all);
    return all;
}

/* ---- reading back ---- */

struct seen {
    size_t n_rows;
    double values[3];
    bool is_present[3];
};

static bool see(void *ctx, int64_t time_us, const double *values, const bool *is_present)
{
    struct seen *seen = ctx;

    (void) time_us;
    for (size_t i = 0; i < 3; i++) {
        seen->values[i] = values[i];
        seen->is_present[i] = is_present[i];
    }
    seen->n_rows++;
    return true;
}

/* The value that a definition has in the only layout, and whether it is there. */
static bool value_of(const char *name, const char *cpu, double *ret, size_t *ret_rows)
{
    const uint32_t columns[] = { 0, 1, 2 };
    struct store_span *spans = NULL;
    struct seen seen = { 0 };
    struct arena arena;
    size_t n = 0, found = 3;
    uint32_t layout;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_spans(store, agent, &arena, &spans, &n), 0);
    ck_assert_uint_eq(n, 1);
    layout = spans[0].layout;
    arena_deinit(&arena);
    struct store_scan scan = {
        .agent = agent,
        .layout = layout,
        .from_us = 0,
        .to_us = INT64_MAX,
        .columns = columns,
        .n_columns = 3,
        .on_row = see,
        .ctx = &seen,
    };
    ck_assert_int_eq(store_scan(store, &scan), 0);
    *ret_rows = seen.n_rows;
    for (uint32_t i = 0; i < 3; i++) {
        const struct store_definition *definition =
            store_definition_get(store, store_layout_get(store, layout)->definitions[i]);

        if (strcmp(definition->name, name) != 0)
            continue;
        if (!cpu || strcmp(definition->attributes[0].value, cpu) == 0)
            found = i;
    }
    ck_assert_uint_lt(found, 3);
    *ret = seen.values[found];
    return seen.is_present[found];
}

/* ---- tests: the way of a batch ---- */

START_TEST(a_batch_is_acknowledged_and_reads_back_column_by_column)
{
    struct line line;
    double value;
    size_t n_rows;

    open_line(&line, 1, 0);
    ck_assert_uint_eq(line.welcome.resume_after_sequence, 0);
    give_first(&line);
    wait_for_ack(&line, 1);
    /* Layout order, definition order and declaration order all differ. */
    ck_assert(value_of("system.cpu.time", "0", &value, &n_rows) && value == 8.5);
    ck_assert(value_of("system.cpu.time", "1", &value, &n_rows) && value == 7.5);
    ck_assert(value_of("system.memory.usage", NULL, &value, &n_rows) && value == 9.5);
    ck_assert_uint_eq(n_rows, 1);
    ck_assert(ingest_is_connected(ingest, agent));
    ck_assert(ingest_run_is_connected(ingest, agent, STORE_METRICS, (const uint8_t *) SPOOL));
    close_line(&line);
    ck_assert(!ingest_is_connected(ingest, agent));
}
END_TEST

START_TEST(absent_places_are_taken_in_any_order_and_only_those_are_absent)
{
    const uint32_t absent[] = { 2, 0 }; /* series 7 and 8 */
    struct ingest_scrape scrape = scrape_at(NOW_US);
    struct ingest_batch batch = first_batch(&scrape);
    struct line line;
    double value;
    size_t n_rows;

    scrape.absent = absent;
    scrape.n_absent = 2;
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    ck_assert(!value_of("system.cpu.time", "0", &value, &n_rows));
    ck_assert(!value_of("system.cpu.time", "1", &value, &n_rows));
    ck_assert(value_of("system.memory.usage", NULL, &value, &n_rows) && value == 9.5);
    close_line(&line);
}
END_TEST

START_TEST(new_series_make_the_batch_wait_and_ready_lets_it_go_on)
{
    const struct ingest_scrape scrape = scrape_at(NOW_US);
    const struct ingest_batch batch = first_batch(&scrape);
    struct line line;

    open_line(&line, 1, 0);
    ck_assert_int_eq(ingest_stream_batch(line.stream, &batch, (wall_us){ NOW_US }, &line.problem),
                     INGEST_WAIT);
    ck_assert_int_eq(next_event(&line).type, INGEST_READY);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    close_line(&line);

    /* What the hub knows already does not wait. */
    struct ingest_hello hello = hello_of("another-16-bytes", 1, 0);
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    ck_assert_int_eq(ingest_stream_batch(line.stream, &batch, (wall_us){ NOW_US }, &line.problem),
                     INGEST_OK);
    wait_for_ack(&line, 1);
    close_line(&line);
    ck_assert_uint_eq(stats().n_definitions, 3);
    ck_assert_uint_eq(stats().n_layouts, 1);
}
END_TEST

START_TEST(a_stream_closed_while_its_series_are_interned_leaves_nothing_behind)
{
    const struct ingest_scrape scrape = scrape_at(NOW_US);
    const struct ingest_batch batch = first_batch(&scrape);
    struct line line;

    open_line(&line, 1, 0);
    ck_assert_int_eq(ingest_stream_batch(line.stream, &batch, (wall_us){ NOW_US }, &line.problem),
                     INGEST_WAIT);
    close_line(&line);
    ck_assert_uint_eq(stats().n_batches, 0);
}
END_TEST

START_TEST(a_full_writer_queue_makes_batches_wait_and_all_arrive_in_order)
{
    struct line line;

    close_store();
    open_store(1); /* never more than one batch in the queue */
    open_line(&line, 1, 0);
    give_first(&line);
    for (uint64_t i = 2; i <= 50; i++)
        ck_assert_int_eq(give_next(&line, i), INGEST_OK);
    wait_for_ack(&line, 50);
    ck_assert_uint_eq(stats().n_batches, 50);
    close_line(&line);
}
END_TEST

START_TEST(more_unacknowledged_batches_than_the_limit_wait)
{
    struct ingest_limits limits;
    struct line line;

    ingest_get_limits(ingest, &limits);
    limits.unacknowledged_batches = 1;
    ingest_set_limits(ingest, &limits);
    open_line(&line, 1, 0);
    give_first(&line);
    for (uint64_t i = 2; i <= 20; i++)
        ck_assert_int_eq(give_next(&line, i), INGEST_OK);
    wait_for_ack(&line, 20);
    close_line(&line);
}
END_TEST

START_TEST(finish_ends_the_stream_after_every_ack)
{
    struct line line;
    struct ingest_event event;

    open_line(&line, 1, 0);
    give_first(&line);
    for (uint64_t i = 2; i <= 30; i++)
        ck_assert_int_eq(give_next(&line, i), INGEST_OK);
    ingest_stream_finish(line.stream, INGEST_STOPPED);
    ck_assert_int_eq(give_next(&line, 31), INGEST_STOPPED);
    do
        event = next_event(&line);
    while (event.type == INGEST_READY);
    ck_assert_int_eq(event.type, INGEST_END);
    ck_assert_int_eq(event.outcome, INGEST_STOPPED);
    ck_assert_uint_eq(line.acked, 30);
    close_line(&line);
}
END_TEST

/* ---- tests: sequences ---- */

START_TEST(a_batch_sent_again_is_acknowledged_again_and_stored_once)
{
    struct line line;
    size_t n_rows;
    double value;

    store_run_up_to(3);
    struct ingest_hello hello = hello_of(SPOOL, 1, 3); /* it missed every ack */
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    ck_assert_uint_eq(line.welcome.resume_after_sequence, 3);
    give_first(&line);
    wait_for_ack(&line, 3);
    ck_assert_uint_ge(line.n_acks, 1);
    ck_assert_int_eq(give_next(&line, 4), INGEST_OK);
    wait_for_ack(&line, 4);
    (void) value_of("system.memory.usage", NULL, &value, &n_rows);
    ck_assert_uint_eq(n_rows, 4);
    ck_assert_uint_eq(stats().n_duplicates, 1);
    close_line(&line);
}
END_TEST

START_TEST(a_gap_is_refused_after_the_acks_before_it)
{
    struct line line;
    struct ingest_event event;

    open_line(&line, 1, 0);
    give_first(&line);
    ck_assert_int_eq(give_next(&line, 3), INGEST_GAP);
    ck_assert_str_eq(line.problem.field, "batch.sequence");
    event = next_event(&line);
    ck_assert_int_eq(event.type, INGEST_END);
    ck_assert_int_eq(event.outcome, INGEST_GAP);
    ck_assert_uint_eq(line.acked, 1);
    /* The stream is over, whatever comes. */
    ck_assert_int_eq(give_next(&line, 2), INGEST_GAP);
    close_line(&line);
}
END_TEST

START_TEST(a_skip_is_committed_and_the_batch_after_it_is_next)
{
    const struct ingest_batch skip = {
        .sequence = 9, .crc32c = 77, .is_skip = true, .skip_reason = 1, .skip_records = 500
    };
    struct store_agent row;
    struct line line;
    struct arena arena;

    open_line(&line, 1, 0);
    give_first(&line);
    ck_assert_int_eq(give(&line, &skip), INGEST_OK);
    ck_assert_int_eq(give_next(&line, 10), INGEST_OK);
    wait_for_ack(&line, 10);
    close_line(&line);
    arena_init(&arena, 1 << 16);
    ck_assert_int_eq(store_agent_get(store, agent, &arena, &row), 0);
    ck_assert_uint_eq(row.n_skipped, 500);
    arena_deinit(&arena);
}
END_TEST

/* ---- tests: hello ---- */

START_TEST(a_hello_that_breaks_a_rule_is_refused_by_field)
{
    struct ingest_hello good = hello_of(SPOOL, 1, 0), bad;
    struct store_attribute host[33];
    struct line line;
    const uint8_t long_hash[33] = { 0 };

    bad = good;
    bad.spool_id.len = 15;
    ck_assert_int_eq(try_hello(&line, &bad), INGEST_BAD_HELLO);
    ck_assert_str_eq(line.problem.field, "hello.spool_id");
    bad = good;
    bad.instance.len = 0;
    ck_assert_int_eq(try_hello(&line, &bad), INGEST_BAD_HELLO);
    ck_assert_str_eq(line.problem.field, "hello.instance");
    bad = good;
    bad.first_sequence = 0;
    ck_assert_int_eq(try_hello(&line, &bad), INGEST_BAD_HELLO);
    ck_assert_str_eq(line.problem.field, "hello.first_sequence");
    bad = good;
    bad.first_sequence = 5;
    bad.last_sequence = 3;
    ck_assert_int_eq(try_hello(&line, &bad), INGEST_BAD_HELLO);
    ck_assert_str_eq(line.problem.field, "hello.last_sequence");
    bad = good;
    bad.fingerprint.dmi = span_of(long_hash, sizeof(long_hash));
    ck_assert_int_eq(try_hello(&line, &bad), INGEST_BAD_HELLO);
    ck_assert_str_eq(line.problem.field, "hello.fingerprint.dmi");
    bad = good;
    for (size_t i = 0; i < N(host); i++)
        host[i] = (struct store_attribute){ "host.name", "x" };
    bad.host = host;
    bad.n_host = N(host);
    ck_assert_int_eq(try_hello(&line, &bad), INGEST_BAD_HELLO);
    ck_assert_str_eq(line.problem.field, "hello.host");
    ck_assert(!ingest_is_connected(ingest, agent));
}
END_TEST

START_TEST(an_agent_whose_run_ends_before_the_hubs_has_forked)
{
    struct ingest_hello hello = hello_of(SPOOL, 1, 2);
    struct line line;

    store_run_up_to(3);
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_FORKED);
    ck_assert_str_eq(line.problem.field, "hello.last_sequence");
}
END_TEST

START_TEST(an_agent_with_other_bytes_in_the_last_batch_has_forked)
{
    struct ingest_hello hello = hello_of(SPOOL, 4, 5);
    struct line line;

    store_run_up_to(3);
    hello.crc32c_before_first = 1004;
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_FORKED);
    ck_assert_str_eq(line.problem.field, "hello.crc32c_before_first");
    hello.crc32c_before_first = 1003;
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    ck_assert_uint_eq(line.welcome.resume_after_sequence, 3);
    ck_assert_uint_eq(line.welcome.lost_last, 0);
    close_line(&line);
}
END_TEST

START_TEST(a_hub_that_is_behind_takes_the_run_up_and_counts_the_loss)
{
    struct ingest_hello hello = hello_of(SPOOL, 8, 9);
    struct store_agent row;
    struct line line;
    struct arena arena;

    store_run_up_to(3);
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    ck_assert_uint_eq(line.welcome.resume_after_sequence, 7);
    ck_assert_uint_eq(line.welcome.lost_first, 4);
    ck_assert_uint_eq(line.welcome.lost_last, 7);
    struct ingest_scrape scrape = scrape_at(NOW_US);
    struct ingest_batch batch = first_batch(&scrape);
    batch.sequence = 8;
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 8);
    close_line(&line);
    arena_init(&arena, 1 << 16);
    ck_assert_int_eq(store_agent_get(store, agent, &arena, &row), 0);
    ck_assert_uint_eq(row.n_lost, 4);
    arena_deinit(&arena);
}
END_TEST

START_TEST(a_newer_stream_of_the_same_spool_takes_over)
{
    struct line older, newer, other;
    struct ingest_hello elsewhere = hello_of("another-16-bytes", 1, 0);
    struct ingest_event event;
    struct ingest_stats now;

    open_line(&older, 1, 0);
    give_first(&older);
    ck_assert_int_eq(try_hello(&other, &elsewhere), INGEST_OK);
    wait_for_ack(&older, 1);
    struct ingest_hello hello = hello_of(SPOOL, 1, 1);
    ck_assert_int_eq(try_hello(&newer, &hello), INGEST_OK);
    event = next_event(&older);
    ck_assert_int_eq(event.type, INGEST_END);
    ck_assert_int_eq(event.outcome, INGEST_TAKEN_OVER);
    ck_assert_int_eq(give_next(&older, 2), INGEST_TAKEN_OVER);
    ingest_get_stats(ingest, &now);
    ck_assert_uint_eq(now.n_streams, 2);
    ck_assert_uint_eq(now.n_agents, 1);
    close_line(&older);
    ck_assert(ingest_run_is_connected(ingest, agent, STORE_METRICS, (const uint8_t *) SPOOL));
    close_line(&newer);
    close_line(&other);
}
END_TEST

START_TEST(another_machine_with_the_same_id_is_refused_while_one_is_live)
{
    struct line first, second;
    struct ingest_hello hello = hello_of(SPOOL, 1, 0);
    struct ingest_hello clone = hello_of("another-16-bytes", 1, 0);

    hello.fingerprint.machine_id = span_of_text("machine-a");
    hello.fingerprint.dmi = span_of_text("board");
    clone.fingerprint.machine_id = span_of_text("machine-b");
    ck_assert_int_eq(try_hello(&first, &hello), INGEST_OK);
    ck_assert_int_eq(try_hello(&second, &clone), INGEST_CLONED);
    ck_assert_str_eq(second.problem.field, "hello.fingerprint");

    /* An absent source says nothing. */
    clone.fingerprint.machine_id = (struct span){ 0 };
    clone.fingerprint.first_mac = span_of_text("mac");
    ck_assert_int_eq(try_hello(&second, &clone), INGEST_OK);
    close_line(&second);

    close_line(&first);
    clone.fingerprint.machine_id = span_of_text("machine-b");
    ck_assert_int_eq(try_hello(&second, &clone), INGEST_OK);
    close_line(&second);
}
END_TEST

/* ---- tests: a batch that breaks a rule ---- */

static char long_name[257];
static struct ingest_series series_edit[3];
static struct ingest_layout layout_edit[1];
static struct ingest_scrape scrape_edit[2];
static const uint32_t twice[] = { 8, 9, 8 }, unknown[] = { 8, 9, 5 }, absent_far[] = { 3 },
                      absent_twice[] = { 1, 1 };
static const struct store_attribute double_key[] = { { "a", "1" }, { "b", "2" }, { "a", "3" } };
static const struct store_attribute empty_key[] = { { "", "1" } };

static void no_series_id(void) { series_edit[0].id = 0; }
static void series_id_twice(void) { series_edit[1].id = 7; }
static void no_name(void) { series_edit[1].name = ""; }
static void name_too_long(void) { series_edit[1].name = long_name; }
static void name_not_utf8(void) { series_edit[1].name = "\xff"; }
static void unit_too_long(void) { series_edit[1].unit = long_name; }
static void no_kind(void) { series_edit[2].kind = 0; }
static void kind_of_tomorrow(void) { series_edit[2].kind = 3; }
static void key_twice(void) { series_edit[1].attributes = double_key; series_edit[1].n_attributes = 3; }
static void key_empty(void) { series_edit[1].attributes = empty_key; series_edit[1].n_attributes = 1; }
static void too_many_attributes(void) { series_edit[1].attributes = double_key; series_edit[1].n_attributes = 33; }
static void no_layout_id(void) { layout_edit[0].id = 0; }
static void layout_empty(void) { layout_edit[0].n_series = 0; }
static void layout_unknown_series(void) { layout_edit[0].series_ids = unknown; }
static void layout_series_twice(void) { layout_edit[0].series_ids = twice; }
static void same_series_by_two_ids(void) { series_edit[2].attributes = cpu1; }
static void scrape_unknown_layout(void) { scrape_edit[1].layout_id = 4; }
static void scrape_too_few_values(void) { scrape_edit[1].n_values = 2; }
static void scrape_absent_far(void) { scrape_edit[1].absent = absent_far; scrape_edit[1].n_absent = 1; }
static void scrape_absent_twice(void) { scrape_edit[1].absent = absent_twice; scrape_edit[1].n_absent = 2; }
static void too_old(void) { scrape_edit[1].time_us = NOW_US - 31 * 24 * 60 * MINUTE; }
static void too_new(void) { scrape_edit[1].time_us = NOW_US + 61 * MINUTE; }
static void at_the_end_of_time(void) { scrape_edit[1].time_us = INT64_MAX; }
static void at_the_beginning_of_time(void) { scrape_edit[1].time_us = INT64_MIN; }

static const struct {
    void (*edit)(void);
    int outcome;
    const char *field;
} broken[] = {
    { no_series_id, INGEST_BAD_BATCH, "batch.series[0].id" },
    { series_id_twice, INGEST_BAD_BATCH, "batch.series[1].id" },
    { no_name, INGEST_BAD_BATCH, "batch.series[1].name" },
    { name_too_long, INGEST_BAD_BATCH, "batch.series[1].name" },
    { name_not_utf8, INGEST_BAD_BATCH, "batch.series[1].name" },
    { unit_too_long, INGEST_BAD_BATCH, "batch.series[1].unit" },
    { no_kind, INGEST_BAD_BATCH, "batch.series[2].kind" },
    { kind_of_tomorrow, INGEST_BAD_BATCH, "batch.series[2].kind" },
    { key_twice, INGEST_BAD_BATCH, "batch.series[1].attributes" },
    { key_empty, INGEST_BAD_BATCH, "batch.series[1].attributes[0].key" },
    { too_many_attributes, INGEST_BAD_BATCH, "batch.series[1].attributes" },
    { no_layout_id, INGEST_BAD_BATCH, "batch.layouts[0].id" },
    { layout_empty, INGEST_BAD_BATCH, "batch.layouts[0].series_ids" },
    { layout_unknown_series, INGEST_BAD_BATCH, "batch.layouts[0].series_ids[2]" },
    { layout_series_twice, INGEST_BAD_BATCH, "batch.layouts[0].series_ids[2]" },
    { same_series_by_two_ids, INGEST_BAD_BATCH, "batch.layouts[0].series_ids" },
    { scrape_unknown_layout, INGEST_BAD_BATCH, "batch.scrapes[1].layout_id" },
    { scrape_too_few_values, INGEST_BAD_BATCH, "batch.scrapes[1].values" },
    { scrape_absent_far, INGEST_BAD_BATCH, "batch.scrapes[1].absent" },
    { scrape_absent_twice, INGEST_BAD_BATCH, "batch.scrapes[1].absent" },
    { too_old, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
    { too_new, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
    { at_the_end_of_time, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
    { at_the_beginning_of_time, INGEST_TIME_OUT_OF_RANGE, "batch.scrapes[1].time_unix_us" },
};

START_TEST(a_batch_that_breaks_a_rule_is_refused_whole_and_by_field)
{
    struct ingest_batch batch;
    struct ingest_event event;
    struct ingest_stats counts;
    struct line line;

    memset(long_name, 'n', sizeof(long_name) - 1);
    memcpy(series_edit, three_series, sizeof(series_edit));
    memcpy(layout_edit, one_layout, sizeof(layout_edit));
    scrape_edit[0] = scrape_edit[1] = scrape_at(NOW_US);
    broken[_i].edit();
    batch = first_batch(scrape_edit);
    batch.series = series_edit;
    batch.layouts = layout_edit;
    batch.n_scrapes = 2;

    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), broken[_i].outcome);
    ck_assert_str_eq(line.problem.field, broken[_i].field);
    ck_assert_str_ne(line.problem.description, "");
    do
        event = next_event(&line);
    while (event.type == INGEST_READY);
    ck_assert_int_eq(event.type, INGEST_END);
    ck_assert_int_eq(event.outcome, broken[_i].outcome);
    ck_assert_uint_eq(line.acked, 0);
    close_line(&line);
    ck_assert_uint_eq(stats().n_batches, 0);
    ck_assert_uint_eq(stats().n_layouts, 0);
    ingest_get_stats(ingest, &counts);
    ck_assert_uint_eq(counts.n_refused, 1);

    /* The same run goes on with a good one, on another stream. */
    store_run_up_to(1);
}
END_TEST

START_TEST(what_a_batch_may_hold_is_limited_by_name)
{
    struct ingest_limits limits;
    struct ingest_scrape scrapes[2] = { scrape_at(NOW_US), scrape_at(NOW_US + 1) };
    struct ingest_batch batch = first_batch(scrapes);
    struct line line;

    ingest_get_limits(ingest, &limits);
    limits.batch_samples = 5;
    ingest_set_limits(ingest, &limits);
    batch.n_scrapes = 2;
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_LIMIT);
    ck_assert_str_eq(line.problem.quota, "batch_samples");
    close_line(&line);

    limits.batch_samples = 6;
    limits.batch_new_series = 2;
    ingest_set_limits(ingest, &limits);
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_LIMIT);
    ck_assert_str_eq(line.problem.quota, "batch_new_series");
    close_line(&line);

    limits.batch_new_series = 3;
    limits.agent_series = 2;
    ingest_set_limits(ingest, &limits);
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_LIMIT);
    ck_assert_str_eq(line.problem.quota, "agent_series");
    close_line(&line);

    limits.agent_series = 3;
    ingest_set_limits(ingest, &limits);
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    wait_for_ack(&line, 1);
    close_line(&line);
}
END_TEST

START_TEST(declarations_live_as_long_as_the_stream)
{
    struct line line;

    store_run_up_to(1);
    struct ingest_hello hello = hello_of(SPOOL, 1, 1);
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    ck_assert_int_eq(give_next(&line, 2), INGEST_BAD_BATCH);
    ck_assert_str_eq(line.problem.field, "batch.scrapes[0].layout_id");
    close_line(&line);
}
END_TEST

START_TEST(a_batch_without_scrapes_only_declares)
{
    struct ingest_batch batch = first_batch(NULL);
    struct line line;

    batch.n_scrapes = 0;
    open_line(&line, 1, 0);
    ck_assert_int_eq(give(&line, &batch), INGEST_OK);
    ck_assert_int_eq(give_next(&line, 2), INGEST_OK);
    wait_for_ack(&line, 2);
    close_line(&line);
}
END_TEST

START_TEST(a_stopped_store_ends_streams)
{
    struct line line;
    struct ingest_event event;

    open_line(&line, 1, 0);
    give_first(&line);
    store_stop(store);
    ck_assert_int_eq(give_next(&line, 2), INGEST_STOPPED);
    do
        event = next_event(&line);
    while (event.type == INGEST_READY);
    ck_assert_int_eq(event.outcome, INGEST_STOPPED);
    ck_assert_uint_eq(line.acked, 1);
    close_line(&line);
}
END_TEST

START_TEST(what_was_acknowledged_is_there_after_a_restart)
{
    struct ingest_hello hello = hello_of(SPOOL, 6, 5);
    struct line line;

    store_run_up_to(5);
    close_store();
    open_store(64 << 20);
    hello.crc32c_before_first = 1005;
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    ck_assert_uint_eq(line.welcome.resume_after_sequence, 5);
    close_line(&line);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/ingest");
    TCase *way = tcase_create("the way of a batch");
    TCase *sequences = tcase_create("sequences");
    TCase *hellos = tcase_create("hello");
    TCase *rules = tcase_create("rules");

    tcase_add_checked_fixture(way, set_up, tear_down);
    tcase_add_test(way, a_batch_is_acknowledged_and_reads_back_column_by_column);
    tcase_add_test(way, absent_places_are_taken_in_any_order_and_only_those_are_absent);
    tcase_add_test(way, new_series_make_the_batch_wait_and_ready_lets_it_go_on);
    tcase_add_test(way, a_stream_closed_while_its_series_are_interned_leaves_nothing_behind);
    tcase_add_test(way, a_full_writer_queue_makes_batches_wait_and_all_arrive_in_order);
    tcase_add_test(way, more_unacknowledged_batches_than_the_limit_wait);
    tcase_add_test(way, finish_ends_the_stream_after_every_ack);
    tcase_add_test(way, a_stopped_store_ends_streams);
    tcase_add_test(way, what_was_acknowledged_is_there_after_a_restart);
    suite_add_tcase(s, way);

    tcase_add_checked_fixture(sequences, set_up, tear_down);
    tcase_add_test(sequences, a_batch_sent_again_is_acknowledged_again_and_stored_once);
    tcase_add_test(sequences, a_gap_is_refused_after_the_acks_before_it);
    tcase_add_test(sequences, a_skip_is_committed_and_the_batch_after_it_is_next);
    suite_add_tcase(s, sequences);

    tcase_add_checked_fixture(hellos, set_up, tear_down);
    tcase_add_test(hellos, a_hello_that_breaks_a_rule_is_refused_by_field);
    tcase_add_test(hellos, an_agent_whose_run_ends_before_the_hubs_has_forked);
    tcase_add_test(hellos, an_agent_with_other_bytes_in_the_last_batch_has_forked);
    tcase_add_test(hellos, a_hub_that_is_behind_takes_the_run_up_and_counts_the_loss);
    tcase_add_test(hellos, a_newer_stream_of_the_same_spool_takes_over);
    tcase_add_test(hellos, another_machine_with_the_same_id_is_refused_while_one_is_live);
    suite_add_tcase(s, hellos);

    tcase_add_checked_fixture(rules, set_up, tear_down);
    tcase_add_loop_test(rules, a_batch_that_breaks_a_rule_is_refused_whole_and_by_field, 0,
                        (int) N(broken));
    tcase_add_test(rules, what_a_batch_may_hold_is_limited_by_name);
    tcase_add_test(rules, declarations_live_as_long_as_the_stream);
    tcase_add_test(rules, a_batch_without_scrapes_only_declares);
    suite_add_tcase(s, rules);
    return s;
}
