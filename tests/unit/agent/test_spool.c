/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include "agent/spool/spool.h"

#define N_SERIES 10

static struct spool_layout *layout;
static struct spool *spool;

static void set_up(void)
{
    struct spool_series *series[N_SERIES];

    for (uint32_t i = 0; i < N_SERIES; i++) {
        char name[16] = "test.a", key[64];
        size_t len;

        name[5] = (char) ('a' + i);
        len = spool_series_key(name, NULL, key, sizeof(key));
        ck_assert_int_eq(spool_series_new(&series[i], i + 1, SPOOL_GAUGE, "1", span_of(key, len)),
                         0);
    }
    ck_assert_int_eq(spool_layout_new(&layout, 1, series, N_SERIES), 0);
    for (uint32_t i = 0; i < N_SERIES; i++)
        (void) spool_series_unref(series[i]);
    ck_assert_int_eq(spool_new(&spool, 1u << 20), 0);
}

static void tear_down(void)
{
    (void) spool_free(spool);
    (void) spool_layout_unref(layout);
}

/* A batch of 9 samples that says `value`. */
static void put(double value)
{
    double values[N_SERIES] = { value };
    uint32_t absent[] = { 9 };

    ck_assert_int_eq(spool_put(spool, &(struct spool_scrape){ .layout = layout,
                                                              .time = { (int64_t) value },
                                                              .values = values,
                                                              .absent = absent,
                                                              .n_absent = 1 }),
                     0);
}

static void send(uint64_t sequence)
{
    spool_mark_sent(spool, sequence, (uint32_t) (0xc0000000u + sequence));
}

static void expect_batch(uint64_t after, uint64_t sequence, double value)
{
    struct spool_item item;

    ck_assert_int_eq(spool_next(spool, after, &item), 0);
    ck_assert(!item.is_skip);
    ck_assert_uint_eq(item.sequence, sequence);
    ck_assert_uint_eq(item.samples, 9);
    ck_assert_double_eq(item.scrape.values[0], value);
    ck_assert_int_eq(item.scrape.time.us, (int64_t) value);
    ck_assert_uint_eq(item.scrape.n_absent, 1);
    ck_assert_uint_eq(item.scrape.absent[0], 9);
}

static void
expect_skip(uint64_t after, uint64_t through, enum spool_reason reason, uint64_t samples)
{
    struct spool_item item;

    ck_assert_int_eq(spool_next(spool, after, &item), 0);
    ck_assert(item.is_skip);
    ck_assert_uint_eq(item.sequence, through);
    ck_assert_int_eq(item.reason, reason);
    ck_assert_uint_eq(item.samples, samples);
}

static struct spool_ledger ledger(void)
{
    struct spool_ledger ret;

    spool_get_ledger(spool, &ret); /* holds the equation itself */
    return ret;
}

/* What `n` batches take. */
static uint64_t bytes_of(unsigned n)
{
    struct spool *other;
    struct spool *ours = spool;
    uint64_t bytes;

    ck_assert_int_eq(spool_new(&other, 1u << 30), 0);
    spool = other;
    for (unsigned i = 0; i < n; i++)
        put(i);
    bytes = ledger().queued_bytes;
    spool = ours;
    (void) spool_free(other);
    return bytes;
}

START_TEST(batches_come_out_as_they_went_in)
{
    struct spool_item item;

    ck_assert_int_eq(spool_next(spool, 0, &item), SPOOL_EMPTY);
    put(100);
    put(200);
    expect_batch(0, 1, 100);
    expect_batch(1, 2, 200);
    ck_assert_int_eq(spool_next(spool, 2, &item), SPOOL_EMPTY);
    ck_assert_uint_eq(ledger().produced_samples, 18);
    ck_assert_uint_eq(ledger().queued_samples, 18);
    ck_assert_uint_eq(ledger().queued_batches, 2);
}
END_TEST

START_TEST(acknowledged_batches_are_gone_and_their_crc_is_kept)
{
    struct spool_run run;

    spool_get_run(spool, &run);
    ck_assert_uint_eq(run.first_sequence, 1);
    ck_assert_uint_eq(run.last_sequence, 0);
    ck_assert_uint_eq(run.crc32c_before_first, 0);

    put(1);
    put(2);
    put(3);
    send(1);
    send(2);
    ck_assert_int_eq(spool_acknowledge(spool, 2), 0);
    expect_batch(0, 3, 3);
    spool_get_run(spool, &run);
    ck_assert_uint_eq(run.first_sequence, 3);
    ck_assert_uint_eq(run.last_sequence, 3);
    ck_assert_uint_eq(run.crc32c_before_first, 0xc0000002u);
    ck_assert_uint_eq(ledger().acknowledged_samples, 18);

    ck_assert_int_eq(spool_acknowledge(spool, 1), 0); /* late: nothing */
    ck_assert_uint_eq(ledger().acknowledged_samples, 18);
}
END_TEST

