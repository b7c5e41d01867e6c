/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/lines_block.h"

#include "common/base/arena.h"
#include "common/logblock/logblock.h"
#include "common/wire/wire.h"
#include "sentinel/telemetry/v1/telemetry.pb-c.h"
#include "suite.h"

#define AGENTS 20u

static const struct lines lines = { .seed = 7,
                                    .batch_lines = 200,
                                    .first_us = INT64_C(1795428000000000),
                                    .interval_us = 100 };

static struct span span_of_bytes(ProtobufCBinaryData bytes)
{
    return span_of(bytes.data, bytes.len);
}

static void assert_same(const struct logblock_record *record, const struct wire_log_record *line)
{
    ck_assert_int_eq(record->time_us, line->time_us);
    ck_assert_int_eq(record->observed_us, line->observed_us);
    ck_assert_uint_eq(record->source_offset, line->source_offset);
    ck_assert_uint_eq(record->severity, line->severity);
    ck_assert_int_eq(record->is_raw, line->is_raw);
    ck_assert_uint_eq(record->n_attributes, 0);
    ck_assert(!record->has_trace_id && !record->has_span_id);
    ck_assert(span_equal(record->body, line->body));
}

/* The records of the block, as the hub reads them, are those of the batch. */
static void assert_records(struct span block, struct wire_logs *batch, struct arena *arena)
{
    CLEANUP(logblock_room_freep) struct logblock_room *room = logblock_room_new();
    uint64_t n_arena_bytes = 0, n_raw_bytes = 0;
    struct wire_log_record line;
    struct wire_problem problem;
    struct logblock_sent sent;

    ck_assert(logblock_sent_bytes(block, &n_arena_bytes, &n_raw_bytes));
    ck_assert_int_eq(logblock_read_sent(block, room, arena, &sent), LOGBLOCK_OK);
    ck_assert_uint_eq(sent.n_records, batch->n_records);
    for (size_t i = 0; i < sent.n_records; i++) {
        ck_assert_int_eq(wire_logs_next(batch, &line, &problem), WIRE_OK);
        assert_same(&sent.records[i], &line);
    }
}

/* Of the batch that lines_batch() makes. Returns how many times longer that is. */
static size_t
assert_block(struct lines_block *block, const struct lines *of, uint32_t agent, uint64_t sequence)
{
    CLEANUP(buf_deinit) struct buf batch = { 0 };
    const Sentinel__Telemetry__V1__StreamLogsRequest *request;
    ProtobufCMessage *unpacked = NULL;
    struct wire_problem problem;
    struct wire_logs logs;
    struct span message;
    struct arena arena;

    arena_init(&arena, 16u << 20);
    ck_assert_int_eq(lines_block_make(block, of, agent, sequence, &message), 0);
    ck_assert_uint_eq(block->body_bytes, lines_batch(of, agent, sequence, &batch));
    ck_assert_int_eq(wire_unpack(&sentinel__telemetry__v1__stream_logs_request__descriptor, message,
                                 &arena, &unpacked, NULL),
                     WIRE_OK);
    request = (const void *) unpacked;
    ck_assert_int_eq(request->message_case,
                     SENTINEL__TELEMETRY__V1__STREAM_LOGS_REQUEST__MESSAGE_BATCH);
    ck_assert_int_eq(wire_logs_open(buf_span(&batch), &logs, &problem), WIRE_OK);
    ck_assert_uint_eq(request->batch->sequence, logs.sequence);
    ck_assert(span_equal(span_of_text(request->batch->source->type), logs.source_type));
    ck_assert(span_equal(span_of_text(request->batch->source->name), logs.source_name));
    ck_assert_uint_eq(request->batch->n_records, 0);
    assert_records(span_of_bytes(request->batch->block), &logs, &arena);
    arena_deinit(&arena);
    return batch.len / message.len;
}

START_TEST(a_block_has_the_records_of_its_batch)
{
    CLEANUP(lines_block_deinit) struct lines_block block = { 0 };

    for (uint32_t agent = 0; agent < AGENTS; agent++)
        for (uint64_t sequence = 1; sequence < 400; sequence += 199)
            ck_assert_uint_gt(assert_block(&block, &lines, agent, sequence), 2);
}
END_TEST

START_TEST(batches_of_any_size_take_turns_in_the_same_memory)
{
    static const uint32_t sizes[] = { 3, 1, 5000, 2, LINES_MAX_BATCH, 40 };
    CLEANUP(lines_block_deinit) struct lines_block block = { 0 };
    struct lines sized = lines;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        sized.batch_lines = sizes[i];
        (void) assert_block(&block, &sized, 4, 2);
    }
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("bench/lines_block");
    TCase *tc = tcase_create("lines_block");

    suite_add_tcase(s, tc);
    tcase_add_test(tc, a_block_has_the_records_of_its_batch);
    tcase_add_test(tc, batches_of_any_size_take_turns_in_the_same_memory);
    return s;
}
