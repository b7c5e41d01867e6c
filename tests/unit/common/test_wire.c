/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/base/fault.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sentinel/query/v1/query.pb-c.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"
#include "suite.h"

#define REQUEST (&sentinel__telemetry__v1__stream_metrics_request__descriptor)
#define BATCH (&sentinel__telemetry__v1__metric_batch__descriptor)

#define GOOD_BYTES 160 /* more than good_request(3) takes */

static struct arena arena;
static struct wire_problem problem;
static ProtobufCMessage *message;

static void setup(void)
{
    arena_init(&arena, wire_arena_limit(0));
    memset(&problem, 'x', sizeof(problem));
    message = NULL;
}

static void teardown(void)
{
    arena_deinit(&arena);
}

#define BYTES(...) \
    span_of((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static int unpack(const ProtobufCMessageDescriptor *type, struct span bytes)
{
    return wire_unpack(type, bytes, &arena, &message, &problem);
}

/* A request with a batch of two series, a layout and a scrape of n_values; the caller frees the
 * buffer. */
static struct buf good_request(size_t n_values)
{
    Sentinel__Telemetry__V1__Attribute attribute = SENTINEL__TELEMETRY__V1__ATTRIBUTE__INIT;
    Sentinel__Telemetry__V1__Attribute *attributes[] = { &attribute };
    Sentinel__Telemetry__V1__Series a = SENTINEL__TELEMETRY__V1__SERIES__INIT, b = a;
    Sentinel__Telemetry__V1__Series *series[] = { &a, &b };
    Sentinel__Telemetry__V1__Layout layout = SENTINEL__TELEMETRY__V1__LAYOUT__INIT;
    Sentinel__Telemetry__V1__Layout *layouts[] = { &layout };
    Sentinel__Telemetry__V1__Scrape scrape = SENTINEL__TELEMETRY__V1__SCRAPE__INIT;
    Sentinel__Telemetry__V1__Scrape *scrapes[] = { &scrape };
    Sentinel__Telemetry__V1__MetricBatch batch = SENTINEL__TELEMETRY__V1__METRIC_BATCH__INIT;
    Sentinel__Telemetry__V1__StreamMetricsRequest request =
        SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__INIT;
    char key[] = "cpu", value[] = "0", name_a[] = "system.cpu.time",
         name_b[] = "t\xc3\xa9l\xc3\xa9";
    uint32_t ids[] = { 1, 200 };
    double *values = calloc(n_values, sizeof(*values));
    struct buf bytes = { 0 };

    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < n_values; i++)
        values[i] = (double) i / 3;
    attribute.key = key;
    attribute.value = value;
    a.id = 1;
    a.name = name_a;
    a.kind = SENTINEL__TELEMETRY__V1__KIND__KIND_COUNTER;
    a.n_attributes = 1;
    a.attributes = attributes;
    b.id = 200;
    b.name = name_b;
    layout.id = 7;
    layout.n_series_ids = 2;
    layout.series_ids = ids;
    scrape.time_unix_us = 1795000000000000;
    scrape.layout_id = 7;
    scrape.n_values = n_values;
    scrape.values = values;
    batch.sequence = 42;
    batch.n_series = 2;
    batch.series = series;
    batch.n_layouts = 1;
    batch.layouts = layouts;
    batch.n_scrapes = 1;
    batch.scrapes = scrapes;
    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    ck_assert_int_eq(wire_pack(&request.base, &bytes), 0);
    free(values);
    return bytes;
}

/* ---- unpacking ---- */

START_TEST(unpack_gives_what_was_packed)
{
    CLEANUP(buf_deinit) struct buf bytes = good_request(500);
    CLEANUP(buf_deinit) struct buf again = { 0 };
    const Sentinel__Telemetry__V1__StreamMetricsRequest *request;

    arena_reset(&arena, wire_arena_limit(bytes.len));
    ck_assert_int_eq(unpack(REQUEST, buf_span(&bytes)), WIRE_OK);
    request = (const Sentinel__Telemetry__V1__StreamMetricsRequest *) message;
    ck_assert_int_eq(request->message_case,
                     SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_BATCH);
    ck_assert_uint_eq(request->batch->sequence, 42);
    ck_assert_uint_eq(request->batch->n_series, 2);
    ck_assert_str_eq(request->batch->series[0]->attributes[0]->key, "cpu");
    ck_assert_str_eq(request->batch->series[1]->name, "t\xc3\xa9l\xc3\xa9");
    ck_assert_uint_eq(request->batch->layouts[0]->series_ids[1], 200);
    ck_assert_uint_eq(request->batch->scrapes[0]->n_values, 500);
    ck_assert_double_eq(request->batch->scrapes[0]->values[499], 499.0 / 3);
    ck_assert_int_eq(wire_pack(message, &again), 0);
    ck_assert(span_equal(buf_span(&bytes), buf_span(&again)));
}
END_TEST

START_TEST(unpack_takes_an_empty_message)
{
    ck_assert_int_eq(unpack(REQUEST, span_of(NULL, 0)), WIRE_OK);
    ck_assert_int_eq(
        ((const Sentinel__Telemetry__V1__StreamMetricsRequest *) message)->message_case, 0);
}
END_TEST

START_TEST(unpack_needs_nobody_to_ask_for_the_problem)
{
    ck_assert_int_eq(wire_unpack(REQUEST, BYTES(0x12), &arena, &message, NULL), WIRE_MALFORMED);
    ck_assert_ptr_null(message);
}
END_TEST

START_TEST(pack_appends_behind_what_is_there)
{
    Sentinel__Telemetry__V1__Ack ack = SENTINEL__TELEMETRY__V1__ACK__INIT;
    CLEANUP(buf_deinit) struct buf bytes = { 0 };

    buf_append_text(&bytes, "ab");
    ck_assert_int_eq(wire_pack(&ack.base, &bytes), 0); /* takes no bytes at all */
    ck_assert_uint_eq(bytes.len, 2);
    ack.sequence = 300;
    ck_assert_int_eq(wire_pack(&ack.base, &bytes), 0);
    ck_assert(span_equal(buf_span(&bytes), BYTES('a', 'b', 0x08, 0xac, 0x02)));
}
END_TEST

START_TEST(unpack_says_malformed_wherever_a_message_is_cut)
{
    CLEANUP(buf_deinit) struct buf bytes = good_request(3);
    uint8_t *cut = malloc((size_t) _i + 1); /* of the exact size: a sanitizer sees a read past it */
    int r;

    ck_assert_ptr_nonnull(cut);
    ck_assert_uint_le(bytes.len, GOOD_BYTES);
    if ((size_t) _i < bytes.len) {
        memcpy(cut, bytes.data, (size_t) _i);
        r = unpack(REQUEST, span_of(cut, (size_t) _i));
        ck_assert_int_eq(r, _i == 0 ? WIRE_OK : WIRE_MALFORMED); /* all lies in one outer field */
        if (r)
            ck_assert_str_ne(problem.description, "");
        /* Cut without the outer length, so that the end is met further in: at the ends of fields it
         * is a message. */
        if (_i >= 3) {
            r = unpack(BATCH, span_of(cut + 3, (size_t) _i - 3));
            ck_assert(r == WIRE_OK || r == WIRE_MALFORMED);
        }
    }
    free(cut);
}
END_TEST

START_TEST(unpack_survives_every_changed_byte)
{
    CLEANUP(buf_deinit) struct buf bytes = good_request(3);

    if ((size_t) _i >= bytes.len)
        return;
    for (int change = 1; change < 256; change++) {
        int r;

        arena_reset(&arena, wire_arena_limit(bytes.len));
        bytes.data[_i] ^= (uint8_t) change;
        r = unpack(REQUEST, buf_span(&bytes));
        ck_assert(r == WIRE_OK || r == WIRE_MALFORMED || r == WIRE_BAD_TEXT);
        bytes.data[_i] ^= (uint8_t) change;
    }
}
END_TEST

/* Each row: bytes of a MetricBatch, and where the problem is. */
static const struct {
    const char *what;
    uint8_t bytes[16];
    size_t len;
    const char *field;
} malformed[] = {
    { "field number 0", { 0x00, 0x01 }, 2, "" },
    { "field number 0, written long", { 0x80, 0x00, 0x01 }, 3, "" },
    { "field number 2^29", { 0x80, 0x80, 0x80, 0x80, 0x10, 0x00 }, 6, "" },
    { "a tag of six bytes", { 0x88, 0x80, 0x80, 0x80, 0x80, 0x00, 0x00 }, 7, "" },
    { "a tag alone", { 0x08 }, 1, "" },
    { "a varint of eleven bytes",
      { 0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00 },
      12,
      "" },
    { "a group", { 0x2b, 0x2c }, 2, "" },
    { "an end of no group", { 0x2c }, 1, "" },
    { "wire type 6", { 0x0e }, 1, "" },
    { "wire type 7", { 0x0f }, 1, "" },
    { "sequence as bytes", { 0x0a, 0x01, 0x00 }, 3, "sequence" },
    { "sequence as 64 bits", { 0x09, 0, 0, 0, 0, 0, 0, 0, 0 }, 9, "sequence" },
    { "a sub-message as a number", { 0x12, 0x00, 0x10, 0x00 }, 4, "series[1]" },
    { "the same behind other fields",
      { 0x08, 0x01, 0x12, 0x00, 0x22, 0x00, 0x12, 0x00, 0x10, 0x00 },
      10,
      "series[2]" },
    { "a length past the end", { 0x12, 0x05, 0x08, 0x01 }, 4, "" },
    { "a length past the end, inside", { 0x12, 0x03, 0x12, 0x7f, 'a' }, 5, "series[0]" },
    { "half a double", { 0x22, 0x06, 0x1a, 0x04, 1, 2, 3, 4 }, 8, "scrapes[0].values[0]" },
    { "a packed number cut off",
      { 0x1a, 0x04, 0x12, 0x02, 0x01, 0x80 },
      6,
      "layouts[0].series_ids[0]" },
};

START_TEST(unpack_refuses_what_protobuf_refuses)
{
    ck_assert_msg(unpack(BATCH, span_of(malformed[_i].bytes, malformed[_i].len)) == WIRE_MALFORMED,
                  "%s", malformed[_i].what);
    ck_assert_str_eq(problem.field, malformed[_i].field);
    ck_assert_ptr_null(message);
}
END_TEST

START_TEST(unpack_takes_packed_fields_unpacked_too)
{
    /* layouts { series_ids: 1 series_ids: 2 } as two numbers, then { series_ids: [3] } packed */
    struct span bytes = BYTES(0x1a, 0x07, 0x10, 1, 0x10, 2, 0x12, 1, 3);

    ck_assert_int_eq(unpack(BATCH, bytes), WIRE_OK);
    ck_assert_uint_eq(
        ((const Sentinel__Telemetry__V1__MetricBatch *) message)->layouts[0]->n_series_ids, 3);
    ck_assert_uint_eq(
        ((const Sentinel__Telemetry__V1__MetricBatch *) message)->layouts[0]->series_ids[2], 3);
}
END_TEST

START_TEST(unpack_keeps_unknown_fields)
{
    CLEANUP(buf_deinit) struct buf again = { 0 };
    struct span bytes = BYTES(0x08, 0x01, 0xfa, 0x07, 0x02, 0xff, 0x00);

    ck_assert_int_eq(unpack(BATCH, bytes), WIRE_OK);
    ck_assert_uint_eq(message->n_unknown_fields, 1);
    ck_assert_uint_eq(message->unknown_fields[0].tag, 127);
    ck_assert_int_eq(wire_pack(message, &again), 0);
    ck_assert(span_equal(buf_span(&again), bytes));
}
END_TEST

START_TEST(unpack_refuses_a_missing_required_field)
{
    /* UninterpretedOption { name { } }, whose NamePart is proto2 and requires two */
    ck_assert_int_eq(unpack(&google__protobuf__uninterpreted_option__descriptor, BYTES(0x12, 0x00)),
                     WIRE_MALFORMED);
    ck_assert_str_eq(problem.field, "");
    ck_assert_ptr_nonnull(strstr(problem.description, "google.protobuf.UninterpretedOption"));
}
END_TEST

START_TEST(unpack_merges_a_sub_message_given_twice)
{
    const Sentinel__Query__V1__AgentSelector *agents;

    /* agents { ids: "a" } agents { pattern: "b" } */
    ck_assert_int_eq(unpack(&sentinel__query__v1__list_agents_request__descriptor,
                            BYTES(0x0a, 3, 0x0a, 1, 'a', 0x0a, 3, 0x12, 1, 'b')),
                     WIRE_OK);
    agents = ((const Sentinel__Query__V1__ListAgentsRequest *) message)->agents;
    ck_assert_uint_eq(agents->n_ids, 1);
    ck_assert_str_eq(agents->ids[0], "a");
    ck_assert_str_eq(agents->pattern, "b");
}
END_TEST

START_TEST(unpack_refuses_a_sub_message_with_a_oneof_given_twice)
{
    /* original_request {} original_request {}: legal, but protobuf-c cannot merge them */
    ck_assert_int_eq(unpack(&grpc__reflection__v1__server_reflection_response__descriptor,
                            BYTES(0x12, 0, 0x12, 0)),
                     WIRE_MALFORMED);
}
END_TEST

/* ---- depth ---- */

/* `depth` messages in each other through one field, built from the inside out. The span lies at the
 * end of `room`. */
static struct span nest(uint8_t tag, size_t depth, uint8_t *room, size_t room_bytes)
{
    size_t at = room_bytes;

    for (size_t i = 1; i < depth; i++) {
        size_t len = room_bytes - at;
        uint8_t length[5];
        size_t n = 0;

        for (; len >= 0x80; len >>= 7)
            length[n++] = (uint8_t) (len | 0x80);
        length[n++] = (uint8_t) len;
        ck_assert_uint_ge(at, n + 1);
        at -= n;
        memcpy(room + at, length, n);
        room[--at] = tag;
    }
    return span_of(room + at, room_bytes - at);
}

#define NESTED_TYPE 0x1a /* of DescriptorProto: field 3 */

START_TEST(unpack_takes_nesting_up_to_the_limit)
{
    uint8_t room[256];

    ck_assert_int_eq(unpack(&google__protobuf__descriptor_proto__descriptor,
                            nest(NESTED_TYPE, WIRE_MAX_DEPTH, room, sizeof(room))),
                     WIRE_OK);
    ck_assert_int_eq(unpack(&google__protobuf__descriptor_proto__descriptor,
                            nest(NESTED_TYPE, WIRE_MAX_DEPTH + 1, room, sizeof(room))),
                     WIRE_TOO_DEEP);
}
END_TEST

START_TEST(unpack_says_too_deep_of_ten_thousand_levels)
{
    static uint8_t room[64 * 1024];

    ck_assert_int_eq(unpack(&google__protobuf__descriptor_proto__descriptor,
                            nest(NESTED_TYPE, 10000, room, sizeof(room))),
                     WIRE_TOO_DEEP);
    ck_assert_ptr_nonnull(strstr(problem.field, "nested_type[0].nested_type[0]."));
    ck_assert_uint_eq(strlen(problem.field), sizeof(problem.field) - 1); /* cut, and says so */
    ck_assert_str_eq(problem.field + strlen(problem.field) - 3, "...");
    ck_assert_uint_eq(arena.used_bytes, 0);
}
END_TEST

START_TEST(unpack_does_not_look_into_unknown_fields)
{
    static uint8_t room[64 * 1024];

    /* Field 15 of an Ack, which has none. */
    arena_reset(&arena, wire_arena_limit(sizeof(room)));
    ck_assert_int_eq(
        unpack(&sentinel__telemetry__v1__ack__descriptor, nest(0x7a, 10000, room, sizeof(room))),
        WIRE_OK);
    ck_assert_uint_eq(message->n_unknown_fields, 1);
}
END_TEST

/* ---- amplification ---- */

#define MIB ((size_t) 1024 * 1024)

static void fill(struct buf *bytes, const void *pattern, size_t pattern_len, size_t len)
{
    uint8_t *at = buf_extend(bytes, len);

    ck_assert_ptr_nonnull(at);
    for (size_t i = 0; i + pattern_len <= len; i += pattern_len)
        memcpy(at + i, pattern, pattern_len);
}

/* Each pattern takes far more memory than wire bytes, again and again. */
static const uint8_t amplifiers[][2] = {
    { 0x22, 0x00 }, /* scrapes {} */
    { 0x12, 0x00 }, /* series {} */
    { 0x28, 0x00 }, /* an unknown field */
};

START_TEST(unpack_stays_within_its_arena)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };

    fill(&bytes, amplifiers[_i], 2, 4 * MIB);
    arena_reset(&arena, wire_arena_limit(bytes.len));
    ck_assert_uint_eq(arena.limit_bytes, 64 * MIB);
    ck_assert_int_eq(unpack(BATCH, buf_span(&bytes)), WIRE_TOO_BIG);
    ck_assert_uint_le(arena.used_bytes, arena.limit_bytes);
    ck_assert_str_eq(problem.field, "");
    ck_assert_ptr_nonnull(strstr(problem.description, "67108864 bytes"));
    ck_assert_ptr_null(message);
}
END_TEST

