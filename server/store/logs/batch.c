/* SPDX-License-Identifier: Apache-2.0 */

/* Batches of logs: records become packs on the call's thread, in the form the journal keeps. */

#include "server/store/journal/batch.h"
#include "common/base/ensure.h"
#include "server/store/days/days.h"
#include "server/store/logs/logs.h"

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

static void add_pack(struct store_batch *batch,
                     const struct logblock_source *source,
                     const struct logblock_record *records,
                     const struct cut *cut)
{
    uint8_t *to = batch_payload(batch) + batch->n_bytes, *end;
    struct format_pack head = {
        .head = { .type = FORMAT_PACK, .signal = STORE_LOGS },
        .first_us = cut->first_us,
        .last_us = cut->last_us,
        .source = logs_source_hash(source),
        .n_records = (uint32_t) cut->n_records,
        .n_raw_bytes = (uint32_t) cut->n_raw_bytes,
    };

    ensure(record_bytes(cut->n_bytes) <= batch->capacity - batch->n_bytes);
    ensure(record_bytes(cut->n_bytes) <= UINT32_MAX);
    end = logblock_pack(to + sizeof(head), source, records, cut->n_records);
    head.n_bytes = (uint32_t) ((size_t) (end - to) - sizeof(head));
    head.head.n_bytes = (uint32_t) record_bytes(head.n_bytes);
    ensure(head.n_bytes <= cut->n_bytes);
    memset(end, 0, head.head.n_bytes - sizeof(head) - head.n_bytes);
    memcpy(to, &head, sizeof(head));
    batch->n_bytes += head.head.n_bytes;
    batch->n_rows++;
    batch->n_records += cut->n_records;
    batch->n_record_bytes += cut->n_raw_bytes;
}

void store_batch_add_logs(struct store_batch *batch,
                          const struct logblock_source *source,
                          const struct logblock_record *records,
                          size_t n_records)
{
    size_t source_bytes = logblock_source_bytes(source);

    for (size_t done = 0; done < n_records;) {
        struct cut cut = cut_pack(source_bytes, records + done, n_records - done);

        add_pack(batch, source, records + done, &cut);
        done += cut.n_records;
    }
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
