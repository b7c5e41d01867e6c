/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spool/codec.h"

#include "common/base/crc32c.h"
#include "common/base/ensure.h"

static const uint8_t magic[8] = { 'S', 'N', 'T', 'S', 'P', 'L', '1', '\n' };

#define HEAD_CHECKED 12u /* behind magic and checksum */

/* ---- bytes ---- */

static void store(uint8_t *to, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t) (value >> (8 * i));
}

static uint64_t load(const uint8_t *from, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n; i++)
        value |= (uint64_t) from[i] << (8 * i);
    return value;
}

void codec_put_u32(struct buf *to, uint32_t value)
{
    uint8_t bytes[4];

    store(bytes, value, sizeof(bytes));
    buf_append(to, bytes, sizeof(bytes));
}

void codec_put_u64(struct buf *to, uint64_t value)
{
    uint8_t bytes[8];

    store(bytes, value, sizeof(bytes));
    buf_append(to, bytes, sizeof(bytes));
}

void codec_put_varint(struct buf *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;

    while (value >= 0x80) {
        bytes[n++] = (uint8_t) (value | 0x80);
        value >>= 7;
    }
    bytes[n++] = (uint8_t) value;
    buf_append(to, bytes, n);
}

void codec_put_text(struct buf *to, struct span bytes)
{
    codec_put_varint(to, bytes.len);
    if (bytes.len)
        buf_append_span(to, bytes);
}

static void put_zigzag(struct buf *to, int64_t value)
{
    codec_put_varint(to, ((uint64_t) value << 1) ^ (uint64_t) (value < 0 ? -1 : 0));
}

bool codec_take_bytes(struct span *from, void *to, size_t len)
{
    if (from->len < len) {
        from->len = 0;
        return false;
    }
    memcpy(to, from->data, len);
    *from = span_of(from->data + len, from->len - len);
    return true;
}

bool codec_take_u32(struct span *from, uint32_t *ret)
{
    uint8_t bytes[4];

    if (!codec_take_bytes(from, bytes, sizeof(bytes)))
        return false;
    *ret = (uint32_t) load(bytes, sizeof(bytes));
    return true;
}

bool codec_take_u64(struct span *from, uint64_t *ret)
{
    uint8_t bytes[8];

    if (!codec_take_bytes(from, bytes, sizeof(bytes)))
        return false;
    *ret = load(bytes, sizeof(bytes));
    return true;
}

bool codec_take_varint(struct span *from, uint64_t *ret)
{
    uint64_t value = 0;

    for (size_t i = 0; i < from->len && i < 10; i++) {
        value |= (uint64_t) (from->data[i] & 0x7f) << (7 * i);
        if (from->data[i] < 0x80) {
            *ret = value;
            *from = span_of(from->data + i + 1, from->len - i - 1);
            return true;
        }
    }
    from->len = 0;
    return false;
}

bool codec_take_text(struct span *from, struct span *ret)
{
    uint64_t len;

    if (!codec_take_varint(from, &len) || len > from->len) {
        from->len = 0;
        return false;
    }
    *ret = span_of(from->data, (size_t) len);
    *from = span_of(from->data + len, from->len - (size_t) len);
    return true;
}

static bool take_zigzag(struct span *from, int64_t *ret)
{
    uint64_t value;

    if (!codec_take_varint(from, &value))
        return false;
    *ret = (int64_t) (value >> 1) ^ -(int64_t) (value & 1);
    return true;
}

/* How many items of at least `bytes` each; more than can be there is refused before memory is
 * asked for. */
static bool take_count(struct span *from, size_t bytes, size_t *ret)
{
    uint64_t n;

    if (!codec_take_varint(from, &n) || n > from->len / bytes)
        return false;
    *ret = (size_t) n;
    return true;
}

/* ---- the head ---- */

