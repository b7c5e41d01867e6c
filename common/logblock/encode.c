/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/logblock/parts.h"
#include "common/logblock/words.h"

/* Of zstd. Level 1 is half of what sealing costs; a faster one gives a fifth of the ratio away.
 * Level 6 makes a fifth less of it for five times the time; level 12 a tenth less again for thrice
 * that. */
#define LEVEL_FAST 1
#define HASH_LOG_FAST 13 /* a table that stays in the nearest cache: a twelfth less time */
#define LEVEL_SMALL 6

struct logblock_work {
    ZSTD_CCtx *zstd;
    struct parts_words words;
    struct parts_sets sets;
    struct parts_bytes head, columns, bodies, packed_columns, packed_bodies;
};

struct logblock_work *logblock_work_new(void)
{
    struct logblock_work *work = calloc(1, sizeof(*work));

    if (work)
        work->zstd = ZSTD_createCCtx();
    return work && work->zstd ? work : logblock_work_free(work);
}

struct logblock_work *logblock_work_free(struct logblock_work *work)
{
    if (work) {
        ZSTD_freeCCtx(work->zstd);
        parts_words_deinit(&work->words);
        parts_sets_deinit(&work->sets);
        free(work->head.data);
        free(work->columns.data);
        free(work->bodies.data);
        free(work->packed_columns.data);
        free(work->packed_bodies.data);
        free(work);
    }
    return NULL;
}

/* What goes behind the head: as it is stored, and how long it is when it is read. */
struct part {
    struct span stored;
    size_t len;
    bool is_zstd;
};

/* What the head says of the records. */
struct sums {
    int64_t first_us, last_us;
    uint32_t severities;
    uint64_t n_raw_bytes, n_body_bytes;
};

static struct sums sum_up(const struct logblock_input *input)
{
    struct sums sums = { .first_us = INT64_MAX, .last_us = INT64_MIN };

    for (size_t i = 0; i < input->n_records; i++) {
        const struct logblock_record *record = &input->records[i];

        ensure(record->severity <= LOGBLOCK_SEVERITY_MAX);
        sums.first_us = record->time_us < sums.first_us ? record->time_us : sums.first_us;
        sums.last_us = record->time_us > sums.last_us ? record->time_us : sums.last_us;
        sums.severities |= (uint32_t) 1 << record->severity;
        sums.n_raw_bytes += logblock_raw_bytes(record);
        sums.n_body_bytes += record->body.len;
    }
    ensure(sums.n_raw_bytes <= LOGBLOCK_RAW_MAX);
    return sums;
}

/* ---- bodies ---- */

static const uint8_t candidates[] = { '\n', 0x1e, 0x1f, 0x01, 0x02, 0 };

bool parts_may_separate(uint32_t separator)
{
    return separator == PARTS_LENGTHS ||
           (separator <= UINT8_MAX && memchr(candidates, (int) separator, sizeof(candidates)));
}

/* A byte that is in no body and no word, or PARTS_LENGTHS. */
static unsigned choose_separator(const struct logblock_input *input)
{
    for (size_t c = 0; c < sizeof(candidates); c++) {
        size_t i;

        for (i = 0; i < input->n_records; i++) {
            struct span body = input->records[i].body;

            if (body.len > 0 && memchr(body.data, candidates[c], body.len))
                break;
        }
        if (i == input->n_records)
            return candidates[c];
    }
    return PARTS_LENGTHS;
}

static int put_bodies(struct logblock_work *work,
                      const struct logblock_input *input,
                      unsigned separator,
                      uint8_t **ret_end)
{
    const struct logblock_record *records = input->records;
    uint8_t *to = work->bodies.data;
    int r;

    for (size_t i = 0; separator == PARTS_LENGTHS && i < input->n_records; i++)
        to = parts_put(to, records[i].body.len);
    for (size_t i = 0; i < input->n_records; i++) {
        uint8_t *start = to;

        to = parts_put_bytes(to, records[i].body);
        /* With nothing between them two words would be one; the next body is not there yet. */
        if (separator == PARTS_LENGTHS && !input->is_sent) {
            memset(to, 0, PARTS_SLACK);
            r = parts_words_add(&work->words, span_of(start, (size_t) (to - start)));
            if (r < 0)
                return pass(r);
        } else if (separator != PARTS_LENGTHS && i + 1 < input->n_records) {
            *to++ = (uint8_t) separator;
        }
    }
    memset(to, 0, PARTS_SLACK);
    *ret_end = to;
    if (separator == PARTS_LENGTHS || input->is_sent)
        return 0;
    return pass(parts_words_add(&work->words,
                                span_of(work->bodies.data, (size_t) (to - work->bodies.data))));
}

