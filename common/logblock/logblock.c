/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/logblock/parts.h"
#include "common/logblock/words.h"

int parts_reserve(struct parts_bytes *bytes, size_t n)
{
    if (n <= bytes->capacity)
        return 0;
    /* What it held is of no use: nothing is copied. */
    if (bytes->arena) {
        bytes->data = arena_alloc(bytes->arena, n);
        bytes->capacity = bytes->data ? n : 0;
        return bytes->data ? 0 : fault(-ENOMEM, "no memory for %zu bytes of logs", n);
    }
    free(bytes->data);
    bytes->capacity = 0;
    bytes->data = malloc(n + n / 4);
    if (!bytes->data)
        return fault(-ENOMEM, "no memory for %zu bytes of logs", n);
    bytes->capacity = n + n / 4;
    return 0;
}

bool parts_take_slowly(struct span *bytes, uint64_t *ret)
{
    uint64_t number = 0;

    for (size_t i = 0; i < bytes->len && i < 10; i++) {
        uint8_t byte = bytes->data[i];

        if (i == 9 && byte > 1)
            return false;
        number |= (uint64_t) (byte & 127) << 7 * i;
        if (byte < 128) {
            *ret = number;
            *bytes = span_of(bytes->data + i + 1, bytes->len - i - 1);
            return true;
        }
    }
    return false;
}

struct logblock_room *logblock_room_new(void)
{
    struct logblock_room *room = calloc(1, sizeof(*room));

    if (room)
        room->zstd = ZSTD_createDCtx();
    return room && room->zstd ? room : logblock_room_free(room);
}

struct logblock_room *logblock_room_free(struct logblock_room *room)
{
    if (room) {
        ZSTD_freeDCtx(room->zstd);
        free(room->bodies.data);
        free(room->columns.data);
        free(room->records.data);
        free(room->marks.data);
        free(room->sets.data);
        free(room->attributes.data);
        free(room->source.data);
        free(room);
    }
    return NULL;
}

/* ---- opening ---- */

static bool take_place(struct span *bytes, uint64_t chunk_before, struct logblock_place *ret)
{
    uint64_t chunk, offset, index;

    if (!parts_take_zigzag(bytes, &chunk) || !parts_take(bytes, &offset) ||
        !parts_take(bytes, &index) || offset > UINT32_MAX || index > UINT32_MAX)
        return false;
    *ret = (struct logblock_place){ chunk_before + chunk, (uint32_t) offset, (uint32_t) index };
    return true;
}

/* What the head says before its places. */
static bool take_sums(struct span *bytes, struct logblock *block)
{
    uint64_t first, span_us, n_records, severities;

    if (!parts_take_zigzag(bytes, &first) || !parts_take(bytes, &span_us) ||
        !parts_take(bytes, &n_records) || !parts_take(bytes, &severities) ||
        !parts_take(bytes, &block->n_raw_bytes))
        return false;
    block->first_us = (int64_t) first;
    block->last_us = (int64_t) (first + span_us);
    block->n_records = (uint32_t) n_records;
    block->severities = (uint32_t) severities;
    return block->last_us >= block->first_us && n_records >= 1 &&
           n_records <= LOGBLOCK_RECORDS_MAX && severities >= 1 &&
           severities >> (LOGBLOCK_SEVERITY_MAX + 1) == 0 && block->n_raw_bytes <= LOGBLOCK_RAW_MAX;
}

static bool take_places(struct span *bytes, struct logblock *block)
{
    return take_place(bytes, 0, &block->first) &&
           take_place(bytes, block->first.chunk, &block->last);
}

/* A part behind the head: its length, and what of the rest it is. */
static bool take_part(struct span *head,
                      struct span *rest,
                      uint64_t *ret_len,
                      uint32_t *ret_crc,
                      struct span *ret)
{
    uint64_t stored;
    struct span crc;