START_TEST(unpack_says_too_big_wherever_the_arena_ends)
{
    CLEANUP(buf_deinit) struct buf bytes = good_request(3);
    size_t limit = 0;
    int r;

    do {
        arena_reset(&arena, limit++);
        r = unpack(REQUEST, buf_span(&bytes));
        ck_assert(r == WIRE_OK || r == WIRE_TOO_BIG);
        ck_assert_uint_lt(limit, 64 * 1024);
    } while (r != WIRE_OK);
    ck_assert_uint_gt(limit, bytes.len);
}
END_TEST

/* AddressSanitizer reserves more address space than the test leaves. */
#ifndef __SANITIZE_ADDRESS__
static int faults;

static void count_fault(int code, struct fault_site site, const char *reason)
{
    (void) site;
    (void) reason;
    ck_assert_int_eq(code, -ENOMEM);
    faults++;
}

START_TEST(unpack_faults_when_memory_ends_before_the_arena)
{
    const struct rlimit limit = { 128 * MIB, 128 * MIB }; /* of this test's own process */
    CLEANUP(buf_deinit) struct buf bytes = { 0 };

    if (getenv("CK_FORK") && strcmp(getenv("CK_FORK"), "no") == 0)
        return;
    fill(&bytes, amplifiers[0], 2, 4 * MIB);
    arena_reset(&arena, SIZE_MAX);
    fault_set_sink(count_fault);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    ck_assert_int_eq(unpack(BATCH, buf_span(&bytes)), -ENOMEM);
    ck_assert_int_eq(faults, 1);
    ck_assert_ptr_null(message);
}
END_TEST
#endif

