#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Format: what the journal's chunks look like on disk. Little-endian; every record begins at a
 * multiple of 8 from the chunk's begin. Values above a quarter of a page lie in LMDB's overflow
 * pages, 8-byte aligned; smaller ones lie anywhere, so headers are read with memcpy.
 *
 *   chunk    key: number, u64 big-endian, growing through all segments
 *   +0       u32 crc32c of all behind it
 *   +4       u32 records
 *   +8       u64 number                      a chunk found under another number is damage
 *   +16      u32 bytes of the chunk
 *   +20      u32 version (2; 1 is read too: no pack in it is a block)
 *   +24      records
 *
 *   record   the first 16 bytes
 *   +0       u8  type        1 BATCH  2 SKIP  3 BEGIN  4 ROW  5 PACK
 *   +1       u8  signal
 *   +2       u16 0
 *   +4       u32 bytes of the record, a multiple of 8
 *   +8       u32 crc32c      ROW, PACK: of the record from +12 on; else: of the request as it came
 *   +12      u32 agent
 *
 *   BATCH, SKIP, BEGIN: 64 bytes; each makes `sequence` the last of its run
 *   +16      spool[16]
 *   +32      u64 sequence    SKIP: through it; BEGIN: the one before the first to come
 *   +40      i64 received    microseconds UTC
 *   +48      u64 count       BATCH: samples present, or log records; SKIP: records passed over;
 *                            BEGIN: batches lost
 *   +56      u32 detail      BATCH: rows, or packs; SKIP: reason
 *   +60      u32 bytes       BATCH of logs: of bodies and attributes, as they came; else 0
 *
 *   ROW: the rows of a BATCH follow it, in its chunk or in the next ones of the same transaction
 *   +16      i64 time        microseconds UTC
 *   +24      u32 layout
 *   +28      u32 n_values
 *   +32      u32 n_absent
 *   +36      u32 0
 *   +40      f64 values[n_values]
 *            u32 absent[n_absent], ascending; zeros up to a multiple of 8
 *
 *   PACK     the packs of a BATCH of logs follow it in the same way
 *   +16      i64 first       the least time of its records, microseconds UTC
 *   +24      i64 last        the greatest one, of the same day
 *   +32      u64 source      a hash of it: logs_source_hash()
 *   +40      u32 records
 *   +44      u32 raw bytes   of bodies and attributes, as they came
 *   +48      u32 bytes of the pack
 *   +52      u32 0
 *   +56      the pack, which may be a block (logblock.h); zeros up to a multiple of 8
 *
 * Why two checksums: the chunk's is for the replay, which reads all of it. A scan wants one row in
 * sixteen of a chunk at most: its own checksum costs a sixteenth of the chunk's, and it is made on
 * the call's thread, not on the writer's.
 *
 * A chunk has up to 65,000 bytes: sixteen pages with LMDB's own header, and no more for one write
 * to move. A row is never split; a longer one makes a longer chunk of its own (segments free no
 * pages, so a long run of pages is never looked for). Log records are split into packs that fit a
 * chunk together with their BATCH; a single longer record makes a pack of its own. A pack that is a
 * block is of at most 256 KiB of bodies, or of one record: compressed it fits a chunk nearly
 * always.
 */

#include <assert.h>
#include <stdint.h>

#include "common/base/crc32c.h"
#include "server/store/store.h"

#define FORMAT_VERSION 2u /* written; also the newest that is read */
#define FORMAT_CHUNK_BYTES 65000u
#define FORMAT_CRC_FROM 12u /* a ROW's or PACK's checksum covers all from here */
/* A PACK has no more, but for one with a single record, and blocks. */
#define FORMAT_PACK_BYTES \
    ((FORMAT_CHUNK_BYTES - sizeof(struct format_chunk) - sizeof(struct format_batch)) & ~7u)

