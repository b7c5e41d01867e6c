/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Batches of logs: records become packs on the call's thread, in the form the journal keeps.
 *
 * What has some tens of kibibytes becomes a block there and then, while its bytes are in the
 * nearest cache: so the journal's writer moves a tenth of them, and the sealer only puts blocks one
 * behind the other. Less would compress badly alone; it waits, as it came, for what comes behind.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/days/days.h"
#include "server/store/journal/batch.h"
#include "server/store/logs/logs.h"

/*
 * Of the records of a batch that are of one day. At MIN a block has the ratio that is promised (8);
 * half of that does not. Above RAW they are cut: a block's bodies and what is made of them then
 * stay in the second cache, and a reader decodes no more than that for one record. One that was
 * sent is kept up to SENT.
 */
#define BLOCK_RAW_MIN (UINT64_C(32) << 10)
#define BLOCK_RAW_BYTES (UINT64_C(256) << 10)
#define SENT_RAW_BYTES (2 * BLOCK_RAW_BYTES)
#define PACKER_RAW_BYTES (UINT64_C(1) << 20) /* room of a packer that is worth to be kept */

struct store_packer {
    struct logblock_work *work;
    struct buf bytes; /* PACK records */
    size_t n_packs;
    uint64_t n_records, n_raw_bytes;
    uint64_t max_raw_bytes; /* of a block, since it was made */
};

/* The first records of some that make one pack. */
struct cut {
    size_t n_records, n_bytes; /* bytes of the pack at most */
    uint64_t n_raw_bytes;
    int64_t first_us, last_us;
};

static struct cut
cut_pack(size_t source_bytes, const struct logblock_record *records, size_t n_records)
{
    int32_t day = day_of(records[0].time_us);
    size_t max_bytes = FORMAT_PACK_BYTES - sizeof(struct format_pack);
    struct cut cut = { .n_bytes = source_bytes, .first_us = INT64_MAX, .last_us = INT64_MIN };

    for (; cut.n_records < n_records; cut.n_records++) {
        const struct logblock_record *record = &records[cut.n_records];
        size_t n_more = logblock_pack_bytes(record);

        if (cut.n_records == LOGBLOCK_RECORDS_MAX)
            break;
        if (cut.n_records && (cut.n_bytes + n_more > max_bytes || day_of(record->time_us) != day))
            break;
        cut.n_bytes += n_more;
        cut.n_raw_bytes += logblock_raw_bytes(record);
        cut.first_us = record->time_us < cut.first_us ? record->time_us : cut.first_us;
        cut.last_us = record->time_us > cut.last_us ? record->time_us : cut.last_us;
    }
    return cut;
}

static size_t record_bytes(size_t pack_bytes)
{
    return sizeof(struct format_pack) + ((pack_bytes + 7) & ~(size_t) 7);
}

size_t store_logs_bytes(const struct logblock_source *source,
                        const struct logblock_record *records,
                        size_t n_records)
{
    size_t n_bytes = 0, source_bytes = logblock_source_bytes(source);

    for (size_t done = 0; done < n_records;) {
        struct cut cut = cut_pack(source_bytes, records + done, n_records - done);

        n_bytes += record_bytes(cut.n_bytes);
        done += cut.n_records;
    }
    return n_bytes;
}

/* ---- packs of few records ---- */

static void put_head(struct store_packer *packer, size_t at, struct format_pack *head)
{
    size_t n_bytes = packer->bytes.len - at - sizeof(*head), n_padding = (8 - n_bytes % 8) % 8;

    (void) buf_extend(&packer->bytes, n_padding);
    if (buf_failed(&packer->bytes))
        return;
    ensure(record_bytes(n_bytes) <= UINT32_MAX);
    head->head = (struct format_record){ .type = FORMAT_PACK,
                                         .signal = STORE_LOGS,
                                         .n_bytes = (uint32_t) record_bytes(n_bytes) };
    head->n_bytes = (uint32_t) n_bytes;
    memcpy(packer->bytes.data + at, head, sizeof(*head));
    packer->n_packs++;
    packer->n_records += head->n_records;
    packer->n_raw_bytes += head->n_raw_bytes;
}