void codec_put_head(struct codec_head *head, uint8_t to[static CODEC_HEAD_BYTES])
{
    memset(to, 0, CODEC_HEAD_BYTES);
    memcpy(to, magic, sizeof(magic));
    store(to + 12, head->signal, 4);
    memcpy(to + 16, head->id, sizeof(head->id));
    memcpy(to + 32, head->boot_id, sizeof(head->boot_id));
    store(to + 48, head->ordinal, 8);
    store(to + 56, head->first_sequence, 8);
    store(to + 64, head->produced_before, 8);
    store(to + 72, (uint64_t) head->created_us, 8);
    store(to + 80, (uint64_t) head->created_boot_us, 8);
    store(to + 88, head->nonce, 8);
    head->crc32c = crc32c(0, to + HEAD_CHECKED, CODEC_HEAD_BYTES - HEAD_CHECKED);
    store(to + 8, head->crc32c, 4);
}

bool codec_read_head(const uint8_t from[static CODEC_HEAD_BYTES], struct codec_head *ret)
{
    uint32_t crc = crc32c(0, from + HEAD_CHECKED, CODEC_HEAD_BYTES - HEAD_CHECKED);

    if (memcmp(from, magic, sizeof(magic)) != 0 || load(from + 8, 4) != crc)
        return false;
    *ret = (struct codec_head){
        .crc32c = crc,
        .signal = (uint32_t) load(from + 12, 4),
        .ordinal = load(from + 48, 8),
        .first_sequence = load(from + 56, 8),
        .produced_before = load(from + 64, 8),
        .created_us = (int64_t) load(from + 72, 8),
        .created_boot_us = (int64_t) load(from + 80, 8),
        .nonce = load(from + 88, 8),
    };
    memcpy(ret->id, from + 16, sizeof(ret->id));
    memcpy(ret->boot_id, from + 32, sizeof(ret->boot_id));
    return ret->first_sequence > 0;
}

/* ---- frames ---- */

void codec_begin(struct buf *to)
{
    (void) buf_extend(to, CODEC_FRAME_BYTES);
}

void codec_finish(struct buf *to, size_t at, uint32_t seed, const struct codec_frame *frame)
{
    size_t len = to->len - at - CODEC_FRAME_BYTES;
    size_t padding = (CODEC_ALIGN - len % CODEC_ALIGN) % CODEC_ALIGN;
    uint8_t *front;

    if (padding)
        (void) buf_extend(to, padding);
    if (buf_failed(to))
        return;
    front = to->data + at;
    store(front + 4, len, 4);
    store(front + 8, (uint64_t) frame->kind, 4);
    store(front + 12, frame->records, 4);
    store(front + 16, frame->sequence, 8);
    store(front + 24, (uint64_t) frame->time_us, 8);
    store(front, crc32c(seed, front + 4, CODEC_FRAME_BYTES - 4 + len), 4);
}

int codec_read_frame(struct span bytes, uint32_t seed, struct codec_frame *ret)
{
    const uint8_t *at = bytes.data;
    uint64_t kind, len;

    if (bytes.len == 0 || (bytes.len >= CODEC_ALIGN && load(at, 8) == 0))
        return CODEC_NOTHING;
    if (bytes.len < CODEC_FRAME_BYTES)
        return CODEC_BAD;
    len = load(at + 4, 4);
    kind = load(at + 8, 4);
    if (kind < CODEC_LAYOUT || kind > CODEC_END || len > bytes.len - CODEC_FRAME_BYTES)
        return CODEC_BAD;
    if (crc32c(seed, at + 4, CODEC_FRAME_BYTES - 4 + (size_t) len) != load(at, 4))
        return CODEC_BAD;
    *ret = (struct codec_frame){
        .kind = (enum codec_kind) kind,
        .records = (uint32_t) load(at + 12, 4),
        .sequence = load(at + 16, 8),
        .time_us = (int64_t) load(at + 24, 8),
        .payload = span_of(at + CODEC_FRAME_BYTES, (size_t) len),
        .bytes = CODEC_FRAME_BYTES + (size_t) ((len + CODEC_ALIGN - 1) & ~(uint64_t) 7),
    };
    if (ret->bytes > bytes.len) /* the padding was cut off, and nothing is behind */
        ret->bytes = bytes.len;
    return 0;
}

