/* SPDX-License-Identifier: Apache-2.0 */

/* Segments: their bytes, and reading files of them. */

#include "server/audit/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "common/base/crc32c.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "server/audit/row.h"
#include "server/audit/segment_bytes.h"

#define MAX_FRAMES 1000000 /* of a day: more than the table may have entries */

/* ---- bytes ---- */

bool segment_head_read(struct span bytes, uint32_t *ret_day)
{
    if (bytes.len < SEGMENT_HEAD_BYTES || memcmp(bytes.data, segment_magic, 16) != 0 ||
        segment_get(bytes.data + 20, 4) != 0)
        return false;
    *ret_day = (uint32_t) segment_get(bytes.data + 16, 4);
    return true;
}

bool segment_frame_read(struct span bytes, struct segment_frame *ret)
{
    const uint8_t *at = bytes.data;

    if (bytes.len < SEGMENT_FRAME_BYTES || segment_get(at + 48, 4) != 0 ||
        segment_get(at + 52, 4) != crc32c(0, at, 52))
        return false;
    const struct segment_frame frame = {
        .n_raw = (uint32_t) segment_get(at, 4),
        .n_packed = (uint32_t) segment_get(at + 4, 4),
        .n_rows = (uint32_t) segment_get(at + 8, 4),
        .crc32c = (uint32_t) segment_get(at + 12, 4),
        .first = segment_get(at + 16, 8),
        .last = segment_get(at + 24, 8),
        .earliest_us = (int64_t) segment_get(at + 32, 8),
        .latest_us = (int64_t) segment_get(at + 40, 8),
    };
    if (frame.n_raw > SEGMENT_RAW_BYTES || frame.n_packed > ZSTD_COMPRESSBOUND(SEGMENT_RAW_BYTES) ||
        !frame.n_raw != !frame.n_packed || frame.n_rows == 0 || frame.first > frame.last)
        return false;
    *ret = frame;
    return true;
}

bool segment_unpack(const struct segment_frame *frame, struct span packed, struct buf *to)
{
    uint8_t *raw;

    if (packed.len != frame->n_packed || frame->n_raw == 0 || frame->n_raw > SEGMENT_RAW_BYTES ||
        crc32c(0, packed.data, packed.len) != frame->crc32c)
        return false;
    raw = buf_extend(to, frame->n_raw);
    return raw && ZSTD_decompress(raw, frame->n_raw, packed.data, packed.len) == frame->n_raw;
}

bool segment_row_next(struct span *rest, struct segment_row *ret)
{
    if (rest->len < SEGMENT_ROW_BYTES)
        return false;
    size_t len = segment_get(rest->data + 8, 4);
    if (len > ROW_MAX_BYTES || rest->len - SEGMENT_ROW_BYTES < len)
        return false;
    ret->number = segment_get(rest->data, 8);
    ret->value = span_of(rest->data + SEGMENT_ROW_BYTES, len);
    *rest = span_of(rest->data + SEGMENT_ROW_BYTES + len, rest->len - SEGMENT_ROW_BYTES - len);
    return true;
}

/* ---- names ---- */

void segment_name(uint32_t day, char to[static 16])
{
    const time_t at = (time_t) day * 86400;
    struct tm utc;

    gmtime_r(&at, &utc);
    snprintf(to, 16, "%04d%02d%02d", (utc.tm_year + 1900) % 10000, (utc.tm_mon + 1) % 100,
             utc.tm_mday % 100);
}

static int number_of(const char *digits, int n)
{
    int number = 0;

    for (int i = 0; i < n; i++)
        number = 10 * number + (digits[i] - '0');
    return number;
}

bool segment_name_read(const char *name, uint32_t *ret_day)
{
    char again[16];
    struct tm utc = { 0 };
    time_t at;

    if (strlen(name) != 8 || strspn(name, "0123456789") != 8)
        return false;
    utc.tm_year = number_of(name, 4) - 1900;
    utc.tm_mon = number_of(name + 4, 2) - 1;
    utc.tm_mday = number_of(name + 6, 2);
    at = timegm(&utc);
    if (at < 0)
        return false;
    segment_name((uint32_t) (at / 86400), again);
    if (strcmp(name, again) != 0)
        return false;
    *ret_day = (uint32_t) (at / 86400);
    return true;
}

/* ---- reading a file ---- */

static int bad(struct segment_why *ret_why, uint64_t entry, const char *text)
{
    *ret_why = (struct segment_why){ .entry = entry, .text = text };
    return SEGMENT_BAD;
}