static struct format_pack head_of(const struct logblock_source *source, const struct cut *cut)
{
    return (struct format_pack){ .first_us = cut->first_us,
                                 .last_us = cut->last_us,
                                 .source = logs_source_hash(source),
                                 .n_records = (uint32_t) cut->n_records,
                                 .n_raw_bytes = (uint32_t) cut->n_raw_bytes };
}

/* No memory: the buffer says so. */
static void add_pack(struct store_packer *packer,
                     const struct logblock_source *source,
                     const struct logblock_record *records,
                     const struct cut *cut)
{
    struct format_pack head = head_of(source, cut);
    size_t at = packer->bytes.len;
    uint8_t *to = buf_extend(&packer->bytes, record_bytes(cut->n_bytes)), *end;

    if (!to)
        return;
    end = logblock_pack(to + sizeof(head), source, records, cut->n_records);
    packer->bytes.len = (size_t) (end - packer->bytes.data);
    ensure(packer->bytes.len - at - sizeof(head) <= cut->n_bytes);
    put_head(packer, at, &head);
}

static void add_packs(struct store_packer *packer,
                      const struct logblock_source *source,
                      const struct logblock_record *records,
                      size_t n_records)
{
    size_t source_bytes = logblock_source_bytes(source);

    for (size_t done = 0; done < n_records;) {
        struct cut cut = cut_pack(source_bytes, records + done, n_records - done);

        add_pack(packer, source, records + done, &cut);
        done += cut.n_records;
    }
}

/* ---- packs of many, which are blocks ---- */

/* The first records that have so many raw bytes, or all. */
static struct cut cut_block(const struct logblock_record *records, size_t n_records, uint64_t goal)
{
    struct cut cut = { .first_us = INT64_MAX, .last_us = INT64_MIN };

    while (cut.n_records < n_records && cut.n_records < LOGBLOCK_RECORDS_MAX &&
           cut.n_raw_bytes < goal) {
        const struct logblock_record *record = &records[cut.n_records];
        size_t n_more = logblock_raw_bytes(record);

        if (cut.n_records && cut.n_raw_bytes + n_more > LOGBLOCK_RAW_MAX)
            break;
        cut.n_records++;
        cut.n_raw_bytes += n_more;
        cut.first_us = record->time_us < cut.first_us ? record->time_us : cut.first_us;
        cut.last_us = record->time_us > cut.last_us ? record->time_us : cut.last_us;
    }
    return cut;
}

/* Records of a batch that are of one day. */
struct stretch {
    const struct logblock_source *source;
    const struct logblock_record *records;
    size_t n_records;
    uint64_t n_raw_bytes;
    const struct logblock_sent *sent; /* NULL, or the block with these and no others */
};

static int add_block(struct store_packer *packer,
                     const struct stretch *stretch,
                     size_t from,
                     const struct cut *cut)
{
    struct logblock_input input = { .source = stretch->source,
                                    .records = stretch->records + from,
                                    .n_records = cut->n_records,
                                    .effort = LOGBLOCK_FAST,
                                    .is_pack = true };
    struct format_pack head = head_of(stretch->source, cut);
    size_t at = packer->bytes.len;
    int r;

    if (cut->n_raw_bytes > packer->max_raw_bytes)
        packer->max_raw_bytes = cut->n_raw_bytes;
    buf_append(&packer->bytes, &head, sizeof(head));
    r = stretch->sent && cut->n_records == stretch->n_records
            ? logblock_encode_sent(packer->work, stretch->source, stretch->sent, &packer->bytes)
            : logblock_encode(packer->work, &input, &packer->bytes);
    if (r)
        return pass(r);
    put_head(packer, at, &head);
    return 0;
}

static int add_blocks(struct store_packer *packer, const struct stretch *stretch)
{
    uint64_t n_raw_bytes = stretch->n_raw_bytes;
    uint64_t n_blocks = (n_raw_bytes + BLOCK_RAW_BYTES - 1) / BLOCK_RAW_BYTES;

    if (stretch->sent && n_raw_bytes <= SENT_RAW_BYTES)
        n_blocks = 1;
    for (size_t done = 0; done < stretch->n_records;) {
        struct cut cut = cut_block(stretch->records + done, stretch->n_records - done,
                                   n_raw_bytes / n_blocks + 1);
        int r = add_block(packer, stretch, done, &cut);

        if (r)
            return pass(r);
        done += cut.n_records;
    }
    return 0;
}