/* ---- parts ---- */

static int compress(struct logblock_work *work,
                    const struct logblock_input *input,
                    struct span bytes,
                    struct parts_bytes *room,
                    struct part *ret)
{
    bool is_fast = input->effort == LOGBLOCK_FAST;
    size_t capacity = ZSTD_compressBound(bytes.len), len;
    int r = parts_reserve(room, capacity);

    if (r < 0)
        return pass(r);
    /* Both are in bounds, and a context takes any. */
    (void) ZSTD_CCtx_setParameter(work->zstd, ZSTD_c_compressionLevel,
                                  is_fast ? LEVEL_FAST : LEVEL_SMALL);
    (void) ZSTD_CCtx_setParameter(work->zstd, ZSTD_c_hashLog, is_fast ? HASH_LOG_FAST : 0);
    len = ZSTD_compress2(work->zstd, room->data, capacity, bytes.data, bytes.len);
    if (ZSTD_isError(len))
        return fault(-ENOMEM, "no memory to compress %zu bytes of logs", bytes.len);
    *ret = (struct part){ bytes, bytes.len, false };
    if (len < bytes.len)
        *ret = (struct part){ span_of(room->data, len), bytes.len, true };
    return 0;
}

static int make_columns(struct logblock_work *work,
                        const struct logblock_input *input,
                        const struct sums *sums,
                        struct part *ret)
{
    uint8_t *end = NULL;
    int r = parts_reserve(&work->columns, parts_columns_room(input));

    if (r == 0)
        r = parts_columns_encode(input, sums->first_us, &work->sets, work->columns.data, &end);
    if (r < 0)
        return pass(r);
    return pass(compress(work, input,
                         span_of(work->columns.data, (size_t) (end - work->columns.data)),
                         &work->packed_columns, ret));
}

static int make_bodies(struct logblock_work *work,
                       const struct logblock_input *input,
                       const struct sums *sums,
                       unsigned separator,
                       struct part *ret)
{
    size_t room = sums->n_body_bytes + 4 * input->n_records + PARTS_SLACK;
    uint8_t *end = NULL;
    int r = parts_reserve(&work->bodies, room);

    if (r == 0)
        r = parts_words_begin(&work->words);
    if (r == 0)
        r = put_bodies(work, input, separator, &end);
    if (r < 0)
        return pass(r);
    return pass(compress(work, input,
                         span_of(work->bodies.data, (size_t) (end - work->bodies.data)),
                         &work->packed_bodies, ret));
}

/* ---- the head ---- */

static uint8_t *put_part(uint8_t *to, const struct part *part)
{
    to = parts_put(to, part->len);
    to = parts_put(to, part->stored.len);
    return parts_put32(to, crc32c(0, part->stored.data, part->stored.len));
}

uint8_t *parts_put_place(uint8_t *to, uint64_t chunk_before, const struct logblock_place *place)
{
    to = parts_put_zigzag(to, place->chunk - chunk_before);
    to = parts_put(to, place->offset);
    return parts_put(to, place->index);
}

static uint8_t *
put_numbers(uint8_t *to, const struct logblock_input *input, const struct sums *sums)
{
    struct logblock_place first = parts_place_of(input, 0);
    struct logblock_place last = parts_place_of(input, input->n_records - 1);

    to = parts_put_zigzag(to, (uint64_t) sums->first_us);
    to = parts_put(to, (uint64_t) sums->last_us - (uint64_t) sums->first_us);
    to = parts_put(to, input->n_records);
    to = parts_put(to, sums->severities);
    to = parts_put(to, sums->n_raw_bytes);
    to = parts_put_place(to, 0, &first);
    return parts_put_place(to, first.chunk, &last);
}

static size_t source_room(const struct logblock_source *source)
{
    size_t n = source->type.len + source->name.len +
               parts_attributes_bytes(source->attributes, source->n_attributes);

    ensure(source->n_attributes <= LOGBLOCK_ATTRIBUTES_MAX && n <= LOGBLOCK_SOURCE_MAX);
    return n + PARTS_COLUMNS_ATTRIBUTE * source->n_attributes;
}

