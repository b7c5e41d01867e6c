#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Codec: what stands in a segment file. Pure; reads bytes of a disk, so nothing is trusted. Private
 * to agent/spool.
 *
 * Numbers are little-endian; v is a varint (7 bits a byte, lowest first), t is v bytes and the
 * bytes.
 *
 *   head, 96 bytes
 *   | magic 8 | crc32c 4 | signal 4 | spool id 16 | boot id 16 | ordinal 8 | first sequence 8 |
 *   | produced before 8 | created, wall 8 | created, boot 8 | nonce 8 |
 *   crc32c: of everything behind it. The ordinal counts runs; what was produced before counts
 *   records of all runs: with it the ledger is right whatever is missing.
 *
 *   then frames, each 32 bytes and a payload, padded with zeros to 8
 *   | crc32c 4 | payload bytes 4 | kind 1 | 0 3 | records 4 | sequence 8 | time, wall 8 | payload |
 *   crc32c: goes on from the head's, over what follows in the frame: what a file held before it was
 *   used anew is not taken for a frame of this one. Eight zero bytes: the end of what was written.
 *
 *   LAYOUT  v n_new { v kind, t unit, t key } v n { v number }     series and layouts are numbered
 *           0, 1, 2 ... in the segment, in the order in which they are told
 *   SCRAPE  boot 8, v layout, v n_absent { v distance }, values 8 each
 *   LOGS    v split (0, or 1 then v ordinal, v sequence, v keep), v n_offsets { t key, t value },
 *           t type, t name, attributes, v n { v time, v observed, v severity * 2 + is_raw,
 *           v source_offset, t body, t trace, t span, attributes }
 *           attributes: v n { t key, t value }; times are v zigzag, from the frame's time
 *           Sequence 0 and no records: offsets alone.
 *   END     batches 8, records 8, oldest 8, newest 8; sequence: of the last batch. The last frame
 * of a file that was ended in order; what is not known without it is found by reading.
 */

#include "agent/spool/spool.h"
#include "common/base/arena.h"
#include "common/base/buf.h"

#define CODEC_HEAD_BYTES 96u
#define CODEC_FRAME_BYTES 32u
#define CODEC_ALIGN 8u
#define CODEC_BOOT_ID_BYTES 16
#define CODEC_END_BYTES (CODEC_FRAME_BYTES + 32u)

struct codec_head {
    uint32_t crc32c; /* read: the seed of the frames */
    uint32_t signal;
    uint8_t id[SPOOL_ID_BYTES];
    uint8_t boot_id[CODEC_BOOT_ID_BYTES];
    uint64_t ordinal;
    uint64_t first_sequence;
    uint64_t produced_before;
    int64_t created_us, created_boot_us;
    uint64_t nonce;
};

/* Fills in the checksum of `head` too. */
void codec_put_head(struct codec_head *head, uint8_t to[static CODEC_HEAD_BYTES]);
bool codec_read_head(const uint8_t from[static CODEC_HEAD_BYTES], struct codec_head *ret);

enum codec_kind { CODEC_LAYOUT = 1, CODEC_SCRAPE = 2, CODEC_LOGS = 3, CODEC_END = 4 };

struct codec_frame {
    enum codec_kind kind;
    uint32_t records;
    uint64_t sequence;
    int64_t time_us;
    struct span payload; /* borrowed */
    size_t bytes;        /* of the whole frame with its padding */
};

/* Makes room for a frame's front in an empty buffer; the payload is appended behind. */
void codec_begin(struct buf *to);
/* Pads, and fills in the front of the frame that begins at `at`. */
void codec_finish(struct buf *to, size_t at, uint32_t seed, const struct codec_frame *frame);

enum codec_outcome {
    CODEC_OK = 0,
    CODEC_NOTHING, /* eight zero bytes, or no bytes */
    CODEC_BAD,     /* not a frame of this segment, or one that is cut off */
};
/* The frame in front of `bytes`. Outcomes: CODEC_NOTHING, CODEC_BAD. */
int codec_read_frame(struct span bytes, uint32_t seed, struct codec_frame *ret) MUST_USE;
/* Where the next frame begins behind a place that holds none: a whole one. bytes.len when there is
 * none. */
size_t codec_find_frame(struct span bytes, size_t from, uint32_t seed);

/* ---- payloads ---- */

/* Appends. numbers: of the layout's series, in the segment; those that are new are told. */
void codec_put_layout(struct buf *to,
                      const struct spool_layout *layout,
                      const uint32_t *numbers,
                      const uint8_t *is_new);
void codec_put_scrape(struct buf *to, const struct spool_scrape *scrape, uint32_t layout);

struct codec_split {
    bool is_split;
    uint64_t ordinal, sequence, keep; /* that batch is its first `keep` records from now on */
};
void codec_put_logs(struct buf *to, const struct spool_logs *logs, const struct codec_split *split);

struct codec_end {
    uint64_t batches, records;
    int64_t oldest_us, newest_us;
};
void codec_put_end(struct buf *to, const struct codec_end *end);
bool codec_read_end(const struct codec_frame *frame, struct codec_end *ret);

struct codec_series {
    enum spool_kind kind;
    struct span unit, key;
};
struct codec_layout {
    size_t n_new;
    struct codec_series *new_series;
    size_t n_series;
    uint32_t *numbers;
};
/* What is allocated lies in the arena; all else borrows. Outcomes: CODEC_BAD (also: the arena is at
 * its limit). n_known: series that were told before. */
int codec_read_layout(struct span payload,
                      size_t n_known,
                      struct arena *arena,
                      struct codec_layout *ret) MUST_USE;

struct codec_scrape {
    int64_t boot_us;
    uint64_t layout;
    size_t n_absent, n_values;
    uint32_t *absent;
    double *values;
};
int codec_read_scrape(struct span payload, struct arena *arena, struct codec_scrape *ret) MUST_USE;

/* ret->time is the frame's. Outcomes: CODEC_BAD. */
int codec_read_logs(const struct codec_frame *frame,
                    struct arena *arena,
                    struct spool_logs *ret,
                    struct codec_split *ret_split) MUST_USE;

/* ---- the bytes, for others that keep numbers on disk ---- */

void codec_put_u32(struct buf *to, uint32_t value);
void codec_put_u64(struct buf *to, uint64_t value);
void codec_put_text(struct buf *to, struct span bytes);
void codec_put_varint(struct buf *to, uint64_t value);
/* These take from the front of *from; false: it is too short, and *from is empty. */
bool codec_take_u32(struct span *from, uint32_t *ret);
bool codec_take_u64(struct span *from, uint64_t *ret);
bool codec_take_varint(struct span *from, uint64_t *ret);
bool codec_take_text(struct span *from, struct span *ret);
bool codec_take_bytes(struct span *from, void *to, size_t len);
