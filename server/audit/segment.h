#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A closed day as a file: the rows of the table, byte by byte, compressed. Private to server/audit.
 *
 * audit/20261126, little-endian:
 *
 *    0 +------------------------------+
 *      | "sentinel-audit-1"           |  16 bytes
 *   16 | u32 day | u32 zero           |
 *   24 +------------------------------+
 *      | frame, frame, ... last frame |
 *      +------------------------------+
 *
 * frame:
 *    0 +---------------------------------------+
 *      | raw bytes | packed bytes | n | CRC32C |  u32 each; CRC of the packed bytes
 *   16 | first number | last number            |  u64 each
 *   32 | earliest time | latest time           |  i64 us
 *   48 | u32 zero | CRC32C of these 52 bytes   |
 *   56 +---------------------------------------+
 *      | packed bytes: zstd of n rows          |
 *      +---------------------------------------+
 *
 * The last frame has no rows: raw and packed bytes 0, n that of the whole file, first and last
 * alike. A file that does not end with it is not whole.
 *
 * row: u64 number (of its key), u32 length, value.
 *
 * A file is written beside its place, synced and renamed: under its name it is whole.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/span.h"

#define SEGMENT_HEAD_BYTES 24
#define SEGMENT_FRAME_BYTES 56
#define SEGMENT_RAW_BYTES (1u << 20) /* of a frame's rows at most */
#define SEGMENT_ROW_BYTES 12
#define SEGMENT_PATH_BYTES 4200

struct segment_frame {
    uint32_t n_raw, n_packed, n_rows, crc32c;
    uint64_t first, last;
    int64_t earliest_us, latest_us;
};
struct segment_row {
    uint64_t number;
    struct span value;
};

/* ---- bytes; pure ---- */

bool segment_head_read(struct span bytes, uint32_t *ret_day);
bool segment_frame_read(struct span bytes, struct segment_frame *ret);
/* The rows of a frame, appended; false: a wrong checksum, or not what the frame says. */
bool segment_unpack(const struct segment_frame *frame, struct span packed, struct buf *to);
/* Takes a row off the front; false: there is none whole. */
bool segment_row_next(struct span *rest, struct segment_row *ret);

/* ---- reading a file ---- */

enum segment_outcome {
    SEGMENT_OK = 0,
    SEGMENT_ABSENT,
    SEGMENT_BAD, /* ret_why */
};
struct segment_why {
    uint64_t entry; /* where */
    const char *text;
};

struct segment {
    int fd; /* -1: none */
    uint32_t day;
    struct segment_frame *frames;
    uint64_t *offsets; /* of their packed bytes */
    size_t n_frames;
    uint64_t first, last, n_rows;
};
#define SEGMENT_NULL \
    {                \
        .fd = -1     \
    }

/* "20261126" */
void segment_name(uint32_t day, char to[static 16]);
bool segment_name_read(const char *name, uint32_t *ret_day);

/* Outcomes: SEGMENT_ABSENT, SEGMENT_BAD. */
int segment_open(struct segment *segment,
                 const char *directory,
                 uint32_t day,
                 struct segment_why *ret_why) MUST_USE;
void segment_close(struct segment *segment);
/* The rows of a frame, in `to`. Outcomes: SEGMENT_BAD. */
int segment_load(const struct segment *segment,
                 size_t at,
                 struct buf *to,
                 struct segment_why *ret_why) MUST_USE;

/* ---- writing one ---- */

enum { SEGMENT_FULL = SEGMENT_BAD + 1 };

struct segment_writer {
    int fd;
    uint32_t day;
    char path[SEGMENT_PATH_BYTES]; /* of the unfinished file */
    char directory[SEGMENT_PATH_BYTES];
    struct buf rows;
    struct segment_frame frame; /* that is being filled */
    struct segment_frame all;
};
/* Outcomes: SEGMENT_FULL. */
int segment_begin(struct segment_writer *writer, const char *directory, uint32_t day) MUST_USE;
int segment_add(struct segment_writer *writer,
                uint64_t number,
                int64_t time_us,
                struct span value) MUST_USE;
/* Durable and in its place. */
int segment_end(struct segment_writer *writer) MUST_USE;
/* Also after an end; what is unfinished goes. */
void segment_writer_deinit(struct segment_writer *writer);
