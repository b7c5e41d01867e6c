/* Targets: codec_read_head, _frame, _layout, _scrape, _logs, _end, state_take, offsets_take.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says what the rest is: 0 a segment file as it is; 1 a segment whose checksums are
 * made good first, frame by frame; 2 the payload of a layout, 3 of a scrape, 4 of logs; 5 the
 * state of a queue, 6 its offsets.
 */

#include "agent/spool/spool_private.h"
#include "common/base/crc32c.h"
#include "common/base/ensure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t sum_of(struct span span)
{
    uint64_t sum = span.len;

    for (size_t i = 0; i < span.len; i++)
        sum += span.data[i];
    return sum;
}

static uint64_t read_attributes(const struct spool_log_attribute *attributes, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += sum_of(attributes[i].key) + sum_of(attributes[i].value);
    return sum;
}

static uint64_t read_layout(struct span payload, struct arena *arena, size_t *n_known)
{
    struct codec_layout layout;
    uint64_t sum = 0;

    if (codec_read_layout(payload, *n_known, arena, &layout) != 0)
        return 0;
    for (size_t i = 0; i < layout.n_new; i++)
        sum += sum_of(layout.new_series[i].key) + sum_of(layout.new_series[i].unit);
    for (size_t i = 0; i < layout.n_series; i++)
        ensure(layout.numbers[i] < *n_known + layout.n_new);
    *n_known += layout.n_new;
    return sum;
}

static uint64_t read_scrape(struct span payload, struct arena *arena)
{
    struct codec_scrape scrape;
    uint64_t sum = 0;

    if (codec_read_scrape(payload, arena, &scrape) != 0)
        return 0;
    for (size_t i = 0; i < scrape.n_absent; i++) {
        ensure(scrape.absent[i] < scrape.n_values);
        ensure(i == 0 || scrape.absent[i] > scrape.absent[i - 1]);
    }
    for (size_t i = 0; i < scrape.n_values; i++)
        sum += scrape.values[i] > 0;
    return sum;
}

static uint64_t read_logs(const struct codec_frame *frame, struct arena *arena)
{
    struct codec_split split;
    struct spool_logs logs;
    uint64_t sum = 0;

    if (codec_read_logs(frame, arena, &logs, &split) != 0)
        return 0;
    ensure(logs.n_records == frame->records);
    for (size_t i = 0; i < logs.n_offsets; i++)
        sum += sum_of(logs.offsets[i].key) + sum_of(logs.offsets[i].value);
    sum += sum_of(logs.source.type) + sum_of(logs.source.name) +
           read_attributes(logs.source.attributes, logs.source.n_attributes);
    for (size_t i = 0; i < logs.n_records; i++) {
        const struct spool_log_record *record = &logs.records[i];

        sum += sum_of(record->body) + sum_of(record->trace_id) + sum_of(record->span_id) +
               read_attributes(record->attributes, record->n_attributes);
    }
    return sum + (split.is_split ? split.keep : 0);
}

static void store32(uint8_t *to, uint32_t value)
{
    for (size_t i = 0; i < 4; i++)
        to[i] = (uint8_t) (value >> (8 * i));
}

/* Right checksums, wherever the lengths lead to. */
static void mend(uint8_t *data, size_t len)
{
    uint32_t seed = crc32c(0, data + 12, CODEC_HEAD_BYTES - 12);

    store32(data + 8, seed);
    for (size_t at = CODEC_HEAD_BYTES; at + CODEC_FRAME_BYTES <= len;) {
        size_t bytes = (size_t) data[at + 4] | (size_t) data[at + 5] << 8 |
                       (size_t) data[at + 6] << 16 | (size_t) data[at + 7] << 24;

        if (bytes > len - at - CODEC_FRAME_BYTES)
            return;
        store32(data + at, crc32c(seed, data + at + 4, CODEC_FRAME_BYTES - 4 + bytes));
        at += CODEC_FRAME_BYTES + (bytes + 7) / 8 * 8;
    }
}

static void read_segment(struct span bytes, struct arena *arena)
{
    struct codec_head head;
    struct codec_frame frame;
    struct codec_end end;
    size_t n_known = 0;

    if (bytes.len < CODEC_HEAD_BYTES || !codec_read_head(bytes.data, &head))
        return;
    for (size_t at = CODEC_HEAD_BYTES; at < bytes.len;) {
        if (codec_read_frame(span_of(bytes.data + at, bytes.len - at), head.crc32c, &frame) != 0) {
            size_t next = codec_find_frame(bytes, at + CODEC_ALIGN, head.crc32c);

            ensure(next > at);
            at = next;
            continue;
        }
        ensure(frame.bytes > 0 && frame.bytes <= bytes.len - at);
        arena_reset(arena, 1u << 20);
        (void) read_layout(frame.kind == CODEC_LAYOUT ? frame.payload : span_of("", 0), arena,
                           &n_known);
        if (frame.kind == CODEC_SCRAPE)
            (void) read_scrape(frame.payload, arena);
        if (frame.kind == CODEC_LOGS)
            (void) read_logs(&frame, arena);
        (void) codec_read_end(&frame, &end);
        at += frame.bytes;
    }
}

static void read_state(struct span bytes, bool is_offsets)
{
    struct queue queue = { .dirfd = -1 };
    uint64_t produced;

    list_init(&queue.runs);
    if (is_offsets)
        ensure(offsets_take(&queue, &bytes) == 0);
    else
        (void) state_take(&queue, &bytes, &produced);
    list_each_safe(node, &queue.runs)
    {
        struct run *run = container_of(node, struct run, node);

        for (size_t i = 0; i < run->n_edits; i++) {
            ensure(run->edits[i].first <= run->edits[i].last);
            ensure(run_find_edit(run, run->edits[i].first) == &run->edits[i]);
        }
        run_free(run);
    }
    offsets_free(&queue);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct codec_frame frame = { .kind = CODEC_LOGS };
    struct arena arena;
    size_t n_known = 4;

    if (len < 2)
        return 0;
    arena_init(&arena, 1u << 20);
    frame.payload = span_of(data + 1, len - 1);
    frame.records = data[1];
    if (data[0] == 1 && len > CODEC_HEAD_BYTES + 1) {
        struct buf copy = { 0 };

        buf_append(&copy, data + 1, len - 1);
        ensure(!buf_failed(&copy));
        mend(copy.data, copy.len);
        read_segment(buf_span(&copy), &arena);
        buf_deinit(&copy);
    } else if (data[0] == 2) {
        (void) read_layout(frame.payload, &arena, &n_known);
    } else if (data[0] == 3) {
        (void) read_scrape(frame.payload, &arena);
    } else if (data[0] == 4) {
        (void) read_logs(&frame, &arena);
    } else if (data[0] == 5 || data[0] == 6) {
        read_state(frame.payload, data[0] == 6);
    } else {
        read_segment(frame.payload, &arena);
    }
    arena_deinit(&arena);
    return 0;
}
