/* SPDX-License-Identifier: Apache-2.0 */

/* Segments: writing one. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <zstd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "server/audit/segment.h"
#include "server/audit/segment_bytes.h"

/* As much as compresses well; what a reader unpacks to see one entry. */
#define FRAME_BYTES (256u << 10)
/* Written once, read seldom, kept for a year. */
#define ZSTD_LEVEL 12

static int failed(int error, const char *path)
{
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        return SEGMENT_FULL;
    return fault(-error, "cannot write %s", path);
}

static int write_all(struct segment_writer *writer, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        ssize_t n = write(writer->fd, from, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(errno, writer->path);
        from += n;
        len -= (size_t) n;
    }
    return 0;
}

static int write_frame_head(struct segment_writer *writer, const struct segment_frame *frame)
{
    uint8_t bytes[SEGMENT_FRAME_BYTES] = { 0 };

    segment_set(bytes, frame->n_raw, 4);
    segment_set(bytes + 4, frame->n_packed, 4);
    segment_set(bytes + 8, frame->n_rows, 4);
    segment_set(bytes + 12, frame->crc32c, 4);
    segment_set(bytes + 16, frame->first, 8);
    segment_set(bytes + 24, frame->last, 8);
    segment_set(bytes + 32, (uint64_t) frame->earliest_us, 8);
    segment_set(bytes + 40, (uint64_t) frame->latest_us, 8);
    segment_set(bytes + 52, crc32c(0, bytes, 52), 4);
    return pass(write_all(writer, bytes, sizeof(bytes)));
}

static int write_frame(struct segment_writer *writer)
{
    CLEANUP(buf_deinit) struct buf packed = { 0 };
    struct segment_frame *frame = &writer->frame;
    size_t bound = ZSTD_compressBound(writer->rows.len), n;
    uint8_t *to;
    int r;

    if (frame->n_rows == 0)
        return 0;
    to = buf_extend(&packed, bound);
    if (!to || buf_failed(&writer->rows))
        return fault(-ENOMEM, "no memory to close a day of the audit");
    n = ZSTD_compress(to, bound, writer->rows.data, writer->rows.len, ZSTD_LEVEL);
    if (ZSTD_isError(n))
        return fault(-ENOMEM, "cannot compress a day of the audit: %s", ZSTD_getErrorName(n));
    frame->n_raw = (uint32_t) writer->rows.len;
    frame->n_packed = (uint32_t) n;
    frame->crc32c = crc32c(0, to, n);
    r = write_frame_head(writer, frame);
    if (r == 0)
        r = write_all(writer, to, n);
    buf_clear(&writer->rows);
    *frame = (struct segment_frame){ .n_rows = 0 };
    return pass(r);
}

int segment_begin(struct segment_writer *writer, const char *directory, uint32_t day)
{
    uint8_t head[SEGMENT_HEAD_BYTES] = segment_magic;
    char name[16];

    *writer = (struct segment_writer){ .fd = -1, .day = day };
    segment_name(day, name);
    if (snprintf(writer->path, sizeof(writer->path), "%s/%s.partial", directory, name) >=
        (int) sizeof(writer->path))
        return fault(-ENAMETOOLONG, "the path of the audit is too long");
    snprintf(writer->directory, sizeof(writer->directory), "%s", directory);
    writer->fd = open(writer->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (writer->fd < 0)
        return failed(errno, writer->path);
    segment_set(head + 16, day, 4);
    segment_set(head + 20, 0, 4);
    return pass(write_all(writer, head, sizeof(head)));
}

static void count(struct segment_frame *frame, uint64_t number, int64_t time_us)
{
    if (frame->n_rows == 0) {
        frame->first = number;
        frame->earliest_us = frame->latest_us = time_us;
    }
    frame->last = number;
    frame->earliest_us = time_us < frame->earliest_us ? time_us : frame->earliest_us;
    frame->latest_us = time_us > frame->latest_us ? time_us : frame->latest_us;
    frame->n_rows++;
}

int segment_add(struct segment_writer *writer, uint64_t number, int64_t time_us, struct span value)
{
    uint8_t head[SEGMENT_ROW_BYTES];
    int r = 0;

    ensure(writer->all.n_rows == 0 || number > writer->all.last);
    ensure(value.len <= SEGMENT_RAW_BYTES / 2);
    if (writer->rows.len + value.len + sizeof(head) > FRAME_BYTES)
        r = write_frame(writer);
    segment_set(head, number, 8);
    segment_set(head + 8, value.len, 4);
    buf_append(&writer->rows, head, sizeof(head));
    buf_append_span(&writer->rows, value);
    count(&writer->frame, number, time_us);
    count(&writer->all, number, time_us);
    return pass(r);
}

static int sync_directory(const char *directory)
{
    CLEANUP(fd_closep) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return fault(-errno, "cannot sync %s", directory);
    return 0;
}

int segment_end(struct segment_writer *writer)
{
    char path[SEGMENT_PATH_BYTES + 16], name[16];
    int r = write_frame(writer);

    ensure(writer->all.n_rows > 0);
    if (r == 0)
        r = write_frame_head(writer, &writer->all);
    if (r == 0 && fsync(writer->fd) < 0)
        r = failed(errno, writer->path);
    if (r != 0)
        return pass(r);
    segment_name(writer->day, name);
    snprintf(path, sizeof(path), "%s/%s", writer->directory, name);
    faultpoint("audit_before_rename");
    if (rename(writer->path, path) < 0)
        return failed(errno, path);
    fd_closep(&writer->fd);
    faultpoint("audit_renamed");
    return pass(sync_directory(writer->directory));
}

void segment_writer_deinit(struct segment_writer *writer)
{
    if (writer->fd >= 0) {
        fd_closep(&writer->fd);
        (void) unlink(writer->path);
    }
    buf_deinit(&writer->rows);
}