    if (!parts_take(head, ret_len) || !parts_take(head, &stored) ||
        !parts_take_bytes(head, 4, &crc) || !parts_take_bytes(rest, stored, ret))
        return false;
    *ret_crc = parts_load32(crc.data);
    return true;
}

static int take_source(struct span *bytes, struct logblock_room *room, struct logblock_source *ret)
{
    struct logblock_attribute *attributes;
    uint64_t type, name, n;
    int r;

    if (!parts_take(bytes, &type) || !parts_take(bytes, &name) || !parts_take(bytes, &n) ||
        n > LOGBLOCK_ATTRIBUTES_MAX)
        return LOGBLOCK_BAD;
    r = parts_reserve(&room->source, (size_t) n * sizeof(*attributes));
    if (r < 0)
        return pass(r);
    attributes = (void *) room->source.data;
    if (!parts_take_attributes(bytes, (size_t) n, attributes) ||
        !parts_take_bytes(bytes, type, &ret->type) || !parts_take_bytes(bytes, name, &ret->name))
        return LOGBLOCK_BAD;
    ret->attributes = attributes;
    ret->n_attributes = (size_t) n;
    return LOGBLOCK_OK;
}

static bool
is_length_plausible(const struct logblock *block, bool is_zstd, size_t len, size_t stored)
{
    size_t n = block->n_records;

    return is_zstd ? len <= (size_t) LOGBLOCK_RAW_MAX * 2 + n * PARTS_COLUMNS_RECORD
                   : len == stored;
}

/* Takes the head of what is there, whole by its checksum; *ret_head is behind what is fixed. */
static bool take_head(struct span *bytes, struct logblock *ret, struct span *ret_head)
{
    const uint8_t *start = bytes->data;
    struct span head;
    uint32_t end;

    if (bytes->len < PARTS_FIXED || !logblock_is_block(*bytes))
        return false;
    end = parts_load32(start + 12);
    if (end < PARTS_FIXED || !parts_take_bytes(bytes, end, &head) ||
        parts_load32(start + 4) != crc32c(0, start + PARTS_CHECKED, end - PARTS_CHECKED))
        return false;
    *ret_head = span_of(start + PARTS_FIXED, end - PARTS_FIXED);
    *ret = (struct logblock){
        .n_head_bytes = end,
        .version = start[8],
        .flags = start[9],
        .separator = parts_load32(start + 8) >> 16,
    };
    return ret->version >= 1 && ret->version <= LOGBLOCK_VERSION &&
           ret->separator <= PARTS_LENGTHS &&
           ret->flags <= (PARTS_ZSTD_COLUMNS | PARTS_ZSTD_BODIES);
}

int logblock_next(struct span *bytes, struct logblock_room *room, struct logblock *ret)
{
    struct logblock block;
    struct span head, rest = *bytes;
    int r;

    if (!take_head(&rest, &block, &head) || !take_sums(&head, &block) ||
        !take_places(&head, &block) ||
        !take_part(&head, &rest, &block.columns_len, &block.columns_crc, &block.columns) ||
        !take_part(&head, &rest, &block.bodies_len, &block.bodies_crc, &block.bodies))
        return LOGBLOCK_BAD;
    if (!is_length_plausible(&block, block.flags & PARTS_ZSTD_COLUMNS, block.columns_len,
                             block.columns.len) ||
        !is_length_plausible(&block, block.flags & PARTS_ZSTD_BODIES, block.bodies_len,
                             block.bodies.len))
        return LOGBLOCK_BAD;
    r = take_source(&head, room, &block.source);
    if (r < 0)
        return pass(r);
    if (r > 0)
        return LOGBLOCK_BAD;
    block.filter = head;
    *bytes = rest;
    *ret = block;
    return LOGBLOCK_OK;
}

int logblock_open(struct span bytes, struct logblock_room *room, struct logblock *ret)
{
    struct logblock block;
    int r = logblock_next(&bytes, room, &block);

    if (r < 0)
        return pass(r);
    if (r > 0 || bytes.len > 0)
        return LOGBLOCK_BAD;
    *ret = block;
    return LOGBLOCK_OK;
}

