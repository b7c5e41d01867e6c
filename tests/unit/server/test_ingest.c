/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <stdio.h>

#include "test_ingest_rig.h"

/* ---- reading back ---- */

struct seen {
    size_t n_rows;
    double values[3];
    bool is_present[3];
};

static bool see(void *ctx, const struct store_piece *piece)
{
    struct seen *seen = ctx;
    size_t last = piece->end - 1;

    for (size_t i = 0; i < 3; i++) {
        seen->values[i] = piece->values[i][last];
        seen->is_present[i] = store_piece_has(piece, i, last);
    }
    seen->n_rows += piece->end - piece->first;
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
        .on_piece = see,
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

START_TEST(a_hello_may_say_any_time)
{
    static const int64_t times[] = { INT64_MIN, INT64_MAX, 0, -1 };
    struct arena arena;
    struct store_agent facts;
    struct line line;

    arena_init(&arena, 4096);
    for (size_t i = 0; i < N(times); i++) {
        struct ingest_hello hello = hello_of(SPOOL, 1, 0);

        hello.time_us = times[i];
        ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
        close_line(&line);
    }
    ck_assert_int_eq(store_agent_get(store, agent, &arena, &facts), 0);
    ck_assert_int_eq(facts.clock_offset_us, -1 - NOW_US);
    arena_deinit(&arena);
}
END_TEST

static const char *numbered_spool(unsigned n)
{
    static char spool[17];

    (void) snprintf(spool, sizeof(spool), "spool-%010u", n);
    return spool;
}

START_TEST(an_agent_has_so_many_streams_and_a_take_over_is_not_one_more)
{
    static struct line lines[INGEST_STREAMS_PER_AGENT + 2];
    struct line *more = &lines[INGEST_STREAMS_PER_AGENT], *newer = more + 1;
    struct ingest_hello hello;

    for (unsigned i = 0; i < INGEST_STREAMS_PER_AGENT; i++) {
        hello = hello_of(numbered_spool(i), 1, 0);
        ck_assert_int_eq(try_hello(&lines[i], &hello), INGEST_OK);
    }
    hello = hello_of(numbered_spool(INGEST_STREAMS_PER_AGENT), 1, 0);
    ck_assert_int_eq(try_hello(more, &hello), INGEST_LIMIT);
    ck_assert_str_eq(more->problem.quota, "agent_streams");
    hello = hello_of(numbered_spool(0), 1, 0);
    ck_assert_int_eq(try_hello(newer, &hello), INGEST_OK);
    close_line(&lines[0]);
    close_line(&lines[1]);
    hello = hello_of(numbered_spool(INGEST_STREAMS_PER_AGENT), 1, 0);
    ck_assert_int_eq(try_hello(more, &hello), INGEST_OK);
    for (unsigned i = 2; i < N(lines); i++)
        close_line(&lines[i]);
}
END_TEST

START_TEST(an_agent_with_all_its_runs_is_refused_a_new_one_and_keeps_those)
{
    uint8_t spool[STORE_SPOOL_BYTES];
    struct ingest_hello hello;
    struct store_run run;
    struct line line;

    for (unsigned i = 0; i < STORE_RUNS_PER_AGENT; i++) {
        /* A gap of one makes the run. */
        memcpy(spool, numbered_spool(i), sizeof(spool));
        ck_assert_int_eq(store_run_begin(store, agent, STORE_METRICS, spool, 2, 0), 0);
    }
    while (store_run_get(store, agent, STORE_METRICS, spool, &run) == STORE_NOT_FOUND)
        ;
    hello = hello_of(numbered_spool(STORE_RUNS_PER_AGENT - 1), 1, 1);
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_OK);
    close_line(&line);
    hello = hello_of(numbered_spool(STORE_RUNS_PER_AGENT), 1, 0);
    hello.now = clock_wall();
    ck_assert_int_eq(try_hello(&line, &hello), INGEST_LIMIT);
    ck_assert_str_eq(line.problem.quota, "agent_runs");
    ck_assert_str_eq(line.problem.field, "hello.spool_id");
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("server/ingest");
    TCase *way = tcase_create("the way of a batch");
    TCase *sequences = tcase_create("sequences");
    TCase *hellos = tcase_create("hello");

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
    tcase_add_test(hellos, a_hello_may_say_any_time);
    tcase_add_test(hellos, an_agent_has_so_many_streams_and_a_take_over_is_not_one_more);
    tcase_add_test(hellos, an_agent_with_all_its_runs_is_refused_a_new_one_and_keeps_those);
    suite_add_tcase(s, hellos);
    return s;
}