START_TEST(arena_limit_is_sixteen_times_the_bytes_but_not_less_than_64_kib)
{
    ck_assert_uint_eq(wire_arena_limit(0), 64 * 1024);
    ck_assert_uint_eq(wire_arena_limit(4096), 64 * 1024);
    ck_assert_uint_eq(wire_arena_limit(4097), 16 * 4097);
    ck_assert_uint_eq(wire_arena_limit(SIZE_MAX / 2), SIZE_MAX);
}
END_TEST

/* ---- text ---- */

/* Each row: what becomes the name of series[1]. */
static const struct {
    const char *bytes;
    size_t len;
    int outcome;
} names[] = {
    { "plain", 5, WIRE_OK },
    { "", 0, WIRE_OK },
    { "caf\xc3\xa9", 5, WIRE_OK },
    { "eight by eight, and more \xf0\x9f\x90\x9d", 29, WIRE_OK },
    { "\x7f\x01\x7f\x01\x7f\x01\x7f\x01\x7f", 9, WIRE_OK },
    { "\xff", 1, WIRE_BAD_TEXT },
    { "seven by\x80", 9, WIRE_BAD_TEXT },
    { "in the \xc3 middle of eight", 24, WIRE_BAD_TEXT },
    { "\xed\xa0\x80", 3, WIRE_BAD_TEXT },     /* a surrogate */
    { "\xc0\xaf", 2, WIRE_BAD_TEXT },         /* overlong */
    { "\xf4\x90\x80\x80", 4, WIRE_BAD_TEXT }, /* past U+10FFFF */
    { "cut \xe2\x82", 6, WIRE_BAD_TEXT },
    { "\0", 1, WIRE_BAD_TEXT },
    { "0123456\0", 8, WIRE_BAD_TEXT },
    { "\0"
      "1234567",
      8, WIRE_BAD_TEXT },
    { "caf\xc3\xa9\0", 6, WIRE_BAD_TEXT },
    { "\x01\0\x01\x01\x01\x01\x01\x01", 8, WIRE_BAD_TEXT },
};