/* ---- a batch ---- */

int store_packer_new(struct store_packer **ret)
{
    CLEANUP(store_packer_freep) struct store_packer *packer = calloc(1, sizeof(*packer));

    if (packer)
        packer->work = logblock_work_new();
    if (!packer || !packer->work)
        return fault(-ENOMEM, "no memory to pack logs");
    *ret = take(packer);
    return 0;
}

struct store_packer *store_packer_free(struct store_packer *packer)
{
    if (packer) {
        logblock_work_free(packer->work);
        buf_deinit(&packer->bytes);
        free(packer);
    }
    return NULL;
}

bool store_packer_is_large(const struct store_packer *packer)
{
    return packer->max_raw_bytes > PACKER_RAW_BYTES || packer->bytes.capacity > PACKER_RAW_BYTES;
}

static int add_stretch(struct store_packer *packer, const struct stretch *stretch)
{
    if (stretch->n_raw_bytes >= BLOCK_RAW_MIN)
        return pass(add_blocks(packer, stretch));
    add_packs(packer, stretch->source, stretch->records, stretch->n_records);
    return 0;
}

int store_batch_new_logs(struct store_packer *packer,
                         const struct logblock_source *source,
                         const struct logblock_record *records,
                         size_t n_records,
                         const struct logblock_sent *sent,
                         struct store_batch **ret)
{
    struct store_batch *batch;
    int r = 0;

    buf_clear(&packer->bytes);
    packer->n_packs = 0;
    packer->n_records = packer->n_raw_bytes = 0;
    for (size_t done = 0; done < n_records && !r;) {
        struct stretch stretch = { .source = source, .records = records + done };
        int32_t day = day_of(records[done].time_us);
        size_t n = 0;

        for (; done + n < n_records && day_of(records[done + n].time_us) == day; n++)
            stretch.n_raw_bytes += logblock_raw_bytes(&records[done + n]);
        stretch.n_records = n;
        stretch.sent = n == n_records ? sent : NULL;
        r = add_stretch(packer, &stretch);
        done += n;
    }
    if (!r && buf_failed(&packer->bytes))
        r = fault(-ENOMEM, "no memory to pack %zu records", n_records);
    if (!r)
        r = store_batch_new(&batch, packer->bytes.len);
    if (r)
        return pass(r);
    if (packer->bytes.len > 0)
        memcpy(batch_payload(batch), packer->bytes.data, packer->bytes.len);
    batch->signal = STORE_LOGS;
    batch->n_bytes = packer->bytes.len;
    batch->n_rows = packer->n_packs;
    batch->n_records = packer->n_records;
    batch->n_record_bytes = packer->n_raw_bytes;
    *ret = batch;
    return 0;
}

/* ---- sources ---- */

/* FNV-1a, with what tells parts apart. */
static uint64_t hash_part(uint64_t hash, struct span part)
{
    uint64_t len = part.len;

    for (int i = 0; i < 4; i++, len >>= 8)
        hash = (hash ^ (len & 255)) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < part.len; i++)
        hash = (hash ^ part.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

uint64_t logs_source_hash(const struct logblock_source *source)
{
    uint64_t hash = hash_part(UINT64_C(0xcbf29ce484222325), source->type);

    hash = hash_part(hash, source->name);
    for (size_t i = 0; i < source->n_attributes; i++) {
        hash = hash_part(hash, source->attributes[i].key);
        hash = hash_part(hash, source->attributes[i].value);
    }
    return hash ^ hash >> 32;
}

bool logs_source_equal(const struct logblock_source *a, const struct logblock_source *b)
{
    if (!span_equal(a->type, b->type) || !span_equal(a->name, b->name) ||
        a->n_attributes != b->n_attributes)
        return false;
    for (size_t i = 0; i < a->n_attributes; i++) {
        if (!span_equal(a->attributes[i].key, b->attributes[i].key) ||
            !span_equal(a->attributes[i].value, b->attributes[i].value))
            return false;
    }
    return true;
}
