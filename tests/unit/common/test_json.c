/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json/json.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"

static struct buf out;
static struct json_writer writer;

static void begin(void)
{
    out = (struct buf){ 0 };
    json_begin(&writer, &out, false);
}

static void end(void)
{
    buf_deinit(&out);
}

/* What one value is written as, without the array around it. */
static const char *written(void)
{
    return buf_text(&out);
}

START_TEST(objects_and_arrays_nest_with_commas_where_they_belong)
{
    json_open_object(&writer);
    json_put_text(&writer, "name", "web-1");
    json_put_u64(&writer, "big", UINT64_MAX);
    json_put_i64(&writer, "small", INT64_MIN);
    json_put_bool(&writer, "up", true);
    json_key(&writer, "list");
    json_open_array(&writer);
    json_null(&writer);
    json_bool(&writer, false);
    json_open_object(&writer);
    json_close_object(&writer);
    json_open_array(&writer);
    json_close_array(&writer);
    json_close_array(&writer);
    json_put_f64(&writer, "load", 0.5);
    json_close_object(&writer);
    ck_assert_str_eq(written(), "{\"name\":\"web-1\",\"big\":18446744073709551615,"
                                "\"small\":-9223372036854775808,\"up\":true,"
                                "\"list\":[null,false,{},[]],\"load\":0.5}");
}
END_TEST