START_TEST(an_acknowledgement_of_what_was_never_sent_is_refused)
{
    put(1);
    put(2);
    send(1);
    ck_assert_int_eq(spool_acknowledge(spool, 2), SPOOL_BEYOND);
    ck_assert_uint_eq(ledger().acknowledged_samples, 0);
}
END_TEST

START_TEST(a_full_queue_drops_the_oldest_and_says_so_in_one_skip)
{
    struct spool_run run;

    spool_set_limit(spool, bytes_of(3));
    for (unsigned i = 1; i <= 7; i++)
        put(i);
    expect_skip(0, 4, SPOOL_QUEUE_FULL, 36);
    expect_batch(4, 5, 5);
    expect_batch(5, 6, 6);
    expect_batch(6, 7, 7);
    ck_assert_uint_eq(ledger().dropped_samples, 36);
    ck_assert_uint_eq(ledger().queued_bytes, ledger().limit_bytes);

    send(4);
    ck_assert_int_eq(spool_acknowledge(spool, 4), 0);
    spool_get_run(spool, &run);
    ck_assert_uint_eq(run.first_sequence, 5);
    ck_assert_uint_eq(run.crc32c_before_first, 0xc0000004u);
    ck_assert_uint_eq(ledger().acknowledged_samples, 0);
}
END_TEST

START_TEST(what_was_sent_is_never_dropped)
{
    spool_set_limit(spool, bytes_of(3));
    put(1);
    put(2);
    send(1);
    send(2);
    for (unsigned i = 3; i <= 6; i++)
        put(i);
    expect_batch(0, 1, 1);
    expect_batch(1, 2, 2);
    expect_skip(2, 5, SPOOL_QUEUE_FULL, 27);
    expect_batch(5, 6, 6);
}
END_TEST

START_TEST(a_skip_that_was_sent_does_not_grow)
{
    spool_set_limit(spool, bytes_of(2));
    put(1);
    put(2);
    put(3); /* 1 is dropped */
    send(1);
    put(4);
    put(5); /* 2 and 3 are dropped */
    expect_skip(0, 1, SPOOL_QUEUE_FULL, 9);
    expect_skip(1, 3, SPOOL_QUEUE_FULL, 18);
    expect_batch(3, 4, 4);
}
END_TEST

START_TEST(a_batch_that_is_larger_than_the_queue_is_dropped_itself)
{
    spool_set_limit(spool, 10);
    put(1);
    expect_skip(0, 1, SPOOL_QUEUE_FULL, 9);
    ck_assert_uint_eq(ledger().queued_batches, 0);
    ck_assert_uint_eq(ledger().dropped_samples, 9);
}
END_TEST

START_TEST(the_limit_holds_layouts_and_new_series_too)
{
    uint64_t one = bytes_of(1), two = bytes_of(2), record = two - one;
    struct spool_series *series;
    struct spool_layout *wider, *ours = layout;
    size_t len;
    char key[64];

    /* The layout stays charged when the batch that brought it is gone. */
    spool_set_limit(spool, two);
    put(1);
    put(2);
    send(1);
    ck_assert_int_eq(spool_acknowledge(spool, 1), 0);
    ck_assert_uint_eq(ledger().queued_bytes, one);
    put(3);
    put(4);
    ck_assert_uint_eq(ledger().queued_batches, 2);
    ck_assert_uint_eq(ledger().queued_bytes, two);

    /* A series that came later is charged with the first layout that has it. */
    spool_set_limit(spool, 1u << 20);
    len = spool_series_key("test.later", NULL, key, sizeof(key));
    ck_assert_int_eq(spool_series_new(&series, 99, SPOOL_GAUGE, "1", span_of(key, len)), 0);
    layout->series[N_SERIES - 1] = (spool_series_unref(layout->series[N_SERIES - 1]), series);
    ck_assert_int_eq(spool_layout_new(&wider, 2, layout->series, N_SERIES), 0);
    layout = wider;
    put(5);
    ck_assert_uint_gt(ledger().queued_bytes, two + record + len);
    layout = ours;
    (void) spool_layout_unref(wider);
    for (uint64_t i = 3; i <= 5; i++)
        send(i);
    ck_assert_int_eq(spool_acknowledge(spool, 5), 0);
    ck_assert_uint_eq(ledger().queued_bytes, 0);
}
END_TEST