/* ---- moving ---- */

bool logblock_is_block(struct span bytes)
{
    return bytes.len >= 4 && memcmp(bytes.data, PARTS_MAGIC, 4) == 0;
}

void logblock_move_records(struct logblock_record *records, size_t n, struct logblock_place at)
{
    for (size_t i = 0; i < n; i++) {
        records[i].place.chunk += at.chunk;
        records[i].place.offset += at.offset;
    }
}

/* Between the numbers before the places and what is behind them. */
static void put_moved_head(struct buf *out,
                           const uint8_t *start,
                           struct span numbers,
                           const struct logblock_place *first,
                           const struct logblock_place *last,
                           struct span rest)
{
    uint8_t places[PARTS_HEAD_MAX], *to;
    size_t at = out->len, n_head;

    to = parts_put_place(places, 0, first);
    to = parts_put_place(to, first->chunk, last);
    buf_append(out, start, PARTS_FIXED);
    buf_append_span(out, numbers);
    buf_append(out, places, (size_t) (to - places));
    buf_append_span(out, rest);
    if (buf_failed(out))
        return;
    n_head = out->len - at;
    (void) parts_put32(out->data + at + 12, (uint32_t) n_head);
    (void) parts_put32(out->data + at + 4,
                       crc32c(0, out->data + at + PARTS_CHECKED, n_head - PARTS_CHECKED));
}

int logblock_move(struct span bytes, struct logblock_place at, struct buf *out)
{
    const uint8_t *start = bytes.data, *behind_sums;
    struct logblock block;
    struct span head, rest = bytes;

    if (!take_head(&rest, &block, &head) || block.version < 2 || !take_sums(&head, &block))
        return LOGBLOCK_BAD;
    behind_sums = head.data;
    if (!take_places(&head, &block))
        return LOGBLOCK_BAD;
    block.first.chunk += at.chunk;
    block.first.offset += at.offset;
    block.last.chunk += at.chunk;
    block.last.offset += at.offset;
    put_moved_head(out, start,
                   span_of(start + PARTS_FIXED, (size_t) (behind_sums - start) - PARTS_FIXED),
                   &block.first, &block.last, head);
    buf_append_span(out, rest);
    return buf_failed(out) ? fault(-ENOMEM, "no memory for a block of logs") : LOGBLOCK_OK;
}

/* ---- finding ---- */

/* A block that is being read. */
struct reading {
    const struct logblock *block;
    const struct logblock_wanted *wanted;
    bool is_all; /* whatever its time: to_us is exclusive */
    struct logblock_room *room;
    struct logblock_record *records; /* NULL: none yet */
    uint8_t *marks;                  /* which of them are wanted */
    struct span columns;             /* what is left of them */
    struct span bodies;
    bool has_columns, has_bodies; /* bodies are those of the records */
    uint64_t n_bytes;
};

/* Into the room, also what is not compressed: the block may be gone before the records. */
static int
decode(struct reading *reading, bool is_columns, struct parts_bytes *room, struct span *ret)
{
    const struct logblock *block = reading->block;
    struct span stored = is_columns ? block->columns : block->bodies;
    size_t len = (size_t) (is_columns ? block->columns_len : block->bodies_len);
    bool is_zstd = block->flags & (is_columns ? PARTS_ZSTD_COLUMNS : PARTS_ZSTD_BODIES);
    int r;

    if (crc32c(0, stored.data, stored.len) != (is_columns ? block->columns_crc : block->bodies_crc))
        return LOGBLOCK_BAD;
    r = parts_reserve(room, len + PARTS_SLACK);
    if (r < 0)
        return pass(r);
    if (!is_zstd)
        (void) parts_put_bytes(room->data, stored);
    else if (ZSTD_decompressDCtx(reading->room->zstd, room->data, len, stored.data, stored.len) !=
             len)
        return LOGBLOCK_BAD;
    reading->n_bytes += len;
    *ret = span_of(room->data, len);
    return LOGBLOCK_OK;
}