START_TEST(pretty_output_breaks_lines_but_not_in_empty_containers)
{
    json_begin(&writer, &out, true);
    json_open_object(&writer);
    json_key(&writer, "a");
    json_open_array(&writer);
    json_u64(&writer, 1);
    json_u64(&writer, 2);
    json_close_array(&writer);
    json_key(&writer, "b");
    json_open_object(&writer);
    json_close_object(&writer);
    json_close_object(&writer);
    ck_assert_str_eq(written(), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
}
END_TEST

START_TEST(text_is_escaped_and_bad_bytes_become_replacement_characters)
{
    static const struct {
        const char *text;
        const char *json;
    } rows[] = {
        { "", "\"\"" },
        { "a\"b\\c/", "\"a\\\"b\\\\c/\"" },
        { "\n\r\t\b\f\x01\x1f\x7f", "\"\\n\\r\\t\\b\\f\\u0001\\u001f\\u007f\"" },
        { "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7",
          "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7\"" },
        { "a\xff"
          "b",
          "\"a\xef\xbf\xbd"
          "b\"" },
        { "\xc3", "\"\xef\xbf\xbd\"" },                                 /* cut */
        { "\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"" },                 /* overlong */
        { "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" }, /* surrogate */
        { "\xf4\x90\x80\x80",
          "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" }, /* too high */
        { "\xe2\x82\"", "\"\xef\xbf\xbd\xef\xbf\xbd\\\"\"" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        buf_clear(&out);
        json_begin(&writer, &out, false);
        json_text(&writer, rows[i].text);
        ck_assert_str_eq(written(), rows[i].json);
    }
}
END_TEST

START_TEST(what_a_terminal_would_act_upon_is_escaped)
{
    CLEANUP(json_freep) struct json *read = NULL;
    const char *sly = "\xc2\x9b"
                      "31m \xe2\x80\xae \xe2\x80\xa8 \xf3\xa0\x80\x81 \xc3\xa4 \xf0\x9f\x98\x80";
    struct json_error error;

    json_open_object(&writer);
    json_put_text(&writer, "a", sly);
    json_close_object(&writer);
    ck_assert_str_eq(written(), "{\"a\":\"\\u009b31m \\u202e \\u2028 \\udb40\\udc01 \xc3\xa4 "
                                "\xf0\x9f\x98\x80\"}");
    ck_assert_int_eq(json_parse(&read, buf_span(&out), &error), 0);
    ck_assert_str_eq(json_get_text(json_member(read, "a"), ""), sly);
}
END_TEST

START_TEST(spans_are_text_that_may_hold_nul)
{
    json_open_array(&writer);
    json_span(&writer, span_of("\0a\0\0\xffz\0", 7));
    json_span(&writer, span_of(NULL, 0));
    json_span(&writer, span_of("abcdef", 3));
    json_close_array(&writer);
    ck_assert_str_eq(written(), "[\"\\u0000a\\u0000\\u0000\xef\xbf\xbdz\\u0000\",\"\",\"abc\"]");
}
END_TEST

START_TEST(doubles_are_written_in_the_fewest_digits_that_read_back)
{
    static const struct {
        double value;
        const char *json;
    } rows[] = {
        { 0, "0" },
        { -0.0, "-0" },
        { 0.1, "0.1" },
        { 100, "100" },
        { -2.5, "-2.5" },
        { 1.0 / 3, "0.3333333333333333" },
        { 0.1 + 0.2, "0.30000000000000004" },
        { 9007199254740993.0, "9007199254740992" },
        { 1e22, "1e22" },
        { 1.5e300, "1.5e300" },
        { 0.00001, "0.00001" },
        { 1e-7, "1e-7" },
        { 5e-324, "5e-324" },
        { DBL_MAX, "1.7976931348623157e308" },
        { NAN, "\"NaN\"" },
        { INFINITY, "\"Infinity\"" },
        { -INFINITY, "\"-Infinity\"" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        buf_clear(&out);
        json_begin(&writer, &out, false);
        json_f64(&writer, rows[i].value);
        ck_assert_str_eq(written(), rows[i].json);
        if (isfinite(rows[i].value))
            ck_assert(strtod(written(), NULL) == rows[i].value);
    }
}
END_TEST

START_TEST(many_doubles_read_back_the_same)
{
    uint64_t state = 88172645463325252ULL; /* xorshift64 */

    for (int i = 0; i < 20000; i++) {
        double value;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(&value, &state, sizeof(value));
        if (!isfinite(value))
            continue;
        buf_clear(&out);
        json_begin(&writer, &out, false);
        json_f64(&writer, value);
        ck_assert_msg(strtod(written(), NULL) == value, "%s is not %.17g", written(), value);
    }
}
END_TEST

/* ---- reading ---- */

static int parse(struct json **ret, const char *text, struct json_error *error)
{
    return json_parse(ret, span_of_text(text), error);
}

START_TEST(what_was_written_is_read_back)
{
    CLEANUP(json_freep) struct json *json = NULL;
    struct json_error error;

    json_open_object(&writer);
    json_put_text(&writer, "text", "\"gr\xc3\xbc\xc3\x9f\"\n");
    json_put_i64(&writer, "number", -42);
    json_put_f64(&writer, "real", 0.25);
    json_put_bool(&writer, "yes", true);
    json_key(&writer, "list");
    json_open_array(&writer);
    json_text(&writer, "a");
    json_text(&writer, "b");
    json_close_array(&writer);
    json_close_object(&writer);

    ck_assert_int_eq(json_parse(&json, buf_span(&out), &error), 0);
    ck_assert_uint_eq(json_count(json), 5);
    ck_assert_str_eq(json_get_text(json_member(json, "text"), ""), "\"gr\xc3\xbc\xc3\x9f\"\n");
    ck_assert_int_eq(json_get_i64(json_member(json, "number"), 0), -42);
    ck_assert(json_get_f64(json_member(json, "real"), 0) == 0.25);
    ck_assert(json_get_f64(json_member(json, "number"), 0) == -42.0);
    ck_assert(json_get_bool(json_member(json, "yes"), false));
    ck_assert_uint_eq(json_count(json_member(json, "list")), 2);
    ck_assert_str_eq(json_get_text(json_item(json_member(json, "list"), 1), ""), "b");
}
END_TEST

START_TEST(absent_and_of_another_type_answer_with_the_fallback)
{
    CLEANUP(json_freep) struct json *json = NULL;
    struct json_error error;

    ck_assert_int_eq(parse(&json, "{\"a\":1.5,\"b\":[],\"c\":null}", &error), 0);
    ck_assert_ptr_null(json_member(json, "x"));
    ck_assert_ptr_null(json_member(json_member(json, "x"), "y"));
    ck_assert_ptr_null(json_member(json_member(json, "a"), "y"));
    ck_assert_ptr_null(json_item(json_member(json, "b"), 0));
    ck_assert_ptr_null(json_item(json, 0));
    ck_assert_uint_eq(json_count(NULL), 0);
    ck_assert_uint_eq(json_count(json_member(json, "a")), 0);
    ck_assert_str_eq(json_get_text(json_member(json, "a"), "none"), "none");
    ck_assert_int_eq(json_get_i64(json_member(json, "a"), 7), 7);
    ck_assert(json_get_f64(json_member(json, "b"), 7) == 7.0);
    ck_assert(json_get_bool(json_member(json, "c"), true));
    ck_assert(json_get_bool(NULL, true));
}
END_TEST

START_TEST(what_is_not_json_is_refused_with_its_place)
{
    struct json *json = NULL;
    struct json_error error;

    ck_assert_int_eq(parse(&json, "{\n  \"a\": 1,\n  \"a\": 2\n}", &error), JSON_BAD);
    ck_assert_str_eq(error.text, "3:5: duplicate object key near '\"a\"'");
    ck_assert_int_eq(parse(&json, "", &error), JSON_BAD);
    ck_assert_int_eq(parse(&json, "{} {}", &error), JSON_BAD);
    ck_assert_int_eq(parse(&json, "[1,]", &error), JSON_BAD);
    ck_assert_int_eq(parse(&json, "[01]", &error), JSON_BAD);
    ck_assert_int_eq(parse(&json, "\"\xff\"", &error), JSON_BAD);
    ck_assert_int_eq(parse(&json, "\"\\ud800\"", &error), JSON_BAD);
    ck_assert_int_eq(parse(&json, "\"a\\u0000b\"", &error), JSON_BAD);
    ck_assert_int_eq(parse(&json, "[NaN]", &error), JSON_BAD);
    ck_assert_ptr_null(json);
}
END_TEST

START_TEST(nesting_of_64_is_read_and_of_65_refused)
{
    char text[2 * 65 + 1];
    struct json *json = NULL;
    struct json_error error;

    for (size_t depth = 64; depth <= 65; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        text[2 * depth] = '\0';
        ck_assert_int_eq(parse(&json, text, &error), depth == 64 ? 0 : JSON_BAD);
        json = json_free(json);
    }
    ck_assert_str_eq(error.text, "1:65: nested deeper than 64");
    /* Brackets in a text do not count. */
    memset(text, '[', 130);
    text[0] = text[129] = '"';
    text[130] = '\0';
    ck_assert_int_eq(parse(&json, text, &error), 0);
    json_free(json);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("common/json");
    TCase *writing = tcase_create("writing");
    TCase *reading = tcase_create("reading");

    tcase_add_checked_fixture(writing, begin, end);
    tcase_add_test(writing, objects_and_arrays_nest_with_commas_where_they_belong);
    tcase_add_test(writing, pretty_output_breaks_lines_but_not_in_empty_containers);
    tcase_add_test(writing, text_is_escaped_and_bad_bytes_become_replacement_characters);
    tcase_add_test(writing, spans_are_text_that_may_hold_nul);
    tcase_add_test(writing, doubles_are_written_in_the_fewest_digits_that_read_back);
    tcase_add_test(writing, what_a_terminal_would_act_upon_is_escaped);
    tcase_add_test(writing, many_doubles_read_back_the_same);
    suite_add_tcase(s, writing);

    tcase_add_checked_fixture(reading, begin, end);
    tcase_add_test(reading, what_was_written_is_read_back);
    tcase_add_test(reading, absent_and_of_another_type_answer_with_the_fallback);
    tcase_add_test(reading, what_is_not_json_is_refused_with_its_place);
    tcase_add_test(reading, nesting_of_64_is_read_and_of_65_refused);
    suite_add_tcase(s, reading);
    return s;
}
