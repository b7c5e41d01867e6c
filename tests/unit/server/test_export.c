/* SPDX-License-Identifier: Apache-2.0 */
#include "server/export/export.h"

#include "server/export/batch.h"
#include "server/export/encode.h"
#include "server/export/pace.h"
#include "suite.h"
#include "test_query_rig.h"

#define STALE UINT64_C(0x7ff0000000000002)

/* ---- encode ---- */

static struct buf before, behind, text;

static void begin_encode(void)
{
    before = behind = text = (struct buf){ 0 };
}

static void end_encode(void)
{
    buf_deinit(&before);
    buf_deinit(&behind);
    buf_deinit(&text);
}

/* The bytes of a text that the next byte of a literal would otherwise run into. */
#define HAS(buf, literal) \
    ck_assert(span_equal(buf_span(buf), span_of(literal, sizeof(literal) - 1)))

START_TEST(labels_come_in_order_around_the_agent)
{
    static const struct prom_label own[] = { { "Zone", "a" }, { "agent_x", "b" }, { "cpu", "0" } };

    encode_labels(&before, &behind, "m", own, 3, NULL, 0);
    HAS(&before, "\x0a\x09\x0a\x04Zone\x12\x01"
                 "a"
                 "\x0a\x0d\x0a\x08__name__\x12\x01m");
    HAS(&behind, "\x0a\x0c\x0a\x07"
                 "agent_x\x12\x01"
                 "b"
                 "\x0a\x08\x0a\x03"
                 "cpu\x12\x01"
                 "0");
}
END_TEST

START_TEST(a_series_without_attributes_has_its_name)
{
    encode_labels(&before, &behind, "up", NULL, 0, NULL, 0);
    HAS(&before, "\x0a\x0e\x0a\x08__name__\x12\x02up");
    ck_assert_uint_eq(behind.len, 0);
}
END_TEST

START_TEST(labels_of_the_settings_give_way_to_the_series_own)
{
    static const struct prom_label own[] = { { "b", "own" }, { "d", "" } };
    static const struct prom_label more[] = { { "a", "1" }, { "b", "2" }, { "c", "3" } };

    encode_labels(&before, &behind, "m", own, 2, more, 3);
    HAS(&before, "\x0a\x0d\x0a\x08__name__\x12\x01m"
                 "\x0a\x06\x0a\x01"
                 "a\x12\x01"
                 "1");
    HAS(&behind, "\x0a\x08\x0a\x01"
                 "b\x12\x03own"
                 "\x0a\x06\x0a\x01"
                 "c\x12\x01"
                 "3");
}
END_TEST

START_TEST(a_long_value_has_a_long_length)
{
    char value[301];

    memset(value, 'v', 300);
    value[300] = '\0';
    encode_label(&text, "n", value);
    ck_assert_uint_eq(text.len, 1 + 2 + 3 + 3 + 300);
    ck_assert_mem_eq(text.data, "\x0a\xb2\x02\x0a\x01n\x12\xac\x02vvv", 12);
}
END_TEST