static int make_records(struct reading *reading)
{
    size_t n = reading->block->n_records;
    int r;

    if (reading->records)
        return 0;
    r = parts_reserve(&reading->room->records, n * sizeof(*reading->records));
    if (r == 0)
        r = parts_reserve(&reading->room->marks, n);
    if (r < 0)
        return pass(r);
    reading->records = (void *) reading->room->records.data;
    reading->marks = reading->room->marks.data;
    memset(reading->records, 0, n * sizeof(*reading->records));
    memset(reading->marks, 1, n);
    return 0;
}

static int begin_columns(struct reading *reading)
{
    int r;

    if (reading->has_columns)
        return LOGBLOCK_OK;
    r = decode(reading, true, &reading->room->columns, &reading->columns);
    if (r == 0)
        r = make_records(reading);
    if (r == 0)
        r = parts_columns_begin(reading->block, &reading->columns, reading->records);
    reading->has_columns = r == 0;
    return pass(r);
}

static bool split_by_lengths(struct reading *reading)
{
    struct span bodies = reading->bodies;
    uint64_t len;

    for (size_t i = 0; i < reading->block->n_records; i++) {
        if (!parts_take(&bodies, &len) || len > bodies.len)
            return false;
        reading->records[i].body.len = (size_t) len;
    }
    for (size_t i = 0; i < reading->block->n_records; i++)
        if (!parts_take_bytes(&bodies, reading->records[i].body.len, &reading->records[i].body))
            return false;
    return bodies.len == 0;
}

static bool split_by_separator(struct reading *reading)
{
    const uint8_t *at = reading->bodies.data, *end = at + reading->bodies.len;
    size_t n = reading->block->n_records;

    for (size_t i = 0; i < n; i++) {
        const uint8_t *stop = memchr(at, (int) reading->block->separator, (size_t) (end - at));

        if (!stop != (i == n - 1))
            return false;
        stop = stop ? stop : end;
        reading->records[i].body = span_of(at, (size_t) (stop - at));
        at = stop + 1;
    }
    return true;
}

static int split_bodies(struct reading *reading)
{
    bool is_good;
    int r;

    if (reading->has_bodies)
        return LOGBLOCK_OK;
    r = make_records(reading);
    if (r < 0)
        return pass(r);
    is_good = reading->block->separator == PARTS_LENGTHS ? split_by_lengths(reading)
                                                         : split_by_separator(reading);
    reading->has_bodies = is_good;
    return is_good ? LOGBLOCK_OK : LOGBLOCK_BAD;
}

static bool is_passed_over(const struct logblock *block, const struct logblock_wanted *wanted)
{
    return block->last_us < wanted->from_us || block->first_us >= wanted->to_us ||
           wanted->min_severity > LOGBLOCK_SEVERITY_MAX ||
           block->severities >> wanted->min_severity == 0 ||
           (wanted->terms && !logblock_may_hold(block, wanted->terms));
}

/* Leaves marks where time and severity are wanted. */
static int mark_by_columns(struct reading *reading, bool *ret_is_any)
{
    const struct logblock *block = reading->block;
    const struct logblock_wanted *wanted = reading->wanted;
    uint32_t below = ((uint32_t) 1 << wanted->min_severity) - 1;
    int r;

    *ret_is_any = true;
    if (reading->is_all || (block->first_us >= wanted->from_us && block->last_us < wanted->to_us &&
                            !(block->severities & below)))
        return LOGBLOCK_OK;
    r = begin_columns(reading);
    if (r != 0)
        return pass(r);
    *ret_is_any = false;
    for (size_t i = 0; i < block->n_records; i++) {
        const struct logblock_record *record = &reading->records[i];

        reading->marks[i] = record->time_us >= wanted->from_us && record->time_us < wanted->to_us &&
                            record->severity >= wanted->min_severity;
        *ret_is_any |= reading->marks[i];
    }
    return LOGBLOCK_OK;
}

