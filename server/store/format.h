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
 *   +20      u32 version (1)
 *   +24      records
 *
 *   record   the first 16 bytes
 *   +0       u8  type        1 BATCH  2 SKIP  3 BEGIN  4 ROW
 *   +1       u8  signal      of BATCH, SKIP, BEGIN
 *   +2       u16 0
 *   +4       u32 bytes of the record, a multiple of 8
 *   +8       u32 crc32c      ROW: of the record from +12 on; else: of the request as it came
 *   +12      u32 agent
 *
 *   BATCH, SKIP, BEGIN: 64 bytes; each makes `sequence` the last of its run
 *   +16      spool[16]
 *   +32      u64 sequence    SKIP: through it; BEGIN: the one before the first to come
 *   +40      i64 received    microseconds UTC
 *   +48      u64 count       BATCH: samples present; SKIP: records passed over; BEGIN: batches lost
 *   +56      u32 detail      BATCH: rows; SKIP: reason
 *   +60      u32 0
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
 * Why two checksums: the chunk's is for the replay, which reads all of it. A scan wants one row in
 * sixteen of a chunk at most: its own checksum costs a sixteenth of the chunk's, and it is made on
 * the call's thread, not on the writer's.
 *
 * A chunk has up to 65,000 bytes: sixteen pages with LMDB's own header, and no more for one write
 * to move. A row is never split; a longer one makes a longer chunk of its own (segments free no
 * pages, so a long run of pages is never looked for).
 */

#include <assert.h>
#include <stdint.h>

#include "server/store/store.h"

#define FORMAT_VERSION 1u
#define FORMAT_CHUNK_BYTES 65000u
#define FORMAT_CRC_FROM 12u /* a ROW's checksum covers all from here */

enum format_type { FORMAT_BATCH = 1, FORMAT_SKIP, FORMAT_BEGIN, FORMAT_ROW };

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
    uint32_t zero;
};

struct format_row {
    struct format_record head;
    int64_t time_us;
    uint32_t layout;
    uint32_t n_values;
    uint32_t n_absent;
    uint32_t zero;
};

static_assert(sizeof(struct format_chunk) == 24, "on disk");
static_assert(sizeof(struct format_record) == 16, "on disk");
static_assert(sizeof(struct format_batch) == 64, "on disk");
static_assert(sizeof(struct format_row) == 40, "on disk");

/* Whether a row's counts fit its length. */
static inline bool format_row_fits(const struct format_row *row)
{
    return row->head.n_bytes == sizeof(*row) + 8 * (uint64_t) row->n_values +
                                    ((4 * (uint64_t) row->n_absent + 7) & ~UINT64_C(7));
}