size_t codec_find_frame(struct span bytes, size_t from, uint32_t seed)
{
    struct codec_frame frame;

    for (size_t at = from; at + CODEC_FRAME_BYTES <= bytes.len; at += CODEC_ALIGN)
        if (codec_read_frame(span_of(bytes.data + at, bytes.len - at), seed, &frame) == 0)
            return at;
    return bytes.len;
}

/* ---- metrics ---- */

void codec_put_layout(struct buf *to,
                      const struct spool_layout *layout,
                      const uint32_t *numbers,
                      const uint8_t *is_new)
{
    size_t n_new = 0;

    for (size_t i = 0; i < layout->n_series; i++)
        n_new += is_new[i];
    codec_put_varint(to, n_new);
    for (size_t i = 0; i < layout->n_series; i++) {
        const struct spool_series *series = layout->series[i];

        if (!is_new[i])
            continue;
        codec_put_varint(to, series->kind);
        codec_put_text(to, span_of_text(series->unit));
        codec_put_text(to, series->key);
    }
    codec_put_varint(to, layout->n_series);
    for (size_t i = 0; i < layout->n_series; i++)
        codec_put_varint(to, numbers[i]);
}

void codec_put_scrape(struct buf *to, const struct spool_scrape *scrape, uint32_t layout)
{
    uint32_t before = 0;

    codec_put_u64(to, (uint64_t) scrape->boot_us);
    codec_put_varint(to, layout);
    codec_put_varint(to, scrape->n_absent);
    for (size_t i = 0; i < scrape->n_absent; i++) {
        codec_put_varint(to, scrape->absent[i] - before);
        before = scrape->absent[i];
    }
    for (size_t i = 0; i < scrape->layout->n_series; i++) {
        uint64_t bits;

        memcpy(&bits, &scrape->values[i], sizeof(bits));
        codec_put_u64(to, bits);
    }
}

/* name NUL (key NUL value NUL)*, as spool_series_new() wants it. */
static bool is_series_key(struct span key)
{
    size_t n = 0;

    if (key.len == 0 || key.data[key.len - 1] != '\0')
        return false;
    for (size_t i = 0; i < key.len; i++)
        n += key.data[i] == '\0';
    return n % 2 == 1;
}

static bool read_series(struct span *from, struct codec_series *ret)
{
    uint64_t kind;

    if (!codec_take_varint(from, &kind) || !codec_take_text(from, &ret->unit) ||
        !codec_take_text(from, &ret->key))
        return false;
    ret->kind = (enum spool_kind) kind;
    return (kind == SPOOL_GAUGE || kind == SPOOL_COUNTER) && is_series_key(ret->key) &&
           (ret->unit.len == 0 || !memchr(ret->unit.data, 0, ret->unit.len));
}

int codec_read_layout(struct span payload,
                      size_t n_known,
                      struct arena *arena,
                      struct codec_layout *ret)
{
    struct codec_layout layout = { 0 };
    uint64_t number;

    if (!take_count(&payload, 3, &layout.n_new))
        return CODEC_BAD;
    layout.new_series = arena_alloc_array(arena, layout.n_new + 1, sizeof(*layout.new_series));
    if (!layout.new_series)
        return CODEC_BAD;
    for (size_t i = 0; i < layout.n_new; i++)
        if (!read_series(&payload, &layout.new_series[i]))
            return CODEC_BAD;
    if (!take_count(&payload, 1, &layout.n_series))
        return CODEC_BAD;
    layout.numbers = arena_alloc_array(arena, layout.n_series + 1, sizeof(*layout.numbers));
    if (!layout.numbers)
        return CODEC_BAD;
    for (size_t i = 0; i < layout.n_series; i++) {
        if (!codec_take_varint(&payload, &number) || number >= n_known + layout.n_new)
            return CODEC_BAD;
        layout.numbers[i] = (uint32_t) number;
    }
    *ret = layout;
    return payload.len == 0 ? 0 : CODEC_BAD;
}