/* Of those with marks, where bodies hold the terms. The bodies are searched as one text. */
static void mark_hits(struct reading *reading, const uint8_t *hit)
{
    const struct logblock_terms *terms = reading->wanted->terms;
    const struct parts_term *term = &terms->terms[0];
    const uint8_t *end = reading->bodies.data + reading->bodies.len;

    for (size_t i = 0; i < reading->block->n_records; i++) {
        struct span body = reading->records[i].body;
        const uint8_t *stop = body.data + body.len;
        bool is_hit = false;

        if (hit && hit < body.data)
            hit = parts_find(term, body.data, end);
        while (hit && hit < stop && !is_hit) {
            is_hit = term->len <= (size_t) (stop - hit) && parts_is_bounded(term, body, hit);
            hit = is_hit ? hit : parts_find(term, hit + 1, end);
        }
        reading->marks[i] = reading->marks[i] && is_hit && parts_holds(terms, 1, body);
        if (is_hit)
            hit = parts_find(term, stop, end);
    }
}

static int mark_by_bodies(struct reading *reading, bool *ret_is_any)
{
    const struct logblock_wanted *wanted = reading->wanted;
    bool has_terms = wanted->terms && wanted->terms->n_terms > 0;
    const uint8_t *hit = NULL;
    int r = decode(reading, false, &reading->room->bodies, &reading->bodies);

    if (r != 0)
        return pass(r);
    if (has_terms) {
        hit = parts_find(&wanted->terms->terms[0], reading->bodies.data,
                         reading->bodies.data + reading->bodies.len);
        *ret_is_any = hit;
        if (!hit)
            return LOGBLOCK_OK;
    }
    r = split_bodies(reading);
    if (r != 0)
        return pass(r);
    if (has_terms)
        mark_hits(reading, hit);
    *ret_is_any = false;
    for (size_t i = 0; i < reading->block->n_records; i++) {
        if (reading->marks[i] && wanted->is_wanted)
            reading->marks[i] = wanted->is_wanted(wanted->ctx, reading->records[i].body);
        *ret_is_any |= reading->marks[i];
    }
    return LOGBLOCK_OK;
}

/* Everything of the records, and those with marks to the front. */
static int finish(struct reading *reading, size_t *ret_n)
{
    size_t n = 0;
    int r = begin_columns(reading);

    if (r == 0)
        r = parts_columns_rest(reading->block, reading->columns, reading->room, reading->records);
    if (r != 0)
        return pass(r);
    for (size_t i = 0; i < reading->block->n_records; i++) {
        if (!reading->marks[i])
            continue;
        if (n < i)
            reading->records[n] = reading->records[i];
        n++;
    }
    *ret_n = n;
    return LOGBLOCK_OK;
}

static int find(struct reading *reading, size_t *ret_n)
{
    bool is_any = true;
    int r;

    r = mark_by_columns(reading, &is_any);
    if (r == 0 && is_any)
        r = mark_by_bodies(reading, &is_any);
    if (r == 0 && is_any)
        r = finish(reading, ret_n);
    return pass(r);
}

int logblock_find(const struct logblock *block,
                  const struct logblock_wanted *wanted,
                  struct logblock_room *room,
                  struct logblock_record **ret_records,
                  size_t *ret_n,
                  uint64_t *ret_bytes_read)
{
    static const struct logblock_wanted all = { 0 };
    struct reading reading = {
        .block = block, .wanted = wanted ? wanted : &all, .is_all = !wanted, .room = room
    };
    size_t n = 0;
    int r = LOGBLOCK_OK;

    if (reading.is_all || !is_passed_over(block, wanted))
        r = find(&reading, &n);
    if (r != 0)
        return pass(r);
    *ret_records = reading.records;
    *ret_n = n;
    *ret_bytes_read = reading.n_bytes;
    return LOGBLOCK_OK;
}