/* 1: all of them; 0: the file ends before; below 0: a fault. */
static int read_at(int fd, uint64_t offset, uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = pread(fd, to, len, (off_t) offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault(-errno, "cannot read a closed day of the audit");
        if (n == 0)
            return 0;
        to += n;
        offset += (uint64_t) n;
        len -= (size_t) n;
    }
    return 1;
}

static int add_frame(struct segment *segment, const struct segment_frame *frame, uint64_t offset)
{
    size_t n = segment->n_frames;

    if ((n & (n - 1)) == 0) {
        size_t capacity = n ? 2 * n : 1;
        struct segment_frame *frames =
            realloc(segment->frames, capacity * sizeof(*segment->frames));

        if (frames)
            segment->frames = frames;
        uint64_t *offsets = realloc(segment->offsets, capacity * sizeof(*segment->offsets));
        if (offsets)
            segment->offsets = offsets;
        if (!frames || !offsets)
            return fault(-ENOMEM, "no memory for a closed day of the audit");
    }
    segment->frames[n] = *frame;
    segment->offsets[n] = offset;
    segment->n_frames++;
    return 0;
}

/* Whether a frame goes on where the one before ended. */
static bool follows(const struct segment *segment, const struct segment_frame *frame)
{
    return segment->n_frames == 0 || frame->first > segment->frames[segment->n_frames - 1].last;
}

static int read_frames(struct segment *segment, struct segment_why *ret_why)
{
    uint64_t offset = SEGMENT_HEAD_BYTES;

    for (;;) {
        uint8_t bytes[SEGMENT_FRAME_BYTES];
        struct segment_frame frame;
        int r = read_at(segment->fd, offset, bytes, sizeof(bytes));

        if (r < 0)
            return pass(r);
        if (r == 0)
            return bad(ret_why, segment->last + 1, "the file of its day ends before it");
        if (!segment_frame_read(span_of(bytes, sizeof(bytes)), &frame) ||
            segment->n_frames >= MAX_FRAMES)
            return bad(ret_why, segment->last + 1, "the file of its day is damaged there");
        if (frame.n_raw == 0) {
            if (frame.n_rows != segment->n_rows || frame.last != segment->last ||
                frame.first != segment->first)
                return bad(ret_why, segment->last + 1, "the file of its day lacks a part");
            return 0;
        }
        if (!follows(segment, &frame))
            return bad(ret_why, frame.first, "the file of its day is not in order");
        offset += sizeof(bytes);
        r = add_frame(segment, &frame, offset);
        if (r != 0)
            return pass(r);
        offset += frame.n_packed;
        if (segment->n_frames == 1)
            segment->first = frame.first;
        segment->last = frame.last;
        segment->n_rows += frame.n_rows;
    }
}

int segment_open(struct segment *segment,
                 const char *directory,
                 uint32_t day,
                 struct segment_why *ret_why)
{
    char path[SEGMENT_PATH_BYTES], name[16];
    uint8_t head[SEGMENT_HEAD_BYTES];
    int r;

    *segment = (struct segment) SEGMENT_NULL;
    segment_name(day, name);
    if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int) sizeof(path))
        return fault(-ENAMETOOLONG, "the path of the audit is too long");
    segment->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (segment->fd < 0)
        return errno == ENOENT ? SEGMENT_ABSENT : fault(-errno, "cannot open %s", path);
    r = read_at(segment->fd, 0, head, sizeof(head));
    if (r < 0)
        return pass(r);
    if (r == 0 || !segment_head_read(span_of(head, sizeof(head)), &segment->day) ||
        segment->day != day)
        return bad(ret_why, 0, "a file of the audit is not that of its day");
    return pass(read_frames(segment, ret_why));
}

void segment_close(struct segment *segment)
{
    fd_closep(&segment->fd);
    free(segment->frames);
    free(segment->offsets);
    segment->frames = NULL;
    segment->offsets = NULL;
    segment->n_frames = 0;
}

int segment_load(const struct segment *segment,
                 size_t at,
                 struct buf *to,
                 struct segment_why *ret_why)
{
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    const struct segment_frame *frame = &segment->frames[at];
    uint8_t *bytes = buf_extend(&packed, frame->n_packed);

    buf_clear(to);
    if (!bytes)
        return fault(-ENOMEM, "no memory for a closed day of the audit");
    int r = read_at(segment->fd, segment->offsets[at], bytes, frame->n_packed);
    if (r < 0)
        return pass(r);
    if (r == 0 || !segment_unpack(frame, buf_span(&packed), to))
        return buf_failed(to) ? fault(-ENOMEM, "no memory for a closed day of the audit")
                              : bad(ret_why, frame->first, "the file of its day is damaged there");
    return 0;
}
