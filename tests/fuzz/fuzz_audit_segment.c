/* Targets: segment_head_read, segment_frame_read, segment_unpack, segment_row_next.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte's lowest bit says whether checksums are made good first. What follows is a closed
 * day, read as segment_open() and segment_load() do; or (the next bit) the rows of a frame.
 */

#include <stdlib.h>
#include <string.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "server/audit/row.h"
#include "server/audit/segment.h"
#include "server/audit/segment_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void read_rows(struct span rest)
{
    struct segment_row row;

    while (segment_row_next(&rest, &row))
        ensure(row.value.len <= ROW_MAX_BYTES);
}

static void read_frames(uint8_t *at, size_t len, bool is_made_good)
{
    while (len >= SEGMENT_FRAME_BYTES) {
        struct segment_frame frame;
        struct buf rows = { 0 };
        size_t n_packed = segment_get(at + 4, 4);

        if (is_made_good && n_packed <= len - SEGMENT_FRAME_BYTES)
            segment_set(at + 12, crc32c(0, at + SEGMENT_FRAME_BYTES, n_packed), 4);
        if (is_made_good)
            segment_set(at + 52, crc32c(0, at, 52), 4);
        if (!segment_frame_read(span_of(at, len), &frame) || frame.n_raw == 0 ||
            frame.n_packed > len - SEGMENT_FRAME_BYTES)
            return;
        if (segment_unpack(&frame, span_of(at + SEGMENT_FRAME_BYTES, frame.n_packed), &rows)) {
            ensure(rows.len == frame.n_raw);
            read_rows(buf_span(&rows));
        }
        buf_deinit(&rows);
        at += SEGMENT_FRAME_BYTES + frame.n_packed;
        len -= SEGMENT_FRAME_BYTES + frame.n_packed;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t *copy;
    uint32_t day;

    if (len < 1)
        return 0;
    copy = malloc(len);
    ensure(copy);
    memcpy(copy, data + 1, len - 1);
    if (data[0] & 2)
        read_rows(span_of(copy, len - 1));
    else if (segment_head_read(span_of(copy, len - 1), &day))
        read_frames(copy + SEGMENT_HEAD_BYTES, len - 1 - SEGMENT_HEAD_BYTES, data[0] & 1);
    free(copy);
    return 0;
}