START_TEST(strings_are_utf8_without_nul)
{
    uint8_t bytes[128] = {
        0x0a, 0x00,                  /* message.hello, replaced by what follows */
        0x12, 0x00,                  /* batch */
        0x12, 0x03, 0x12, 0x01, 'a', /* series[0].name */
        0x12, 0x00, 0x12, 0x00,      /* series[1].name */
    };
    size_t n = names[_i].len;

    bytes[3] = (uint8_t) (9 + n);
    bytes[10] = (uint8_t) (2 + n);
    bytes[12] = (uint8_t) n;
    memcpy(bytes + 13, names[_i].bytes, n);
    ck_assert_int_eq(unpack(REQUEST, span_of(bytes, 13 + n)), names[_i].outcome);
    if (names[_i].outcome == WIRE_OK) {
        ck_assert_str_eq(((const Sentinel__Telemetry__V1__StreamMetricsRequest *) message)
                             ->batch->series[1]
                             ->name,
                         names[_i].bytes);
        return;
    }
    ck_assert_str_eq(problem.field, "batch.series[1].name");
    ck_assert_str_ne(problem.description, "");
    ck_assert_ptr_null(message);
}
END_TEST

START_TEST(bytes_fields_take_anything)
{
    /* hello { spool_id: ff 00 } */
    ck_assert_int_eq(unpack(REQUEST, BYTES(0x0a, 0x04, 0x0a, 0x02, 0xff, 0x00)), WIRE_OK);
}
END_TEST