int codec_read_scrape(struct span payload, struct arena *arena, struct codec_scrape *ret)
{
    struct codec_scrape scrape = { 0 };
    uint64_t boot_us, distance, at = 0;

    if (!codec_take_u64(&payload, &boot_us) || !codec_take_varint(&payload, &scrape.layout) ||
        !take_count(&payload, 1, &scrape.n_absent))
        return CODEC_BAD;
    scrape.boot_us = (int64_t) boot_us;
    scrape.absent = arena_alloc_array(arena, scrape.n_absent + 1, sizeof(*scrape.absent));
    if (!scrape.absent)
        return CODEC_BAD;
    for (size_t i = 0; i < scrape.n_absent; i++) {
        if (!codec_take_varint(&payload, &distance) || distance > UINT32_MAX ||
            (i > 0 && distance == 0))
            return CODEC_BAD;
        at += distance;
        if (at > UINT32_MAX)
            return CODEC_BAD;
        scrape.absent[i] = (uint32_t) at;
    }
    if (payload.len % 8 != 0)
        return CODEC_BAD;
    scrape.n_values = payload.len / 8;
    if (scrape.n_absent && at >= scrape.n_values)
        return CODEC_BAD;
    scrape.values = arena_alloc_array(arena, scrape.n_values + 1, sizeof(*scrape.values));
    if (!scrape.values)
        return CODEC_BAD;
    for (size_t i = 0; i < scrape.n_values; i++) {
        uint64_t bits = load(payload.data + 8 * i, 8);

        memcpy(&scrape.values[i], &bits, sizeof(bits));
    }
    *ret = scrape;
    return 0;
}

/* ---- logs ---- */

static void put_attributes(struct buf *to, const struct spool_log_attribute *attributes, size_t n)
{
    codec_put_varint(to, n);
    for (size_t i = 0; i < n; i++) {
        codec_put_text(to, attributes[i].key);
        codec_put_text(to, attributes[i].value);
    }
}

static void put_record(struct buf *to, const struct spool_log_record *record, int64_t time_us)
{
    put_zigzag(to, (int64_t) ((uint64_t) record->time_us - (uint64_t) time_us));
    put_zigzag(to, record->observed_us
                       ? (int64_t) ((uint64_t) record->observed_us - (uint64_t) time_us)
                       : INT64_MIN);
    codec_put_varint(to, (uint64_t) record->severity * 2 + record->is_raw);
    codec_put_varint(to, record->source_offset);
    codec_put_text(to, record->body);
    codec_put_text(to, record->trace_id);
    codec_put_text(to, record->span_id);
    put_attributes(to, record->attributes, record->n_attributes);
}

void codec_put_logs(struct buf *to, const struct spool_logs *logs, const struct codec_split *split)
{
    codec_put_varint(to, split && split->is_split);
    if (split && split->is_split) {
        codec_put_varint(to, split->ordinal);
        codec_put_varint(to, split->sequence);
        codec_put_varint(to, split->keep);
    }
    codec_put_varint(to, logs->n_offsets);
    for (size_t i = 0; i < logs->n_offsets; i++) {
        codec_put_text(to, logs->offsets[i].key);
        codec_put_text(to, logs->offsets[i].value);
    }
    codec_put_text(to, logs->source.type);
    codec_put_text(to, logs->source.name);
    put_attributes(to, logs->source.attributes, logs->source.n_attributes);
    codec_put_varint(to, logs->n_records);
    for (size_t i = 0; i < logs->n_records; i++)
        put_record(to, &logs->records[i], logs->time.us);
}

static bool take_attributes(struct span *from,
                            struct arena *arena,
                            const struct spool_log_attribute **ret,
                            size_t *ret_n)
{
    struct spool_log_attribute *attributes;

    if (!take_count(from, 2, ret_n))
        return false;
    attributes = arena_alloc_array(arena, *ret_n + 1, sizeof(*attributes));
    if (!attributes)
        return false;
    for (size_t i = 0; i < *ret_n; i++)
        if (!codec_take_text(from, &attributes[i].key) ||
            !codec_take_text(from, &attributes[i].value))
            return false;
    *ret = attributes;
    return true;
}