enum format_type { FORMAT_BATCH = 1, FORMAT_SKIP, FORMAT_BEGIN, FORMAT_ROW, FORMAT_PACK };

struct position { /* of a record in the journal */
    uint64_t chunk;
    uint32_t offset;
};

static inline bool position_is_behind(struct position a, struct position b)
{
    return a.chunk != b.chunk ? a.chunk > b.chunk : a.offset > b.offset;
}

struct format_chunk {
    uint32_t crc32c;
    uint32_t n_records;
    uint64_t number;
    uint32_t n_bytes;
    uint32_t version;
};

struct format_record {
    uint8_t type;
    uint8_t signal;
    uint16_t zero;
    uint32_t n_bytes;
    uint32_t crc32c;
    uint32_t agent;
};

struct format_batch {
    struct format_record head;
    uint8_t spool[STORE_SPOOL_BYTES];
    uint64_t sequence;
    int64_t received_us;
    uint64_t count;
    uint32_t detail;
    uint32_t n_raw_bytes;
};

struct format_row {
    struct format_record head;
    int64_t time_us;
    uint32_t layout;
    uint32_t n_values;
    uint32_t n_absent;
    uint32_t zero;
};

struct format_pack {
    struct format_record head;
    int64_t first_us, last_us;
    uint64_t source;
    uint32_t n_records;
    uint32_t n_raw_bytes;
    uint32_t n_bytes;
    uint32_t zero;
};

static_assert(sizeof(struct format_chunk) == 24, "on disk");
static_assert(sizeof(struct format_record) == 16, "on disk");
static_assert(sizeof(struct format_batch) == 64, "on disk");
static_assert(sizeof(struct format_row) == 40, "on disk");
static_assert(sizeof(struct format_pack) == 56, "on disk");

static inline bool format_is_known(uint32_t version)
{
    return version >= 1 && version <= FORMAT_VERSION;
}

/* Whether a row's counts fit its length. */
static inline bool format_row_fits(const struct format_row *row)
{
    return row->head.n_bytes == sizeof(*row) + 8 * (uint64_t) row->n_values +
                                    ((4 * (uint64_t) row->n_absent + 7) & ~UINT64_C(7));
}

/* Whether its parts fit its length, and its times are of one order. */
static inline bool format_pack_fits(const struct format_pack *pack)
{
    return pack->head.n_bytes == sizeof(*pack) + (((uint64_t) pack->n_bytes + 7) & ~UINT64_C(7)) &&
           pack->n_records > 0 && pack->first_us <= pack->last_us;
}

/* What a pack weighs for who reads its records: compressed or not makes no difference. */
static inline uint64_t format_pack_weight(const struct format_pack *pack)
{
    return pack->head.n_bytes > pack->n_raw_bytes ? pack->head.n_bytes : pack->n_raw_bytes;
}

/* Whether a record of this type can have this length; 0: types that there are not. */
static inline bool format_can_be(const struct format_record *head)
{
    static const uint32_t least[] = { 0,
                                      sizeof(struct format_batch),
                                      sizeof(struct format_batch),
                                      sizeof(struct format_batch),
                                      sizeof(struct format_row),
                                      sizeof(struct format_pack) };

    if (head->type < FORMAT_BATCH || head->type > FORMAT_PACK || head->n_bytes % 8 ||
        head->n_bytes < least[head->type])
        return false;
    return head->type >= FORMAT_ROW || head->n_bytes == sizeof(struct format_batch);
}

/* Whether a chunk that was found under a number is the one, as it was written. */
static inline bool format_chunk_is_whole(uint64_t number, const uint8_t *data, size_t len)
{
    struct format_chunk header;

    if (len < sizeof(header))
        return false;
    memcpy(&header, data, sizeof(header));
    return format_is_known(header.version) && header.number == number && header.n_bytes == len &&
           crc32c(0, data + sizeof(header.crc32c), len - sizeof(header.crc32c)) == header.crc32c;
}
