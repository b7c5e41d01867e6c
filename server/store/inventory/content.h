#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Content: what a table of an inventory is, in two forms. Pure: no I/O.
 *
 * Canonical, which is also what its SHA-256 is over (telemetry.proto), little-endian:
 *
 *   columns u32, each name: length u32, bytes   the head
 *   each row's values: length u32, bytes        as many as there are columns; rows ascend
 *
 * Packed, as it lies on disk:
 *
 *   struct content_header
 *   the head as above
 *   struct content_block for each block: a run of whole rows, some 16 KiB canonical
 *   fences: for each block a length u8 and the first value of its first row, cut to 64 bytes
 *   the blocks, each a zstd frame of its own
 *
 * A question after one first value so unpacks one block, whatever the size of the table.
 *
 * A content may be packed against another one, its base: then this is the dictionary of every
 * block, and what both have costs next to nothing. A base never has a base itself, so that one
 * damaged content takes nothing along but those that name it, and to read one is to unpack one more
 * at most.
 *
 * Decoders are total: whatever the bytes, they answer 0 or CONTENT_BAD and read nothing outside.
 *
 * Thread: any; a struct content_work and a base belong to one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

#define CONTENT_VERSION 1u
#define CONTENT_SHA256_BYTES 32
#define CONTENT_BLOCK_BYTES (16u << 10) /* a row longer than this is a block of its own */
#define CONTENT_FENCE_BYTES 64
#define CONTENT_COLUMNS_MAX 4096u
/* Canonical; an unpacked table lies in memory, and its offsets are 32 bits wide. */
#define CONTENT_BYTES_MAX (UINT64_C(256) << 20)

enum content_outcome {
    CONTENT_OK = 0,
    CONTENT_BAD, /* not what content_pack() writes; another checksum */
};

struct content_header {
    uint32_t crc32c; /* of all up to the first frame */
    uint32_t version;
    uint64_t n_rows;
    uint64_t n_bytes; /* canonical */
    uint32_t n_columns, n_blocks;
    uint32_t head_bytes, fences_bytes;
    uint8_t base[CONTENT_SHA256_BYTES]; /* zeros: none */
};

struct content_block {
    uint32_t n_bytes, n_packed;
    uint32_t first_row;
    uint32_t crc32c; /* of the frame */
};

/* Scratch of the library's. The zero value is ready. */
struct content_work {
    void *compressor, *decompressor;
};
void content_work_deinit(struct content_work *work);

/* ---- canonical ---- */

void content_put_columns(struct buf *to, const char *const *names, size_t n);
void content_put_value(struct buf *to, const char *value);

struct content_shape {
    uint64_t n_rows;
    uint32_t n_columns, head_bytes;
};
/* Whether it is canonical: lengths fit, rows are whole and ascend. Outcomes: CONTENT_BAD. */
int content_check(struct span canonical, struct content_shape *ret) MUST_USE;

/* n_columns names into `ret`; false: not a head. */
bool content_columns(struct span head, struct span *ret, uint32_t n_columns);

/* Walks rows. */
struct content_rows {
    struct span rest;
    uint32_t n_columns;
};
/* n_columns values into `ret`. False at the end, and where no whole row follows (then rest is not
 * empty). */
bool content_next_row(struct content_rows *rows, struct span *ret);
/* As rows ascend: below, at or above 0. */
int content_compare(const struct span *a, const struct span *b, uint32_t n_columns);

/* ---- packed ---- */

/* A canonical content that others are packed against. */
struct content_base;
/* Takes the bytes. Faults: no memory. */
int content_base_new(struct content_base **ret,
                     const uint8_t sha256[static CONTENT_SHA256_BYTES],
                     struct buf *take_canonical) MUST_USE;
struct content_base *content_base_free(struct content_base *base);
DEFINE_CLEANUP(struct content_base *, content_base_free);
const uint8_t *content_base_sha256(const struct content_base *base);
size_t content_base_bytes(const struct content_base *base);

/* Appends the packed form. `base` may be NULL. Faults: no memory, not canonical (a promise). */
int content_pack(struct span canonical,
                 struct content_base *base,
                 struct content_work *work,
                 struct buf *to) MUST_USE;

/* A packed content, looked into. Borrows the bytes. */
struct content {
    struct content_header header;
    struct span head, blocks, fences, frames;
};
/* Checks all but the frames. Outcomes: CONTENT_BAD. */
int content_open(struct span packed, struct content *ret) MUST_USE;
bool content_has_base(const struct content *content);
struct content_block content_block_of(const struct content *content, uint32_t i);

/*
 * The blocks that may have rows whose first value begins with `prefix`: *ret_first up to *ret_end,
 * which is not among them.
 */
void content_range(const struct content *content,
                   struct span prefix,
                   uint32_t *ret_first,
                   uint32_t *ret_end);

/*
 * Appends the canonical rows of one block, or the whole canonical content. `base` must be the one
 * that the header names. Outcomes: CONTENT_BAD. Faults: no memory.
 */
int content_unpack_block(const struct content *content,
                         uint32_t i,
                         struct content_base *base,
                         struct content_work *work,
                         struct buf *to) MUST_USE;
int content_unpack(const struct content *content,
                   struct content_base *base,
                   struct content_work *work,
                   struct buf *to) MUST_USE;