static uint8_t *put_source(uint8_t *to, const struct logblock_source *source)
{
    to = parts_put(to, source->type.len);
    to = parts_put(to, source->name.len);
    to = parts_put(to, source->n_attributes);
    to = parts_put_attributes(to, source->attributes, source->n_attributes);
    to = parts_put_bytes(to, source->type);
    return parts_put_bytes(to, source->name);
}

static int make_head(struct logblock_work *work,
                     const struct logblock_input *input,
                     const struct sums *sums,
                     unsigned separator,
                     const struct part parts[static 2],
                     struct span *ret)
{
    size_t n_filter = parts_filter_bytes(&work->words, sums->n_body_bytes), len;
    unsigned flags =
        (parts[0].is_zstd ? PARTS_ZSTD_COLUMNS : 0u) | (parts[1].is_zstd ? PARTS_ZSTD_BODIES : 0u);
    int r = parts_reserve(&work->head, PARTS_HEAD_MAX + source_room(input->source) + n_filter);
    uint8_t *start = work->head.data, *to;

    if (r < 0)
        return pass(r);
    to = parts_put_bytes(start, span_of(PARTS_MAGIC, 4));
    to = parts_put32(to, 0); /* when what it covers is there */
    to = parts_put32(to, LOGBLOCK_VERSION | flags << 8 | separator << 16);
    to = parts_put32(to, 0);
    to = put_numbers(to, input, sums);
    to = put_part(to, &parts[0]);
    to = put_part(to, &parts[1]);
    to = put_source(to, input->source);
    memset(to, 0, n_filter);
    parts_filter_make(&work->words, to, n_filter);
    len = (size_t) (to + n_filter - start);
    (void) parts_put32(start + 12, (uint32_t) len);
    (void) parts_put32(start + 4, crc32c(0, start + PARTS_CHECKED, len - PARTS_CHECKED));
    *ret = span_of(start, len);
    return 0;
}

static int put_block(struct span head, const struct part parts[static 2], struct buf *out)
{
    buf_append_span(out, head);
    buf_append_span(out, parts[0].stored);
    buf_append_span(out, parts[1].stored);
    return buf_failed(out) ? fault(-ENOMEM, "no memory for a block of logs") : 0;
}

int logblock_encode(struct logblock_work *work, const struct logblock_input *input, struct buf *out)
{
    static const struct logblock_source no_source = { 0 };
    struct logblock_input from = *input;
    unsigned separator;
    struct part parts[2] = { 0 };
    struct sums sums;
    struct span head = { 0 };
    int r;

    ensure(input->n_records >= 1 && input->n_records <= LOGBLOCK_RECORDS_MAX);
    if (input->is_sent)
        from.source = &no_source;
    sums = sum_up(&from);
    separator = choose_separator(&from);
    r = make_columns(work, &from, &sums, &parts[0]);
    if (r == 0)
        r = make_bodies(work, &from, &sums, separator, &parts[1]);
    if (r == 0)
        r = make_head(work, &from, &sums, separator, parts, &head);
    return r < 0 ? pass(r) : pass(put_block(head, parts, out));
}

/* The words of bodies that are decoded: with a byte between them they are one text. */
static int add_sent_words(struct parts_words *words, const struct logblock_sent *sent)
{
    int r = parts_words_begin(words);

    if (r == 0 && !sent->has_lengths)
        r = parts_words_add(words, sent->bodies);
    for (size_t i = 0; r == 0 && sent->has_lengths && i < sent->n_records; i++)
        r = parts_words_add(words, sent->records[i].body);
    return pass(r);
}

int logblock_encode_sent(struct logblock_work *work,
                         const struct logblock_source *source,
                         const struct logblock_sent *sent,
                         struct buf *out)
{
    struct logblock_input input = {
        .source = source, .records = sent->records, .n_records = sent->n_records, .is_pack = true
    };
    const struct part parts[2] = {
        { sent->columns_stored, sent->columns_len, sent->flags & PARTS_ZSTD_COLUMNS },
        { sent->bodies_stored, sent->bodies.len, sent->flags & PARTS_ZSTD_BODIES },
    };
    struct sums sums = sum_up(&input);
    struct span head = { 0 };
    int r = add_sent_words(&work->words, sent);

    if (r == 0)
        r = make_head(work, &input, &sums, sent->separator, parts, &head);
    return r < 0 ? pass(r) : pass(put_block(head, parts, out));
}