START_TEST(samples_have_their_bits_and_milliseconds)
{
    const struct encode_sample samples[] = { { UINT64_C(0x3ff0000000000000), 1 },
                                             { UINT64_C(0x7ff8dead00000001), 1790000000000 },
                                             { 0, -1 } };
    const struct encode_series series = { .before = span_of_text("B"),
                                          .agent = span_of_text("A"),
                                          .behind = span_of_text("C") };

    encode_series(&text, &series, samples, 3);
    HAS(&text,
        "\x0a\x38"
        "BAC"
        "\x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\x01"
        "\x12\x10\x09\x01\x00\x00\x00\xad\xde\xf8\x7f\x10\x80\xd8\xc1\xa2\x8c\x34"
        "\x12\x14\x09\x00\x00\x00\x00\x00\x00\x00\x00\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
}
END_TEST

START_TEST(a_stale_marker_is_not_made_by_accident)
{
    const struct encode_sample samples[] = { { STALE, 1 }, { STALE + 1, 1 } };
    const struct encode_series series = { .before = { 0 } };

    encode_series(&text, &series, samples, 2);
    HAS(&text, "\x0a\x1a"
               "\x12\x0b\x09\x01\x00\x00\x00\x00\x00\xf8\x7f\x10\x01"
               "\x12\x0b\x09\x03\x00\x00\x00\x00\x00\xf0\x7f\x10\x01");
}
END_TEST

START_TEST(times_are_rounded_down)
{
    ck_assert_int_eq(encode_ms(1999), 1);
    ck_assert_int_eq(encode_ms(2000), 2);
    ck_assert_int_eq(encode_ms(-1), -1);
    ck_assert_int_eq(encode_ms(-1000), -1);
    ck_assert_int_eq(encode_ms(-1001), -2);
}
END_TEST

/* ---- pace ---- */

static const struct {
    unsigned status;
    enum pace_class class;
} statuses[] = {
    { 200, PACE_ACCEPTED }, { 204, PACE_ACCEPTED }, { 301, PACE_DENIED },  { 400, PACE_BAD },
    { 401, PACE_DENIED },   { 403, PACE_DENIED },   { 404, PACE_DENIED },  { 408, PACE_THROTTLED },
    { 409, PACE_REFUSED },  { 413, PACE_LARGE },    { 422, PACE_REFUSED }, { 429, PACE_THROTTLED },
    { 500, PACE_SERVER },   { 503, PACE_SERVER },   { 599, PACE_SERVER },
};

START_TEST(a_status_says_whether_to_come_again)
{
    ck_assert_int_eq(pace_classify(statuses[_i].status), statuses[_i].class);
    ck_assert_int_gt(strlen(pace_remedy(statuses[_i].class)), 0);
}
END_TEST

START_TEST(pauses_double_up_to_half_a_minute)
{
    ck_assert_int_eq(pace_wait_us(1, 0, 0.5), 250000);
    ck_assert_int_eq(pace_wait_us(2, 0, 0.5), 500000);
    ck_assert_int_eq(pace_wait_us(7, 0, 0.5), 16 * S);
    ck_assert_int_eq(pace_wait_us(8, 0, 0.5), 30 * S);
    ck_assert_int_eq(pace_wait_us(UINT32_MAX, 0, 0.5), 30 * S);
    ck_assert_int_eq(pace_wait_us(1, 0, 0), 200000);
    ck_assert_int_lt(pace_wait_us(1, 0, 0.999), 300001);
}
END_TEST

START_TEST(what_was_asked_for_is_kept)
{
    ck_assert_int_eq(pace_wait_us(1, 5 * S, 0), 5 * S);
    ck_assert_int_eq(pace_wait_us(1, 5 * S, 0.5), 5 * S + S / 4);
    ck_assert_int_eq(pace_wait_us(8, S, 0.5), 30 * S);
}
END_TEST

START_TEST(retry_after_is_seconds_or_a_date)
{
    const wall_us now = { INT64_C(1445412480) * S }; /* RFC 9110's Wed, 21 Oct 2015 07:28:00 */

    ck_assert_int_eq(pace_retry_after_us("120", now), 120 * S);
    ck_assert_int_eq(pace_retry_after_us("0", now), 0);
    ck_assert_int_eq(pace_retry_after_us("99999999999", now), PACE_MAX_ASKED_US);
    ck_assert_int_eq(pace_retry_after_us("Wed, 21 Oct 2015 07:28:30 GMT", now), 30 * S);
    ck_assert_int_eq(pace_retry_after_us("Wed, 21 Oct 2015 07:27:00 GMT", now), 0);
    ck_assert_int_eq(pace_retry_after_us("Thu, 22 Oct 2015 07:28:00 GMT", now), PACE_MAX_ASKED_US);
    ck_assert_int_eq(pace_retry_after_us("soon", now), 0);
    ck_assert_int_eq(pace_retry_after_us("-1", now), 0);
    ck_assert_int_eq(pace_retry_after_us("", now), 0);
    ck_assert_int_eq(pace_retry_after_us(NULL, now), 0);
}
END_TEST

/* ---- batches ---- */

static struct batch *batch;
static struct buf body;
static uint32_t layouts[2];

static void begin_batch(void)
{
    static const struct store_attribute zero = { "place", "0" }, one = { "place", "1" };
    static const struct store_definition definitions[] = {
        { .name = "m", .kind = STORE_GAUGE, .unit = "", .attributes = &zero, .n_attributes = 1 },
        { .name = "m", .kind = STORE_GAUGE, .unit = "", .attributes = &one, .n_attributes = 1 },
    };

    open_empty_store();
    layouts[0] = layout_of_all(definitions, 2);
    layouts[1] = layout_of_all(definitions, 1);
    text = body = (struct buf){ 0 };
    ck_assert_int_eq(batch_new(&batch, store, NULL, 0), 0);
}

static void end_batch(void)
{
    batch = batch_free(batch);
    buf_deinit(&body);
    buf_deinit(&text);
    close_store();
}

static bool put_absent(const char *agent,
                       uint32_t layout,
                       int64_t ms,
                       const double *values,
                       const uint32_t *absent,
                       uint32_t n_absent)
{
    const struct store_followed row = { .agent = agent_of(agent),
                                        .layout = layouts[layout],
                                        .time_us = ms * 1000,
                                        .n_values = layout == 0 ? 2 : 1,
                                        .n_absent = n_absent,
                                        .values = (const uint8_t *) values,
                                        .absent = (const uint8_t *) absent };

    return batch_add(batch, &row, 100);
}

static bool put(const char *agent, uint32_t layout, int64_t ms, double value)
{
    const double values[] = { value, value + 100 };

    return put_absent(agent, layout, ms, values, NULL, 0);
}

static uint64_t take_varint(struct span *from)
{
    uint64_t value = 0;

    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = *from->data++;

        ck_assert_uint_gt(from->len--, 0);
        value |= (uint64_t) (byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

/* The next field's content, by length. */
static struct span take_field(struct span *from, uint8_t tag)
{
    ck_assert_uint_eq(take_varint(from), tag);
    size_t len = take_varint(from);
    struct span field = span_of(from->data, len);

    ck_assert_uint_le(len, from->len);
    from->data += len;
    from->len -= len;
    return field;
}

/* The next request: "web-1/0: 1@5 2@6; " for each series. */
static const char *request(uint32_t max_samples)
{
    size_t n_samples = 0;

    buf_clear(&body);
    buf_clear(&text);
    ck_assert_int_eq(batch_put_request(batch, max_samples, &body, &n_samples), 0);
    for (struct span rest = buf_span(&body); rest.len > 0;) {
        struct span series = take_field(&rest, 0x0a);
        const char *part = "";

        while (series.len > 0 && series.data[0] == 0x0a) {
            struct span label = take_field(&series, 0x0a), name = take_field(&label, 0x0a);
            struct span value = take_field(&label, 0x12);

            if (span_equal(name, span_of_text("__name__")))
                continue;
            buf_append_text(&text, part);
            buf_append_span(&text, value);
            part = "/";
        }
        buf_append_text(&text, ":");
        while (series.len > 0) {
            struct span sample = take_field(&series, 0x12);
            double value;

            memcpy(&value, sample.data + 1, sizeof(value));
            sample = span_of(sample.data + 10, sample.len - 10);
            buf_printf(&text, " %g@%llu", value, (unsigned long long) take_varint(&sample));
            n_samples--;
        }
        buf_append_text(&text, "; ");
    }
    ck_assert_uint_eq(n_samples, 0);
    return buf_text(&text);
}

START_TEST(rows_of_one_layout_share_their_labels)
{
    ck_assert(put("a", 0, 1, 1) && put("b", 0, 1, 2) && put("a", 0, 2, 3));
    ck_assert_str_eq(request(100), "a/0: 1@1 3@2; a/1: 101@1 103@2; b/0: 2@1; b/1: 102@1; ");
    ck_assert_str_eq(request(100), "");
}
END_TEST

START_TEST(an_agents_rows_keep_their_order_over_layouts)
{
    ck_assert(put("a", 0, 1, 1) && put("a", 1, 2, 2) && put("a", 0, 3, 3));
    ck_assert_str_eq(request(100), "a/0: 1@1; a/1: 101@1; a/0: 2@2; a/0: 3@3; a/1: 103@3; ");
}
END_TEST

START_TEST(absent_values_are_left_out)
{
    static const double values[] = { 1, 2 };
    static const uint32_t first = 0, both[] = { 0, 1 }, second = 1;

    ck_assert(put_absent("a", 0, 1, values, &first, 1));
    ck_assert(put_absent("a", 0, 2, values, both, 2));
    ck_assert(put_absent("a", 0, 3, values, &second, 1));
    ck_assert(put_absent("a", 0, 4, values, NULL, 0));
    ck_assert_str_eq(request(100), "a/0: 1@3 1@4; a/1: 2@1 2@4; ");
}
END_TEST

START_TEST(a_large_batch_becomes_several_requests)
{
    ck_assert(put("a", 0, 1, 1) && put("a", 0, 2, 2) && put("b", 0, 1, 3));
    ck_assert_str_eq(request(3), "a/0: 1@1 2@2; ");
    ck_assert_str_eq(request(3), "a/1: 101@1 102@2; b/0: 3@1; ");
    ck_assert_str_eq(request(3), "b/1: 103@1; ");
    ck_assert_str_eq(request(3), "");
    batch_rewind(batch);
    ck_assert_str_eq(request(3), "a/0: 1@1 2@2; ");
    batch_rewind(batch);
    ck_assert_str_eq(request(1), "a/0: 1@1 2@2; "); /* one series always fits */
}
END_TEST

START_TEST(a_full_batch_takes_no_row_and_an_empty_one_any)
{
    const double values[] = { 1, 2 };
    struct store_followed row = { .agent = agent_of("a"),
                                  .layout = layouts[0],
                                  .n_values = 2,
                                  .values = (const uint8_t *) values };

    ck_assert(batch_add(batch, &row, 1));
    ck_assert(!batch_add(batch, &row, 3));
    ck_assert(batch_add(batch, &row, 4));
    ck_assert(!batch_is_empty(batch));
    batch_clear(batch);
    ck_assert(batch_is_empty(batch));
    ck_assert_str_eq(request(100), "");
}
END_TEST

START_TEST(a_row_that_does_not_fit_its_layout_is_counted)
{
    const double values[] = { 1, 2 };
    struct store_followed row = { .agent = agent_of("a"),
                                  .layout = layouts[1],
                                  .n_values = 2,
                                  .values = (const uint8_t *) values };

    ck_assert(batch_add(batch, &row, 100));
    row.layout = 4711;
    ck_assert(batch_add(batch, &row, 100));
    ck_assert(batch_is_empty(batch));
    ck_assert_uint_eq(batch_n_unreadable(batch), 2);
}
END_TEST

/* ---- the suite ---- */

static TCase *case_encode(void)
{
    TCase *tcase = tcase_create("encode");

    tcase_add_checked_fixture(tcase, begin_encode, end_encode);
    tcase_add_test(tcase, labels_come_in_order_around_the_agent);
    tcase_add_test(tcase, a_series_without_attributes_has_its_name);
    tcase_add_test(tcase, labels_of_the_settings_give_way_to_the_series_own);
    tcase_add_test(tcase, a_long_value_has_a_long_length);
    tcase_add_test(tcase, samples_have_their_bits_and_milliseconds);
    tcase_add_test(tcase, a_stale_marker_is_not_made_by_accident);
    tcase_add_test(tcase, times_are_rounded_down);
    return tcase;
}

static TCase *case_pace(void)
{
    TCase *tcase = tcase_create("pace");

    tcase_add_loop_test(tcase, a_status_says_whether_to_come_again, 0,
                        sizeof(statuses) / sizeof(statuses[0]));
    tcase_add_test(tcase, pauses_double_up_to_half_a_minute);
    tcase_add_test(tcase, what_was_asked_for_is_kept);
    tcase_add_test(tcase, retry_after_is_seconds_or_a_date);
    return tcase;
}

static TCase *case_batch(void)
{
    TCase *tcase = tcase_create("batch");

    tcase_add_checked_fixture(tcase, begin_batch, end_batch);
    tcase_add_test(tcase, rows_of_one_layout_share_their_labels);
    tcase_add_test(tcase, an_agents_rows_keep_their_order_over_layouts);
    tcase_add_test(tcase, absent_values_are_left_out);
    tcase_add_test(tcase, a_large_batch_becomes_several_requests);
    tcase_add_test(tcase, a_full_batch_takes_no_row_and_an_empty_one_any);
    tcase_add_test(tcase, a_row_that_does_not_fit_its_layout_is_counted);
    return tcase;
}

Suite *suite(void)
{
    Suite *all = suite_create("server/export");

    suite_add_tcase(all, case_encode());
    suite_add_tcase(all, case_pace());
    suite_add_tcase(all, case_batch());
    return all;
}