static bool take_offsets(struct span *from, struct arena *arena, struct spool_logs *ret)
{
    struct spool_offset *offsets;

    if (!take_count(from, 2, &ret->n_offsets))
        return false;
    offsets = arena_alloc_array(arena, ret->n_offsets + 1, sizeof(*offsets));
    if (!offsets)
        return false;
    for (size_t i = 0; i < ret->n_offsets; i++)
        if (!codec_take_text(from, &offsets[i].key) || !codec_take_text(from, &offsets[i].value) ||
            offsets[i].key.len == 0 || offsets[i].key.len > SPOOL_MAX_KEY_BYTES ||
            offsets[i].value.len > SPOOL_MAX_VALUE_BYTES)
            return false;
    ret->offsets = offsets;
    return true;
}

static bool
take_record(struct span *from, int64_t time_us, struct arena *arena, struct spool_log_record *ret)
{
    int64_t time, observed;
    uint64_t severity;

    if (!take_zigzag(from, &time) || !take_zigzag(from, &observed) ||
        !codec_take_varint(from, &severity) || severity / 2 > UINT32_MAX ||
        !codec_take_varint(from, &ret->source_offset) || !codec_take_text(from, &ret->body) ||
        !codec_take_text(from, &ret->trace_id) || !codec_take_text(from, &ret->span_id))
        return false;
    ret->time_us = (int64_t) ((uint64_t) time_us + (uint64_t) time);
    ret->observed_us =
        observed == INT64_MIN ? 0 : (int64_t) ((uint64_t) time_us + (uint64_t) observed);
    ret->severity = (uint32_t) (severity / 2);
    ret->is_raw = severity % 2 == 1;
    return take_attributes(from, arena, &ret->attributes, &ret->n_attributes);
}

static bool take_split(struct span *from, struct codec_split *ret)
{
    uint64_t is_split;

    *ret = (struct codec_split){ 0 };
    if (!codec_take_varint(from, &is_split) || is_split > 1)
        return false;
    ret->is_split = is_split == 1;
    return !is_split ||
           (codec_take_varint(from, &ret->ordinal) && codec_take_varint(from, &ret->sequence) &&
            codec_take_varint(from, &ret->keep) && ret->keep > 0);
}

int codec_read_logs(const struct codec_frame *frame,
                    struct arena *arena,
                    struct spool_logs *ret,
                    struct codec_split *ret_split)
{
    struct span from = frame->payload;
    struct spool_logs logs = { .time = { frame->time_us } };
    struct spool_log_record *records;

    if (!take_split(&from, ret_split) || !take_offsets(&from, arena, &logs) ||
        !codec_take_text(&from, &logs.source.type) || !codec_take_text(&from, &logs.source.name) ||
        !take_attributes(&from, arena, &logs.source.attributes, &logs.source.n_attributes) ||
        !take_count(&from, 8, &logs.n_records) || logs.n_records != frame->records)
        return CODEC_BAD;
    records = arena_alloc_array(arena, logs.n_records + 1, sizeof(*records));
    if (!records)
        return CODEC_BAD;
    for (size_t i = 0; i < logs.n_records; i++)
        if (!take_record(&from, frame->time_us, arena, &records[i]))
            return CODEC_BAD;
    logs.records = records;
    *ret = logs;
    return from.len == 0 ? 0 : CODEC_BAD;
}

/* ---- the end ---- */

void codec_put_end(struct buf *to, const struct codec_end *end)
{
    codec_put_u64(to, end->batches);
    codec_put_u64(to, end->records);
    codec_put_u64(to, (uint64_t) end->oldest_us);
    codec_put_u64(to, (uint64_t) end->newest_us);
}

bool codec_read_end(const struct codec_frame *frame, struct codec_end *ret)
{
    const uint8_t *at = frame->payload.data;

    if (frame->kind != CODEC_END || frame->payload.len != CODEC_END_BYTES - CODEC_FRAME_BYTES)
        return false;
    *ret = (struct codec_end){
        .batches = load(at, 8),
        .records = load(at + 8, 8),
        .oldest_us = (int64_t) load(at + 16, 8),
        .newest_us = (int64_t) load(at + 24, 8),
    };
    return true;
}