START_TEST(a_refused_batch_becomes_a_skip_in_its_place)
{
    put(1);
    put(2);
    put(3);
    send(1);
    send(2);
    send(3);
    ck_assert_int_eq(spool_acknowledge(spool, 1), 0);
    ck_assert_int_eq(spool_refuse(spool, 2), 0);
    expect_skip(1, 2, SPOOL_REFUSED, 9);
    expect_batch(2, 3, 3);
    ck_assert_uint_eq(ledger().refused_samples, 9);
    ck_assert_uint_eq(ledger().dropped_samples, 9);
    ck_assert_int_eq(spool_refuse(spool, 2), SPOOL_EMPTY); /* it is a skip already */
    ck_assert_int_eq(spool_refuse(spool, 9), SPOOL_EMPTY);
}
END_TEST

START_TEST(a_restart_keeps_what_is_not_acknowledged_under_a_new_id)
{
    struct spool_run before, after;

    spool_set_limit(spool, bytes_of(3));
    for (unsigned i = 1; i <= 6; i++)
        put(i); /* 1 to 3 are one skip */
    send(3);
    send(4);
    ck_assert_int_eq(spool_acknowledge(spool, 3), 0);
    spool_get_run(spool, &before);

    spool_restart(spool);
    spool_get_run(spool, &after);
    ck_assert_mem_ne(before.id, after.id, SPOOL_ID_BYTES);
    ck_assert_uint_eq(after.first_sequence, 1);
    ck_assert_uint_eq(after.last_sequence, 3);
    ck_assert_uint_eq(after.crc32c_before_first, 0);
    expect_batch(0, 1, 4);
    expect_batch(2, 3, 6);
    ck_assert_int_eq(spool_acknowledge(spool, 1), SPOOL_BEYOND); /* nothing of it was sent */
    put(7);
    expect_skip(0, 1, SPOOL_QUEUE_FULL, 9);
}
END_TEST

START_TEST(series_keys_tell_names_from_attributes)
{
    struct spool_attribute attributes[] = { { "key", "value" }, { "k", "" }, { NULL, NULL } };
    struct spool_series *series;
    char key[64];
    size_t len = spool_series_key("name", attributes, key, sizeof(key));

    ck_assert_uint_eq(len, 5 + 4 + 6 + 2 + 1);
    ck_assert_uint_eq(spool_series_key("name", attributes, NULL, 0), len);
    ck_assert_int_eq(spool_series_new(&series, 7, SPOOL_COUNTER, "By", span_of(key, len)), 0);
    ck_assert_str_eq(series->name, "name");
    ck_assert_str_eq(series->unit, "By");
    ck_assert_uint_eq(series->n_attributes, 2);
    ck_assert_str_eq(series->attributes[0].key, "key");
    ck_assert_str_eq(series->attributes[0].value, "value");
    ck_assert_str_eq(series->attributes[1].key, "k");
    ck_assert_str_eq(series->attributes[1].value, "");
    ck_assert_ptr_null(spool_series_unref(series));
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("agent/spool");
    TCase *queue = tcase_create("queue");

    tcase_add_checked_fixture(queue, set_up, tear_down);
    tcase_add_test(queue, batches_come_out_as_they_went_in);
    tcase_add_test(queue, acknowledged_batches_are_gone_and_their_crc_is_kept);
    tcase_add_test(queue, an_acknowledgement_of_what_was_never_sent_is_refused);
    tcase_add_test(queue, a_full_queue_drops_the_oldest_and_says_so_in_one_skip);
    tcase_add_test(queue, what_was_sent_is_never_dropped);
    tcase_add_test(queue, a_skip_that_was_sent_does_not_grow);
    tcase_add_test(queue, a_batch_that_is_larger_than_the_queue_is_dropped_itself);
    tcase_add_test(queue, the_limit_holds_layouts_and_new_series_too);
    tcase_add_test(queue, a_refused_batch_becomes_a_skip_in_its_place);
    tcase_add_test(queue, a_restart_keeps_what_is_not_acknowledged_under_a_new_id);
    tcase_add_test(queue, series_keys_tell_names_from_attributes);
    suite_add_tcase(s, queue);
    return s;
}
