/* SPDX-License-Identifier: Apache-2.0 */
#include "server/audit/row.h"

#include <string.h>

#include "common/base/ensure.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"

const char row_head_key[] = "!head";
const char row_anchor_key[] = "!anchor";
const char row_dropped_key[] = "!dropped";

#define FLAG_FAILURE 1u
#define META_VERSION 1
static const char mark[] = "...";

/* ---- numbers ---- */

static void set_le(uint8_t *to, uint64_t value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        to[i] = (uint8_t) (value >> (8 * i));
}

static uint64_t get_le(const uint8_t *from, size_t n_bytes)
{
    uint64_t value = 0;

    for (size_t i = n_bytes; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

static void set_be(uint8_t *to, uint64_t value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        to[i] = (uint8_t) (value >> (8 * (n_bytes - 1 - i)));
}

static uint64_t get_be(const uint8_t *from, size_t n_bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n_bytes; i++)
        value = value << 8 | from[i];
    return value;
}

/* ---- keys ---- */

uint32_t row_day_of(int64_t time_us)
{
    return time_us <= 0 ? 0 : (uint32_t) (time_us / DAY_US);
}

void row_day_key(uint32_t day, uint8_t to[static ROW_DAY_KEY_BYTES])
{
    to[0] = 'E';
    set_be(to + 1, day, 4);
}

void row_key(uint32_t day, uint64_t number, uint8_t to[static ROW_KEY_BYTES])
{
    row_day_key(day, to);
    set_be(to + ROW_DAY_KEY_BYTES, number, 8);
}

bool row_key_read(struct span key, uint32_t *ret_day, uint64_t *ret_number)
{
    if (key.len != ROW_KEY_BYTES || key.data[0] != 'E')
        return false;
    *ret_day = (uint32_t) get_be(key.data + 1, 4);
    *ret_number = get_be(key.data + ROW_DAY_KEY_BYTES, 8);
    return true;
}

/* ---- entries: writing ---- */

/* How much of the text fits, whole characters alone. */
static size_t cut(const char *text, size_t limit)
{
    size_t len = strlen(text);

    if (len <= limit)
        return len;
    len = limit - (sizeof(mark) - 1);
    while (len > 0 && ((uint8_t) text[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static void put_text(const char *given, struct buf *to)
{
    const char *text = given ? given : "";
    size_t len = cut(text, ROW_TEXT_BYTES);
    size_t n_mark = text[len] ? sizeof(mark) - 1 : 0;
    uint8_t *at = buf_extend(to, 2 + len + n_mark);

    if (!at)
        return;
    set_le(at, len + n_mark, 2);
    if (len > 0)
        memcpy(at + 2, text, len);
    memcpy(at + 2 + len, mark, n_mark);
    for (size_t i = 0; i < len;) {
        uint32_t code;
        size_t n = text_utf8_next(span_of(at + 2 + i, len - i), &code);

        if (n == 0)
            at[2 + i] = '?';
        i += n ? n : 1;
    }
}

void row_put_texts(const struct audit_entry *entry, struct buf *to)
{
    ensure(entry->n_fields <= AUDIT_MAX_FIELDS);
    put_text(audit_event_code(entry->event), to);
    put_text(entry->actor, to);
    put_text(entry->source, to);
    put_text(entry->object, to);
    put_text(entry->correlation, to);
    for (size_t i = 0; i < entry->n_fields; i++) {
        put_text(entry->fields[i].key, to);
        put_text(entry->fields[i].value, to);
    }
}

void row_write(const struct row_frame *frame, struct span texts, struct buf *to)
{
    uint8_t *at = buf_extend(to, ROW_FIXED_BYTES);

    if (!at)
        return;
    at[0] = ROW_VERSION;
    at[1] = frame->is_failure ? FLAG_FAILURE : 0;
    at[2] = frame->n_fields;
    set_le(at + 4, (uint64_t) frame->time_us, 8);
    set_le(at + 12, frame->number, 8);
    memcpy(at + 20, frame->before, ROW_SHA256_BYTES);
    buf_append_span(to, texts);
}

/* ---- entries: reading ---- */

bool row_read_frame(struct span value, struct row_frame *ret)
{
    const uint8_t *at = value.data;

    if (value.len < ROW_FIXED_BYTES || value.len > ROW_MAX_BYTES || at[0] != ROW_VERSION ||
        at[1] > FLAG_FAILURE || at[2] > AUDIT_MAX_FIELDS || at[3] != 0)
        return false;
    *ret = (struct row_frame){
        .time_us = (int64_t) get_le(at + 4, 8),
        .number = get_le(at + 12, 8),
        .before = at + 20,
        .is_failure = at[1] & FLAG_FAILURE,
        .n_fields = at[2],
    };
    return ret->number > 0;
}

static const char *get_text(struct span *from, struct arena *arena)
{
    if (from->len < 2)
        return NULL;
    size_t len = get_le(from->data, 2);
    if (len > ROW_TEXT_BYTES || from->len - 2 < len)
        return NULL;
    struct span text = span_of(from->data + 2, len);
    if (memchr(text.data, 0, len) || !text_is_utf8(text.data, len))
        return NULL;
    *from = span_of(from->data + 2 + len, from->len - 2 - len);
    return arena_copy(arena, text);
}

static bool read_fields(struct span *rest, size_t n, struct arena *arena, struct audit_record *to)
{
    struct audit_field *fields = NULL;

    if (n > 0) {
        fields = arena_alloc_array(arena, n, sizeof(*fields));
        if (!fields)
            return false;
    }
    for (size_t i = 0; i < n; i++) {
        fields[i].key = get_text(rest, arena);
        fields[i].value = fields[i].key ? get_text(rest, arena) : NULL;
        if (!fields[i].value)
            return false;
    }
    to->fields = fields;
    to->n_fields = n;
    return rest->len == 0;
}

bool row_read(struct span value, struct arena *arena, struct audit_record *ret)
{
    struct audit_record record = { 0 };
    const char **const texts[] = { &record.code, &record.actor, &record.source, &record.object,
                                   &record.correlation };
    struct row_frame frame;

    if (!row_read_frame(value, &frame))
        return false;
    struct span rest = span_of(value.data + ROW_FIXED_BYTES, value.len - ROW_FIXED_BYTES);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        *texts[i] = get_text(&rest, arena);
        if (!*texts[i])
            return false;
    }
    if (!read_fields(&rest, frame.n_fields, arena, &record))
        return false;
    enum audit_event event = row_event_of(record.code);
    /* One of a later version shows its code. */
    record.event = event < AUDIT_N_EVENTS ? audit_event_name(event) : record.code;
    record.number = frame.number;
    record.time.us = frame.time_us;
    record.is_failure = frame.is_failure;
    memcpy(record.sha256_before, frame.before, sizeof(record.sha256_before));
    crypto_sha256(value, record.sha256);
    *ret = record;
    return true;
}

/* ---- the rows beside them ---- */

void row_head_write(const struct row_head *head, uint8_t to[static ROW_HEAD_BYTES])
{
    memset(to, 0, ROW_HEAD_BYTES);
    to[0] = META_VERSION;
    set_le(to + 4, head->day, 4);
    set_le(to + 8, head->number, 8);
    set_le(to + 16, (uint64_t) head->time_us, 8);
    memcpy(to + 24, head->sha256, ROW_SHA256_BYTES);
    set_le(to + 56, head->late_day, 4);
}

bool row_head_read(struct span value, struct row_head *ret)
{
    const uint8_t *at = value.data;

    if (value.len != ROW_HEAD_BYTES || at[0] != META_VERSION || at[1] || at[2] || at[3])
        return false;
    struct row_head head = {
        .day = (uint32_t) get_le(at + 4, 4),
        .late_day = (uint32_t) get_le(at + 56, 4),
        .number = get_le(at + 8, 8),
        .time_us = (int64_t) get_le(at + 16, 8),
    };
    memcpy(head.sha256, at + 24, ROW_SHA256_BYTES);
    if (head.number == 0 || head.late_day > head.day)
        return false;
    *ret = head;
    return true;
}

void row_anchor_write(const struct audit_anchor *anchor, struct buf *to)
{
    uint8_t *at = buf_extend(to, ROW_ANCHOR_BYTES + anchor->n_signature);

    ensure(anchor->n_signature <= AUDIT_SIGNATURE_BYTES);
    if (!at)
        return;
    at[0] = META_VERSION;
    at[1] = (uint8_t) anchor->n_signature;
    set_le(at + 2, anchor->entry, 8);
    set_le(at + 10, (uint64_t) anchor->time.us, 8);
    memcpy(at + 18, anchor->sha256, ROW_SHA256_BYTES);
    memcpy(at + ROW_ANCHOR_BYTES, anchor->signature, anchor->n_signature);
}

bool row_anchor_read(struct span value, struct audit_anchor *ret)
{
    struct audit_anchor anchor = { .n_signature = 0 };
    const uint8_t *at = value.data;

    if (value.len < ROW_ANCHOR_BYTES || at[0] != META_VERSION || at[1] > AUDIT_SIGNATURE_BYTES ||
        value.len != ROW_ANCHOR_BYTES + (size_t) at[1])
        return false;
    anchor.n_signature = at[1];
    anchor.entry = get_le(at + 2, 8);
    anchor.time.us = (int64_t) get_le(at + 10, 8);
    memcpy(anchor.sha256, at + 18, ROW_SHA256_BYTES);
    memcpy(anchor.signature, at + ROW_ANCHOR_BYTES, at[1]);
    if (anchor.entry == 0)
        return false;
    *ret = anchor;
    return true;
}

void row_dropped_write(const struct row_dropped *dropped, uint8_t to[static ROW_DROPPED_BYTES])
{
    to[0] = META_VERSION;
    set_le(to + 1, dropped->last, 8);
    set_le(to + 9, (uint64_t) dropped->time_us, 8);
}

bool row_dropped_read(struct span value, struct row_dropped *ret)
{
    if (value.len != ROW_DROPPED_BYTES || value.data[0] != META_VERSION)
        return false;
    ret->last = get_le(value.data + 1, 8);
    ret->time_us = (int64_t) get_le(value.data + 9, 8);
    return true;
}

/* ---- what anchors sign ---- */

void audit_anchor_signed_bytes(const struct audit_anchor *anchor, struct buf *to)
{
    uint8_t numbers[16];

    buf_append_text(to, "sentinel-audit-anchor-1");
    set_le(numbers, (uint64_t) anchor->time.us, 8);
    set_le(numbers + 8, anchor->entry, 8);
    buf_append(to, numbers, sizeof(numbers));
    buf_append(to, anchor->sha256, sizeof(anchor->sha256));
}

/* ---- for store_survey() ---- */

const char *audit_check_row(void *ctx, enum store_table table, struct span key, struct span value)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct audit_record record;
    struct audit_anchor anchor;
    struct row_dropped dropped;
    struct row_head head;
    uint32_t day;
    uint64_t number;

    (void) ctx;
    arena_init(&arena, 2 * (size_t) ROW_MAX_BYTES);
    if (table != STORE_TABLE_AUDIT)
        return NULL;
    if (row_key_read(key, &day, &number)) {
        if (!row_read(value, &arena, &record))
            return "no entry of the audit";
        return record.number == number ? NULL : "an entry of the audit with another number";
    }
    if (span_equal(key, span_of_text(row_head_key)))
        return row_head_read(value, &head) ? NULL : "no head of the audit";
    if (span_equal(key, span_of_text(row_anchor_key)))
        return row_anchor_read(value, &anchor) ? NULL : "no anchor of the audit";
    if (span_equal(key, span_of_text(row_dropped_key)))
        return row_dropped_read(value, &dropped) ? NULL : "no note of entries that went";
    return "no row of the audit";
}
