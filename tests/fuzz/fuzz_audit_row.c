/* Targets: row_read, row_key_read, row_head_read, row_anchor_read, row_dropped_read,
 * audit_check_row, anchor_of_record.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte is the length of the key, the key and the value follow. A value that is read as an
 * entry and written again is the same.
 */

#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "server/audit/anchor.h"
#include "server/audit/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void put_again(struct buf *to, const char *text)
{
    size_t len = strlen(text);
    const uint8_t head[2] = { (uint8_t) len, (uint8_t) (len >> 8) };

    ensure(len <= ROW_TEXT_BYTES);
    buf_append(to, head, sizeof(head));
    buf_append(to, text, len);
}

static void read_entry(struct span value)
{
    struct arena arena;
    struct audit_record record;
    struct audit_anchor anchor;
    struct buf texts = { 0 }, again = { 0 }, line = { 0 };

    arena_init(&arena, 4 * (size_t) ROW_MAX_BYTES);
    if (row_read(value, &arena, &record)) {
        const struct row_frame frame = { .time_us = record.time.us,
                                         .number = record.number,
                                         .before = record.sha256_before,
                                         .is_failure = record.is_failure,
                                         .n_fields = (uint8_t) record.n_fields };

        put_again(&texts, record.code);
        put_again(&texts, record.actor);
        put_again(&texts, record.source);
        put_again(&texts, record.object);
        put_again(&texts, record.correlation);
        for (size_t i = 0; i < record.n_fields; i++) {
            put_again(&texts, record.fields[i].key);
            put_again(&texts, record.fields[i].value);
        }
        row_write(&frame, buf_span(&texts), &again);
        ensure(span_equal(buf_span(&again), value));
        audit_record_print(&record, &line);
        ensure(line.len > 2 && line.data[0] == '{' && line.data[line.len - 1] == '}');
        if (anchor_of_record(&record, &anchor))
            ensure(anchor.entry > 0 && anchor.n_signature <= AUDIT_SIGNATURE_BYTES);
    }
    arena_deinit(&arena);
    buf_deinit(&texts);
    buf_deinit(&again);
    buf_deinit(&line);
}

static void read_others(struct span value)
{
    uint8_t head_again[ROW_HEAD_BYTES], dropped_again[ROW_DROPPED_BYTES];
    struct buf anchor_again = { 0 };
    struct row_head head;
    struct row_dropped dropped;
    struct audit_anchor anchor;

    if (row_head_read(value, &head)) {
        row_head_write(&head, head_again);
        ensure(span_equal(span_of(head_again, sizeof(head_again)), value));
    }
    if (row_dropped_read(value, &dropped)) {
        row_dropped_write(&dropped, dropped_again);
        ensure(span_equal(span_of(dropped_again, sizeof(dropped_again)), value));
    }
    if (row_anchor_read(value, &anchor)) {
        row_anchor_write(&anchor, &anchor_again);
        ensure(span_equal(buf_span(&anchor_again), value));
    }
    buf_deinit(&anchor_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t key_len = len > 0 ? data[0] : 0;
    uint8_t *key, *value;

    if (len < 1 || key_len == 0 || len - 1 < key_len)
        return 0;
    /* Buffers of their own: what is read behind their end is seen. */
    key = malloc(key_len);
    value = malloc(len - key_len);
    ensure(key && value);
    memcpy(key, data + 1, key_len);
    memcpy(value, data + 1 + key_len, len - 1 - key_len);
    (void) audit_check_row(NULL, STORE_TABLE_AUDIT, span_of(key, key_len),
                           span_of(value, len - 1 - key_len));
    read_entry(span_of(value, len - 1 - key_len));
    read_others(span_of(value, len - 1 - key_len));
    free(key);
    free(value);
    return 0;
}