START_TEST(text_in_maps_is_checked)
{
    /* ListAgentsRequest { agents { labels { "a": "\xff" } } } */
    ck_assert_int_eq(unpack(&sentinel__query__v1__list_agents_request__descriptor,
                            BYTES(0x0a, 0x08, 0x1a, 0x06, 0x0a, 1, 'a', 0x12, 1, 0xff)),
                     WIRE_BAD_TEXT);
    ck_assert_str_eq(problem.field, "agents.labels[0].value");
}
END_TEST

/* ---- errors ---- */

static int unpack_error(struct span bytes, struct wire_error *ret)
{
    return wire_error_unpack(bytes, &arena, ret);
}

START_TEST(error_comes_back_whole)
{
    const struct wire_error error = {
        .code = 8,
        .message = "send fewer series",
        .reason = "TOO_MANY_SERIES",
        .field = "batch.series[3]",
        .field_description = "the 100001st",
        .quota = "agent_series",
        .quota_description = "100000 series",
        .precondition = "INVENTORY_TABLE",
        .subjects = (const char *const[]){ "packages", "users" },
        .n_subjects = 2,
        .correlation_id = "c-1",
        .retry_after_ms = 61250,
    };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct wire_error back;

    ck_assert_int_eq(wire_error_pack(&error, &bytes), 0);
    ck_assert_int_eq(unpack_error(buf_span(&bytes), &back), 0);
    ck_assert_int_eq(back.code, 8);
    ck_assert_str_eq(back.message, error.message);
    ck_assert_str_eq(back.reason, error.reason);
    ck_assert_str_eq(back.field, error.field);
    ck_assert_str_eq(back.field_description, error.field_description);
    ck_assert_str_eq(back.quota, error.quota);
    ck_assert_str_eq(back.quota_description, error.quota_description);
    ck_assert_str_eq(back.precondition, error.precondition);
    ck_assert_uint_eq(back.n_subjects, 2);
    ck_assert_str_eq(back.subjects[0], "packages");
    ck_assert_str_eq(back.subjects[1], "users");
    ck_assert_str_eq(back.correlation_id, error.correlation_id);
    ck_assert_uint_eq(back.retry_after_ms, 61250);
}
END_TEST

