/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/wire.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/rand.h"
#include "sentinel/query/v1/query.pb-c.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"
#include "suite.h"

#define REQUEST (&sentinel__telemetry__v1__stream_logs_request__descriptor)
#define MAX_RECORDS 32
#define ROUNDS 3000

typedef Sentinel__Telemetry__V1__StreamLogsRequest request_message;
typedef Sentinel__Telemetry__V1__LogRecord record_message;
typedef Sentinel__Telemetry__V1__Attribute attribute_message;

#define BYTES(...) \
    span_of((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define TEXT(literal) span_of(literal, sizeof(literal) - 1)

static struct wire_problem problem;
static struct wire_logs logs;
static struct wire_log_record records[MAX_RECORDS];

static int read_all(struct span bytes)
{
    int r = wire_logs_open(bytes, &logs, &problem);

    for (size_t i = 0; r == WIRE_OK && i < logs.n_records; i++) {
        ck_assert_uint_lt(i, MAX_RECORDS);
        r = wire_logs_next(&logs, &records[i], &problem);
    }
    return r;
}

/* A request in a copy of exactly its size, so that a sanitizer sees a read behind it. */
static int read_copy(struct span bytes)
{
    uint8_t *copy = malloc(bytes.len + 1);
    int r;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes.data, bytes.len);
    copy = realloc(copy, bytes.len ? bytes.len : 1);
    r = read_all(span_of(copy, bytes.len));
    free(copy);
    return r;
}

#define ck_assert_span(span, literal) \
    ck_assert_msg(span_equal(span, TEXT(literal)), "\"%.*s\"", (int) (span).len, (span).data)

/* ---- what is read ---- */

/* clang-format off */
static const uint8_t whole[] = {
    0x12, 96,                                     /* batch */
      0x08, 0xac, 0x02,                           /*   sequence 300 */
      0x12, 18,                                   /*   source */
        0x0a, 4, 'f', 'i', 'l', 'e',              /*     type */
        0x12, 2, '/', 'x',                        /*     name */
        0x1a, 6, 0x0a, 1, 'a', 0x12, 1, 'b',      /*     attribute */
      0x1a, 62,                                   /*   record */
        0x09, 1, 0, 0, 0, 0, 0, 0, 0,             /*     time 1 */
        0x11, 2, 0, 0, 0, 0, 0, 0, 0x80,          /*     observed */
        0x18, 17,                                 /*     severity */
        0x22, 5, 'a', 0, 'b', 0x1b, 'c',          /*     text */
        0x32, 7, 0x0a, 1, 'k', 0x12, 2, 'v', 0,   /*     attribute */
        0x3a, 4, 't', 't', 't', 't',              /*     trace id */
        0x42, 1, 's',                             /*     span id */
        0x48, 0x80, 0x01,                         /*     offset 128 */
        0xd2, 0x02, 3, 1, 2, 3,                   /*     field 42, which nobody knows */
        0xdd, 0x02, 1, 2, 3, 4,                   /*     field 43, fixed32 */
        0x32, 0,                                  /*     an empty attribute */
      0x1a, 4,                                    /*   record */
        0x2a, 2, 0xff, 0xfe,                      /*     raw */
      0x22, 1, 'x',                               /*   field 4, which nobody knows */
};
/* clang-format on */
_Static_assert(sizeof(whole) == 98, "the lengths in it are right");

START_TEST(a_batch_is_read_to_the_last_byte)
{
    struct wire_log_attribute attribute;
    struct wire_log_record *record = &records[0];

    ck_assert_int_eq(read_all(span_of(whole, sizeof(whole))), WIRE_OK);
    ck_assert_int_eq(logs.type, WIRE_LOGS_BATCH);
    ck_assert_uint_eq(logs.sequence, 300);
    ck_assert_span(logs.source_type, "file");
    ck_assert_span(logs.source_name, "/x");
    ck_assert_uint_eq(logs.n_source_attributes, 1);
    ck_assert(wire_log_attributes_next(&logs.source_attributes, &attribute));
    ck_assert_span(attribute.key, "a");
    ck_assert_span(attribute.value, "b");
    ck_assert(!wire_log_attributes_next(&logs.source_attributes, &attribute));

    ck_assert_uint_eq(logs.n_records, 2);
    ck_assert_int_eq(record->time_us, 1);
    ck_assert_int_eq(record->observed_us, INT64_MIN + 2);
    ck_assert_uint_eq(record->severity, 17);
    ck_assert(!record->is_raw && record->has_body);
    ck_assert_span(record->body, "a\0b\x1b"
                                 "c");
    ck_assert_span(record->trace_id, "tttt");
    ck_assert_span(record->span_id, "s");
    ck_assert_uint_eq(record->source_offset, 128);
    ck_assert_uint_eq(record->n_attributes, 2);
    ck_assert(wire_log_attributes_next(&record->attributes, &attribute));
    ck_assert_span(attribute.key, "k");
    ck_assert_span(attribute.value, "v\0");
    ck_assert(wire_log_attributes_next(&record->attributes, &attribute));
    ck_assert_uint_eq(attribute.key.len + attribute.value.len, 0);
    ck_assert(!wire_log_attributes_next(&record->attributes, &attribute));

    ck_assert(records[1].is_raw);
    ck_assert_span(records[1].body, "\xff\xfe");
    ck_assert_int_eq(records[1].time_us, 0);
}
END_TEST

/* A field cut off anywhere; cut between fields of the request there is nothing to see. */
START_TEST(a_batch_that_is_cut_anywhere_is_malformed)
{
    ck_assert_int_eq(read_copy(span_of(whole, (size_t) _i)), _i == 0 ? WIRE_OK : WIRE_MALFORMED);
}
END_TEST

START_TEST(every_changed_byte_is_survived)
{
    uint8_t changed[sizeof(whole)];

    memcpy(changed, whole, sizeof(whole));
    for (unsigned value = 0; value < 256; value++) {
        changed[_i] = (uint8_t) value;
        (void) !read_copy(span_of(changed, sizeof(changed)));
    }
}
END_TEST

/* What a hand may do with lengths that a record has one by one: the parts of a request joined. */
START_TEST(a_batch_that_comes_in_parts_is_one)
{
    /* clang-format off */
    const struct span bytes = BYTES(
        0x12, 10, 0x08, 5, 0x12, 6, 0x0a, 4, 'f', 'i', 'l', 'e',
        0x12, 11, 0x12, 3, 0x12, 1, 'n', 0x1a, 4, 0x22, 2, 'h', 'i',
        0x12, 9, 0x08, 6, 0x1a, 5, 0x22, 3, 'y', 'o', 'u');
    /* clang-format on */

    ck_assert_int_eq(read_all(bytes), WIRE_OK);
    ck_assert_uint_eq(logs.sequence, 6);
    ck_assert_span(logs.source_type, "file");
    ck_assert_span(logs.source_name, "n");
    ck_assert_uint_eq(logs.n_records, 2);
    ck_assert_span(records[0].body, "hi");
    ck_assert_span(records[1].body, "you");
}
END_TEST

START_TEST(the_last_member_of_a_oneof_counts)
{
    ck_assert_int_eq(read_all(BYTES(0x12, 2, 0x08, 5, 0x1a, 2, 0x08, 9)), WIRE_OK);
    ck_assert_int_eq(logs.type, WIRE_LOGS_SKIP);
    ck_assert_int_eq(read_all(BYTES(0x12, 2, 0x08, 5, 0x0a, 0)), WIRE_OK);
    ck_assert_int_eq(logs.type, WIRE_LOGS_HELLO);
    /* What came before another member is gone. */
    ck_assert_int_eq(read_all(BYTES(0x12, 4, 0x08, 5, 0x1a, 0, 0x0a, 0, 0x12, 2, 0x1a, 0)),
                     WIRE_OK);
    ck_assert_int_eq(logs.type, WIRE_LOGS_BATCH);
    ck_assert_uint_eq(logs.sequence, 0);
    ck_assert_uint_eq(logs.n_records, 1);
    ck_assert_int_eq(read_all(BYTES(0x12, 9, 0x1a, 7, 0x22, 1, 'a', 0x2a, 2, 'b', 'c')), WIRE_OK);
    ck_assert(records[0].is_raw);
    ck_assert_span(records[0].body, "bc");
    ck_assert_int_eq(read_all(BYTES(0xf8, 0x3f, 1)), WIRE_OK);
    ck_assert_int_eq(logs.type, WIRE_LOGS_NOTHING);
}
END_TEST

static const struct {
    uint8_t bytes[24];
    size_t len;
    int outcome;
    const char *field;
} wrongs[] = {
    { { 0x12, 6, 0x1a, 4, 0x22, 2, 0xff, 'a' }, 8, WIRE_BAD_TEXT, "batch.records[0].text" },
    { { 0x12, 8, 0x1a, 0, 0x1a, 4, 0x22, 2, 0xc0, 0x80 },
      10,
      WIRE_BAD_TEXT,
      "batch.records[1].text" },
    { { 0x12, 5, 0x12, 3, 0x0a, 1, 0 }, 7, WIRE_BAD_TEXT, "batch.source.type" },
    { { 0x12, 5, 0x12, 3, 0x12, 1, 0xff }, 7, WIRE_BAD_TEXT, "batch.source.name" },
    { { 0x12, 7, 0x12, 5, 0x1a, 3, 0x0a, 1, 0 },
      9,
      WIRE_BAD_TEXT,
      "batch.source.attributes[0].key" },
    { { 0x12, 7, 0x1a, 5, 0x32, 3, 0x12, 1, 0xff },
      9,
      WIRE_BAD_TEXT,
      "batch.records[0].attributes[0].value" },
    { { 0x12, 4, 0x1a, 2, 0x08, 1 }, 6, WIRE_MALFORMED, "batch.records[0]" },
    { { 0x12, 4, 0x12, 2, 0x08, 1 }, 6, WIRE_MALFORMED, "batch.source" },
    { { 0x12, 2, 0x10, 1 }, 4, WIRE_MALFORMED, "batch" },
    { { 0x12, 1, 0x1b }, 3, WIRE_MALFORMED, "batch" },
    { { 0x10, 1 }, 2, WIRE_MALFORMED, "" },
    { { 0x12, 0x80 }, 2, WIRE_MALFORMED, "" },
    { { 0x02, 0 }, 2, WIRE_MALFORMED, "" },
    { { 0x12, 6, 0x1a, 4, 0x32, 2, 0x08, 1 }, 8, WIRE_MALFORMED, "batch.records[0].attributes[0]" },
};

START_TEST(what_is_wrong_is_named_by_its_field)
{
    ck_assert_int_eq(read_copy(span_of(wrongs[_i].bytes, wrongs[_i].len)), wrongs[_i].outcome);
    ck_assert_str_eq(problem.field, wrongs[_i].field);
    ck_assert_uint_gt(strlen(problem.description), 0);
}
END_TEST

START_TEST(a_line_that_is_no_text_is_sent_to_raw)
{
    ck_assert_int_eq(read_all(BYTES(0x12, 5, 0x1a, 3, 0x22, 1, 0xff)), WIRE_BAD_TEXT);
    ck_assert_ptr_nonnull(strstr(problem.description, "raw"));
}
END_TEST

START_TEST(the_checksum_is_of_sequence_severity_and_body)
{
    const uint8_t summed[] = { 44,  1, 0,   0,    0,   0, 0, 0, 5, 0, 0, 0, 17, 0,    0,   0,
                               'a', 0, 'b', 0x1b, 'c', 2, 0, 0, 0, 0, 0, 0, 0,  0xff, 0xfe };

    ck_assert_int_eq(read_all(span_of(whole, sizeof(whole))), WIRE_OK);
    ck_assert_uint_eq(logs.crc32c, crc32c(0, summed, sizeof(summed)));
}
END_TEST

/* ---- beside protobuf-c ---- */

static struct rand dice;

static char *some_text(struct arena *arena)
{
    static const char *const texts[] = { "",
                                         "a",
                                         "key",
                                         "t\xc3\xa9l\xc3\xa9",
                                         "\xf0\x9f\x8d\x95",
                                         "a line of a log file that is about as long as usual, "
                                         "with an [address] 10.0.0.1:443 and more behind it, and "
                                         "so long that its length takes two bytes" };
    char *text = arena_copy_text(arena, texts[rand_below(&dice, sizeof(texts) / sizeof(texts[0]))]);

    ck_assert_ptr_nonnull(text);
    return text;
}

static void some_attributes(struct arena *arena, size_t *ret_n, attribute_message ***ret)
{
    size_t n = rand_below(&dice, 3) ? 0 : rand_below(&dice, 5);
    attribute_message **rows = arena_alloc_array(arena, n + 1, sizeof(*rows));

    for (size_t i = 0; i < n; i++) {
        rows[i] = arena_alloc(arena, sizeof(*rows[i]));
        sentinel__telemetry__v1__attribute__init(rows[i]);
        rows[i]->key = some_text(arena);
        rows[i]->value = some_text(arena);
    }
    *ret_n = n;
    *ret = rows;
}

static ProtobufCBinaryData some_bytes(struct arena *arena)
{
    ProtobufCBinaryData bytes = { .len = rand_below(&dice, 20) };

    bytes.data = arena_alloc(arena, bytes.len + 1);
    for (size_t i = 0; i < bytes.len; i++)
        bytes.data[i] = (uint8_t) rand_u64(&dice);
    return bytes;
}

static uint64_t some_number(void)
{
    return rand_u64(&dice) >> rand_below(&dice, 64);
}

static record_message *some_record(struct arena *arena)
{
    record_message *record = arena_alloc(arena, sizeof(*record));

    sentinel__telemetry__v1__log_record__init(record);
    record->time_unix_us = (int64_t) some_number();
    record->observed_time_unix_us = (int64_t) some_number();
    record->severity_number = (uint32_t) some_number();
    record->source_offset = some_number();
    record->trace_id = some_bytes(arena);
    record->span_id = some_bytes(arena);
    record->body_case = (int) (rand_below(&dice, 3) ? 4 + rand_below(&dice, 2) : 0);
    if (record->body_case == SENTINEL__TELEMETRY__V1__LOG_RECORD__BODY_TEXT)
        record->text = some_text(arena);
    else if (record->body_case == SENTINEL__TELEMETRY__V1__LOG_RECORD__BODY_RAW)
        record->raw = some_bytes(arena);
    some_attributes(arena, &record->n_attributes, &record->attributes);
    return record;
}

static void some_request(struct arena *arena, struct buf *to)
{
    Sentinel__Telemetry__V1__LogSource source = SENTINEL__TELEMETRY__V1__LOG_SOURCE__INIT;
    Sentinel__Telemetry__V1__LogBatch batch = SENTINEL__TELEMETRY__V1__LOG_BATCH__INIT;
    request_message request = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__INIT;
    const size_t n = rand_below(&dice, MAX_RECORDS);
    record_message **rows = arena_alloc_array(arena, n + 1, sizeof(*rows));

    request.message_case = SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_BATCH;
    request.batch = &batch;
    batch.sequence = some_number();
    batch.source = rand_below(&dice, 5) ? &source : NULL;
    source.type = some_text(arena);
    source.name = some_text(arena);
    some_attributes(arena, &source.n_attributes, &source.attributes);
    for (size_t i = 0; i < n; i++)
        rows[i] = some_record(arena);
    batch.n_records = n;
    batch.records = rows;
    ck_assert_int_eq(wire_pack(&request.base, to), 0);
}

static void
compare_attributes(struct wire_log_attributes ours, attribute_message *const *theirs, size_t n)
{
    struct wire_log_attribute attribute;

    for (size_t i = 0; i < n; i++) {
        ck_assert(wire_log_attributes_next(&ours, &attribute));
        ck_assert(span_equal(attribute.key, span_of_text(theirs[i]->key)));
        ck_assert(span_equal(attribute.value, span_of_text(theirs[i]->value)));
    }
    ck_assert(!wire_log_attributes_next(&ours, &attribute));
}

static void compare_record(const struct wire_log_record *ours, const record_message *theirs)
{
    struct span body = span_of("", 0);

    ck_assert_int_eq(ours->time_us, theirs->time_unix_us);
    ck_assert_int_eq(ours->observed_us, theirs->observed_time_unix_us);
    ck_assert_uint_eq(ours->severity, theirs->severity_number);
    ck_assert_uint_eq(ours->source_offset, theirs->source_offset);
    ck_assert(span_equal(ours->trace_id, span_of(theirs->trace_id.data, theirs->trace_id.len)));
    ck_assert(span_equal(ours->span_id, span_of(theirs->span_id.data, theirs->span_id.len)));
    ck_assert_int_eq(ours->has_body, theirs->body_case != 0);
    ck_assert_int_eq(ours->is_raw, (int) theirs->body_case == 5);
    if ((int) theirs->body_case == 5)
        body = span_of(theirs->raw.data, theirs->raw.len);
    else if ((int) theirs->body_case == 4)
        body = span_of_text(theirs->text);
    ck_assert(span_equal(ours->body, body));
    ck_assert_uint_eq(ours->n_attributes, theirs->n_attributes);
    compare_attributes(ours->attributes, theirs->attributes, theirs->n_attributes);
}

static void compare(const request_message *theirs)
{
    const Sentinel__Telemetry__V1__LogBatch *batch = theirs->batch;

    ck_assert_int_eq((int) logs.type, (int) theirs->message_case);
    if (logs.type != WIRE_LOGS_BATCH)
        return;
    ck_assert_uint_eq(logs.sequence, batch->sequence);
    ck_assert_uint_eq(logs.n_records, batch->n_records);
    for (size_t i = 0; i < logs.n_records; i++)
        compare_record(&records[i], batch->records[i]);
    if (!batch->source) {
        ck_assert_uint_eq(logs.source_type.len + logs.source_name.len, 0);
        return;
    }
    ck_assert(span_equal(logs.source_type, span_of_text(batch->source->type)));
    ck_assert(span_equal(logs.source_name, span_of_text(batch->source->name)));
    compare_attributes(logs.source_attributes, batch->source->attributes,
                       batch->source->n_attributes);
}

/* Some bytes changed, taken out or doubled. */
static void spoil(struct buf *bytes)
{
    for (uint64_t n = rand_below(&dice, 4); n > 0 && bytes->len > 0; n--) {
        size_t at = rand_below(&dice, bytes->len);

        if (rand_below(&dice, 3) == 0)
            bytes->len = at;
        else
            bytes->data[at] = (uint8_t) rand_u64(&dice);
    }
}

START_TEST(random_messages_are_read_as_protobuf_c_reads_them)
{
    unsigned n_taken = 0, n_refused = 0;

    rand_init(&dice, 20261127);
    for (unsigned i = 0; i < ROUNDS; i++) {
        CLEANUP(arena_deinit) struct arena arena;
        CLEANUP(buf_deinit) struct buf bytes = { 0 };
        ProtobufCMessage *message;
        int theirs, ours;

        arena_init(&arena, (size_t) 16 << 20);
        some_request(&arena, &bytes);
        spoil(&bytes);
        theirs = wire_unpack(REQUEST, buf_span(&bytes), &arena, &message, NULL);
        ours = wire_logs_open(buf_span(&bytes), &logs, &problem);
        if (ours == WIRE_OK && logs.n_records > MAX_RECORDS)
            continue;
        if (ours == WIRE_OK)
            ours = read_all(buf_span(&bytes));
        if (theirs == WIRE_OK) {
            ck_assert_msg(ours == WIRE_OK, "round %u: %s: %s", i, problem.field,
                          problem.description);
            compare((const void *) message);
            n_taken++;
        } else {
            n_refused++;
        }
        /* NULs are what they do not take; the spoiler makes few of them. */
        if (ours != WIRE_OK)
            ck_assert_int_ne(theirs, WIRE_OK);
    }
    ck_assert_uint_gt(n_taken, ROUNDS / 4);
    ck_assert_uint_gt(n_refused, ROUNDS / 4);
}
END_TEST

/* ---- entries ---- */

static struct wire_log_entry an_entry(const struct wire_log_attribute *attributes)
{
    return (struct wire_log_entry){
        .agent_id = TEXT("web-1"),
        .time_us = INT64_C(1764000000123456),
        .observed_us = -1,
        .severity = 17,
        .source_type = TEXT("file"),
        .source = TEXT("/var/log/x"),
        .body = TEXT("a\0b \x1b[31m"),
        .trace_id = TEXT("0102"),
        .span_id = TEXT("03"),
        .source_offset = UINT64_MAX,
        .attributes = attributes,
        .n_attributes = 1,
        .source_attributes = attributes,
        .n_source_attributes = 1,
    };
}

START_TEST(an_entry_is_what_protobuf_c_reads)
{
    const struct wire_log_attribute attributes[] = { { TEXT("k"), TEXT("value") } };
    struct wire_log_entry entry = an_entry(attributes);
    CLEANUP(arena_deinit) struct arena arena;
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    const Sentinel__Query__V1__SearchLogsResponse *answer;
    const Sentinel__Query__V1__LogEntry *read;
    ProtobufCMessage *message;

    entry.body = TEXT("plain");
    arena_init(&arena, (size_t) 1 << 20);
    wire_log_entry_append(&bytes, &entry);
    entry.is_raw = true;
    entry.body = TEXT("\xff");
    wire_log_entry_append(&bytes, &entry);
    ck_assert_int_eq(wire_unpack(&sentinel__query__v1__search_logs_response__descriptor,
                                 buf_span(&bytes), &arena, &message, NULL),
                     WIRE_OK);
    answer = (const void *) message;
    ck_assert_uint_eq(answer->n_entries, 2);
    read = answer->entries[0];
    ck_assert_str_eq(read->agent_id, "web-1");
    ck_assert_int_eq(read->time->seconds, 1764000000);
    ck_assert_int_eq(read->time->nanos, 123456000);
    ck_assert_int_eq(read->observed_time->seconds, -1);
    ck_assert_int_eq(read->observed_time->nanos, 999999000);
    ck_assert_uint_eq(read->severity_number, 17);
    ck_assert_str_eq(read->severity, "ERROR");
    ck_assert_str_eq(read->source_type, "file");
    ck_assert_str_eq(read->source, "/var/log/x");
    ck_assert_str_eq(read->text, "plain");
    ck_assert_str_eq(read->trace_id, "0102");
    ck_assert_str_eq(read->span_id, "03");
    ck_assert_uint_eq(read->source_offset, UINT64_MAX);
    ck_assert_uint_eq(read->n_attributes, 1);
    ck_assert_str_eq(read->attributes[0]->key, "k");
    ck_assert_str_eq(read->attributes[0]->value, "value");
    ck_assert_uint_eq(read->n_source_attributes, 1);
    ck_assert_int_eq((int) answer->entries[1]->body_case, 9);
    ck_assert_uint_eq(answer->entries[1]->raw.len, 1);
}
END_TEST

START_TEST(an_entry_comes_back_with_its_nuls)
{
    const struct wire_log_attribute attributes[] = { { TEXT("k"), TEXT("v\0w") } };
    const struct wire_log_entry entry = an_entry(attributes);
    CLEANUP(buf_deinit) struct buf bytes = { 0 }, rest = { 0 };
    struct wire_log_attribute attribute;
    struct wire_log_entries entries;
    struct wire_log_entry read;
    bool is_end;

    buf_append(&bytes, "\x12\x01t", 3); /* a token before, one behind */
    wire_log_entry_append(&bytes, &entry);
    buf_append(&bytes, "\x12\x01u", 3);
    ck_assert_uint_eq(bytes.len, 6 + wire_log_entry_bytes(&entry));
    ck_assert_int_eq(wire_log_entries_open(buf_span(&bytes), &entries, &rest, &problem), WIRE_OK);
    ck_assert_uint_eq(rest.len, 6);
    ck_assert_int_eq(wire_log_entries_next(&entries, &read, &is_end, &problem), WIRE_OK);
    ck_assert(!is_end && !read.is_raw);
    ck_assert(span_equal(read.body, entry.body));
    ck_assert_int_eq(read.time_us, entry.time_us);
    ck_assert_int_eq(read.observed_us, -1);
    ck_assert_uint_eq(read.source_offset, UINT64_MAX);
    ck_assert_uint_eq(read.n_attributes, 1);
    ck_assert(wire_log_attributes_next(&read.read_attributes, &attribute));
    ck_assert(span_equal(attribute.value, attributes[0].value));
    ck_assert(!wire_log_attributes_next(&read.read_attributes, &attribute));
    ck_assert_int_eq(wire_log_entries_next(&entries, &read, &is_end, &problem), WIRE_OK);
    ck_assert(is_end);
    for (size_t len = 4; len + 4 < bytes.len; len++) {
        buf_clear(&rest);
        ck_assert_int_eq(wire_log_entries_open(span_of(bytes.data, len), &entries, &rest, &problem),
                         WIRE_MALFORMED);
    }
}
END_TEST

#define ROWS(table) ((int) (sizeof(table) / sizeof((table)[0])))

Suite *suite(void)
{
    Suite *s = suite_create("common/wire/logs");
    TCase *tc = tcase_create("batches");

    suite_add_tcase(s, tc);
    tcase_add_test(tc, a_batch_is_read_to_the_last_byte);
    tcase_add_loop_test(tc, a_batch_that_is_cut_anywhere_is_malformed, 0, sizeof(whole));
    tcase_add_loop_test(tc, every_changed_byte_is_survived, 0, sizeof(whole));
    tcase_add_test(tc, a_batch_that_comes_in_parts_is_one);
    tcase_add_test(tc, the_last_member_of_a_oneof_counts);
    tcase_add_loop_test(tc, what_is_wrong_is_named_by_its_field, 0, ROWS(wrongs));
    tcase_add_test(tc, a_line_that_is_no_text_is_sent_to_raw);
    tcase_add_test(tc, the_checksum_is_of_sequence_severity_and_body);
    tcase_add_test(tc, random_messages_are_read_as_protobuf_c_reads_them);

    tc = tcase_create("entries");
    suite_add_tcase(s, tc);
    tcase_add_test(tc, an_entry_is_what_protobuf_c_reads);
    tcase_add_test(tc, an_entry_comes_back_with_its_nuls);
    return s;
}
