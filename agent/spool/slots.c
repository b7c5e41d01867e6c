/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/spool/spool_private.h"
#include "common/base/crc32c.h"
#include "common/log/log.h"

/*
 * A slot:
 *
 *   | magic 8 | crc32c 4 | length 4 | generation 8 | bytes |
 *
 * crc32c: of the generation and the bytes.
 */
static const uint8_t magic[8] = { 'S', 'N', 'T', 'S', 'L', 'T', '1', '\n' };
#define FRONT_BYTES 24u
#define MAX_BYTES (64u << 20) /* of offsets and runs at their limits, and some */
#define RESERVED_BYTES 65536  /* so that a full disk does not matter */

void slots_init(struct slots *slots, int dirfd, const char *name)
{
    *slots = (struct slots){ .dirfd = dirfd, .fds = { -1, -1 }, .synced = -1 };
    snprintf(slots->name, sizeof(slots->name), "%s", name);
}

void slots_deinit(struct slots *slots)
{
    for (int i = 0; i < 2; i++) {
        if (slots->fds[i] >= 0)
            (void) close(slots->fds[i]);
        slots->fds[i] = -1;
    }
}

static int slot_open(struct slots *slots, int which, bool is_made)
{
    char name[24];

    if (slots->fds[which] >= 0 || slots->dirfd < 0)
        return slots->fds[which];
    snprintf(name, sizeof(name), "%s.%d", slots->name, which);
    slots->fds[which] =
        openat(slots->dirfd, name, O_RDWR | O_CLOEXEC | (is_made ? O_CREAT : 0), 0600);
    if (slots->fds[which] >= 0 && is_made) {
        /* Where it cannot be had the slot grows as it is written. */
        (void) !fallocate(slots->fds[which], FALLOC_FL_KEEP_SIZE, 0, RESERVED_BYTES);
        (void) fsync(slots->dirfd);
    }
    return slots->fds[which];
}

/* Fills `ret` with a whole slot; false: there is none. */
static bool slot_read(struct slots *slots, int which, struct buf *ret, uint64_t *ret_generation)
{
    uint8_t front[FRONT_BYTES];
    struct span from = span_of(front, sizeof(front));
    uint32_t crc, len;
    int fd = slot_open(slots, which, false);

    if (fd < 0 || read_at(fd, front, sizeof(front), 0) != sizeof(front) ||
        memcmp(front, magic, sizeof(magic)) != 0)
        return false;
    from = span_of(front + sizeof(magic), sizeof(front) - sizeof(magic));
    if (!codec_take_u32(&from, &crc) || !codec_take_u32(&from, &len) ||
        !codec_take_u64(&from, ret_generation) || len > MAX_BYTES)
        return false;
    buf_clear(ret);
    if (len > 0 && (!buf_extend(ret, len) || read_at(fd, ret->data, len, FRONT_BYTES) != len))
        return false;
    return crc == crc32c(crc32c(0, front + 16, 8), ret->data, len);
}

bool slots_read(struct slots *slots, struct buf *ret)
{
    CLEANUP(buf_deinit) struct buf one = { 0 }, other = { 0 };
    uint64_t generations[2] = { 0, 0 };
    bool has_one = slot_read(slots, 0, &one, &generations[0]);
    bool has_other = slot_read(slots, 1, &other, &generations[1]);
    int newest = has_other && (!has_one || generations[1] > generations[0]);

    if (!has_one && !has_other)
        return false;
    slots->generation = generations[newest];
    slots->synced = newest;
    buf_append_span(ret, buf_span(newest ? &other : &one));
    return !buf_failed(ret);
}

static bool slot_write(struct slots *slots, int which, struct span bytes, bool is_synced)
{
    CLEANUP(buf_deinit) struct buf all = { 0 };
    CLEANUP(buf_deinit) struct buf generation = { 0 };
    int fd = slot_open(slots, which, true);

    if (fd < 0)
        return false;
    codec_put_u64(&generation, slots->generation + 1);
    if (buf_failed(&generation))
        return false;
    buf_append(&all, magic, sizeof(magic));
    codec_put_u32(&all, crc32c(crc32c(0, generation.data, 8), bytes.data, bytes.len));
    codec_put_u32(&all, (uint32_t) bytes.len);
    buf_append_span(&all, buf_span(&generation));
    buf_append_span(&all, bytes);
    if (buf_failed(&all) || !write_at(fd, buf_span(&all), 0))
        return false;
    return !is_synced || fdatasync(fd) == 0;
}

bool slots_write(struct slots *slots, struct span bytes, bool is_synced)
{
    int which = slots->synced == 0 ? 1 : 0;

    if (slots->dirfd < 0)
        return true;
    if (!slot_write(slots, which, bytes, is_synced)) {
        if (!slots->has_failed)
            log_event(LOG_ERROR, "spool_unwritable", LOG_S("file", slots->name),
                      LOG_S("error", strerror(errno)),
                      LOG_S("meaning", "after a crash what was acknowledged is sent again, and "
                                       "the hub passes it over"));
        slots->has_failed = true;
        return false;
    }
    slots->has_failed = false;
    slots->generation++;
    if (is_synced)
        slots->synced = which;
    return true;
}