START_TEST(error_without_details_has_none)
{
    const struct wire_error error = { .code = 5 };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    struct wire_error back;

    ck_assert_int_eq(wire_error_pack(&error, &bytes), 0);
    ck_assert(span_equal(buf_span(&bytes), BYTES(0x08, 0x05)));
    ck_assert_int_eq(unpack_error(buf_span(&bytes), &back), 0);
    ck_assert_int_eq(back.code, 5);
    ck_assert_str_eq(back.message, "");
    ck_assert_ptr_null(back.reason);
    ck_assert_ptr_null(back.field);
    ck_assert_ptr_null(back.quota);
    ck_assert_ptr_null(back.correlation_id);
    ck_assert_uint_eq(back.retry_after_ms, 0);
}
END_TEST

START_TEST(error_details_are_named_as_other_clients_expect)
{
    const struct wire_error error = { .code = 3, .reason = "BAD_NAME" };
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    const Google__Rpc__Status *status;

    ck_assert_int_eq(wire_error_pack(&error, &bytes), 0);
    ck_assert_int_eq(unpack(&google__rpc__status__descriptor, buf_span(&bytes)), WIRE_OK);
    status = (const Google__Rpc__Status *) message;
    ck_assert_uint_eq(status->n_details, 1);
    ck_assert_str_eq(status->details[0]->type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    ck_assert_int_eq(unpack(&google__rpc__error_info__descriptor,
                            span_of(status->details[0]->value.data, status->details[0]->value.len)),
                     WIRE_OK);
    ck_assert_str_eq(((const Google__Rpc__ErrorInfo *) message)->domain, "sentinel");
}
END_TEST

/* A status with one detail. */
static struct buf status_with(const char *type_url, struct span value)
{
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    Google__Protobuf__Any *details[] = { &any };
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    uint8_t data[64];
    char url[64];
    struct buf bytes = { 0 };

    memcpy(data, value.data, value.len);
    snprintf(url, sizeof(url), "%s", type_url);
    any.type_url = url;
    any.value.data = data;
    any.value.len = value.len;
    status.code = 13;
    status.n_details = 1;
    status.details = details;
    ck_assert_int_eq(wire_pack(&status.base, &bytes), 0);
    return bytes;
}

START_TEST(error_details_of_others_are_passed_over)
{
    CLEANUP(buf_deinit) struct buf unknown = status_with("type.googleapis.com/a.B", BYTES(0xff));
    CLEANUP(buf_deinit) struct buf bare = status_with("google.rpc.ErrorInfo", BYTES(0xff));
    /* ErrorInfo { reason: "R" domain: "d" } */
    CLEANUP(buf_deinit)
    struct buf foreign =
        status_with("type.googleapis.com/google.rpc.ErrorInfo", BYTES(0x0a, 1, 'R', 0x12, 1, 'd'));
    struct wire_error back;

    ck_assert_int_eq(unpack_error(buf_span(&unknown), &back), 0);
    ck_assert_int_eq(unpack_error(buf_span(&bare), &back), 0);
    ck_assert_int_eq(unpack_error(buf_span(&foreign), &back), 0);
    ck_assert_int_eq(back.code, 13);
    ck_assert_ptr_null(back.reason);
}
END_TEST

START_TEST(error_with_a_broken_detail_is_malformed)
{
    CLEANUP(buf_deinit)
    struct buf cut = status_with("type.googleapis.com/google.rpc.ErrorInfo", BYTES(0x0a, 9));
    /* RetryInfo { retry_delay { seconds: 1 nanos: 1000000000 } } */
    CLEANUP(buf_deinit)
    struct buf late = status_with("type.googleapis.com/google.rpc.RetryInfo",
                                  BYTES(0x0a, 8, 0x08, 1, 0x10, 0x80, 0x94, 0xeb, 0xdc, 0x03));
    struct wire_error back = { .code = 77 };

    ck_assert_int_eq(unpack_error(buf_span(&cut), &back), WIRE_MALFORMED);
    ck_assert_int_eq(unpack_error(buf_span(&late), &back), WIRE_MALFORMED);
    ck_assert_int_eq(unpack_error(BYTES(0x08), &back), WIRE_MALFORMED);
    ck_assert_int_eq(back.code, 77);
}
END_TEST

START_TEST(retry_delay_is_rounded_up)
{
    /* RetryInfo { retry_delay { nanos: 1 } } */
    CLEANUP(buf_deinit)
    struct buf bytes = status_with("x.example/google.rpc.RetryInfo", BYTES(0x0a, 2, 0x10, 1));
    struct wire_error back;

    ck_assert_int_eq(unpack_error(buf_span(&bytes), &back), 0);
    ck_assert_uint_eq(back.retry_after_ms, 1);
}
END_TEST

#define ROWS(table) ((int) (sizeof(table) / sizeof((table)[0])))

static TCase *add_case(Suite *s, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    suite_add_tcase(s, tc);
    return tc;
}

Suite *suite(void)
{
    Suite *s = suite_create("common/wire");
    TCase *tc;

    tc = add_case(s, "unpack");
    tcase_add_test(tc, unpack_gives_what_was_packed);
    tcase_add_test(tc, unpack_takes_an_empty_message);
    tcase_add_test(tc, unpack_needs_nobody_to_ask_for_the_problem);
    tcase_add_test(tc, pack_appends_behind_what_is_there);
    tcase_add_loop_test(tc, unpack_says_malformed_wherever_a_message_is_cut, 0, GOOD_BYTES);
    tcase_add_loop_test(tc, unpack_survives_every_changed_byte, 0, GOOD_BYTES);
    tcase_add_loop_test(tc, unpack_refuses_what_protobuf_refuses, 0, ROWS(malformed));
    tcase_add_test(tc, unpack_takes_packed_fields_unpacked_too);
    tcase_add_test(tc, unpack_keeps_unknown_fields);
    tcase_add_test(tc, unpack_refuses_a_missing_required_field);
    tcase_add_test(tc, unpack_merges_a_sub_message_given_twice);
    tcase_add_test(tc, unpack_refuses_a_sub_message_with_a_oneof_given_twice);

    tc = add_case(s, "depth");
    tcase_add_test(tc, unpack_takes_nesting_up_to_the_limit);
    tcase_add_test(tc, unpack_says_too_deep_of_ten_thousand_levels);
    tcase_add_test(tc, unpack_does_not_look_into_unknown_fields);

    tc = add_case(s, "amplification");
    tcase_add_loop_test(tc, unpack_stays_within_its_arena, 0, ROWS(amplifiers));
    tcase_add_test(tc, unpack_says_too_big_wherever_the_arena_ends);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tc, unpack_faults_when_memory_ends_before_the_arena);
#endif
    tcase_add_test(tc, arena_limit_is_sixteen_times_the_bytes_but_not_less_than_64_kib);

    tc = add_case(s, "text");
    tcase_add_loop_test(tc, strings_are_utf8_without_nul, 0, ROWS(names));
    tcase_add_test(tc, bytes_fields_take_anything);
    tcase_add_test(tc, text_in_maps_is_checked);

    tc = add_case(s, "errors");
    tcase_add_test(tc, error_comes_back_whole);
    tcase_add_test(tc, error_without_details_has_none);
    tcase_add_test(tc, error_details_are_named_as_other_clients_expect);
    tcase_add_test(tc, error_details_of_others_are_passed_over);
    tcase_add_test(tc, error_with_a_broken_detail_is_malformed);
    tcase_add_test(tc, retry_delay_is_rounded_up);
    return s;
}
