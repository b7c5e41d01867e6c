/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/spool/spool_private.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

#define SPARE "spare.seg"
#define NAME_FORMAT "%016" PRIx64 "-%016" PRIx64 ".seg"
#define NAME_LEN 37
/* A file that is longer was made by nobody here. */
#define MAX_FILE_BYTES (UINT64_C(64) << 20)

/* ---- files ---- */

bool write_at(int fd, struct span bytes, uint64_t offset)
{
    size_t done = 0;

    while (done < bytes.len) {
        ssize_t n = pwrite(fd, bytes.data + done, bytes.len - done, (off_t) (offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t) n;
    }
    return true;
}

size_t read_at(int fd, void *to, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (uint8_t *) to + done, len - done, (off_t) (offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t) n;
    }
    return done;
}

const char *segment_name(const struct segment *segment, char to[static SEGMENT_NAME_BYTES])
{
    snprintf(to, SEGMENT_NAME_BYTES, NAME_FORMAT, segment->ordinal, segment->first);
    return to;
}

bool segment_is_name(const char *name, uint64_t *ret_ordinal, uint64_t *ret_first)
{
    char again[SEGMENT_NAME_BYTES];

    if (strlen(name) != NAME_LEN)
        return false;
    *ret_ordinal = strtoull(name, NULL, 16);
    *ret_first = strtoull(name + 17, NULL, 16);
    snprintf(again, sizeof(again), NAME_FORMAT, *ret_ordinal, *ret_first);
    return strcmp(again, name) == 0;
}

int segment_open(struct queue *queue, const struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];

    if (segment->fd >= 0)
        return fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    if (queue->dirfd < 0)
        return -1;
    return openat(queue->dirfd, segment_name(segment, name), O_RDONLY | O_CLOEXEC);
}

struct segment *segment_free(struct segment *segment)
{
    if (!segment)
        return NULL;
    if (segment->fd >= 0)
        (void) close(segment->fd);
    list_remove(&segment->node);
    free(segment);
    return NULL;
}

/* ---- making ---- */

static void say_failing(struct queue *queue, const char *what)
{
    if (!queue->is_failing)
        log_event(LOG_ERROR, "spool_unwritable", LOG_S("signal", spool_signal_name(queue->signal)),
                  LOG_S("action", what), LOG_S("error", strerror(errno)),
                  LOG_S("meaning", "new batches are kept in memory; free space, or look at the "
                                   "disk and its permissions"));
    queue->is_failing = true;
}

/* The file under its name, with its head and with its blocks; -1. */
static int make_file(struct queue *queue,
                     const struct segment *segment,
                     const uint8_t head[static CODEC_HEAD_BYTES],
                     uint64_t *capacity)
{
    CLEANUP(fd_closep) int fd = -1;
    char name[SEGMENT_NAME_BYTES];
    struct stat info;
    int kept;

    if (queue->dirfd < 0)
        return -1;
    fd = openat(queue->dirfd, SPARE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &info) < 0)
        return -1;
    /* What cannot be had is no obstacle where a file of before is long enough; nor on a file system
     * that has no such call. */
    if (fallocate(fd, 0, 0, (off_t) *capacity) < 0 && errno != EOPNOTSUPP) {
        if (info.st_size < (off_t) SPOOL_SEGMENT_MIN_BYTES || info.st_size < (off_t) *capacity / 4)
            return -1;
        *capacity = (uint64_t) info.st_size;
    }
    if (!write_at(fd, span_of(head, CODEC_HEAD_BYTES), 0) ||
        renameat(queue->dirfd, SPARE, queue->dirfd, segment_name(segment, name)) < 0)
        return -1;
    queue->has_spare = false;
    queue->is_directory_unsynced = true;
    kept = fd;
    fd = -1;
    return kept;
}

static int make_memory(struct queue *queue, const uint8_t head[static CODEC_HEAD_BYTES])
{
    CLEANUP(fd_closep) int fd = memfd_create("sentinel-spool", MFD_CLOEXEC);
    int kept;

    if (fd < 0 || queue->volatile_bytes + SPOOL_VOLATILE_SEGMENT_BYTES > SPOOL_VOLATILE_BYTES ||
        !write_at(fd, span_of(head, CODEC_HEAD_BYTES), 0))
        return -1;
    kept = fd;
    fd = -1;
    return kept;
}

static void segment_init(struct segment *segment, const struct queue *queue)
{
    const struct run *run = queue->live;

    *segment = (struct segment){
        .ordinal = run->ordinal,
        .first = run->last + 1,
        .last = run->last,
        .bytes = CODEC_HEAD_BYTES,
        .produced_before = queue_produced(queue),
        .created_us = clock_wall().us,
        .created_boot_us = spool_boot_us(),
        .fd = -1,
        .is_active = true,
    };
    list_init(&segment->node);
    memcpy(segment->id, run->id, sizeof(segment->id));
    memcpy(segment->boot_id, queue->spool->boot_id, sizeof(segment->boot_id));
}

static void head_of(const struct segment *segment, enum spool_signal signal, struct codec_head *ret)
{
    *ret = (struct codec_head){
        .signal = (uint32_t) signal,
        .ordinal = segment->ordinal,
        .first_sequence = segment->first,
        .produced_before = segment->produced_before,
        .created_us = segment->created_us,
        .created_boot_us = segment->created_boot_us,
    };
    memcpy(ret->id, segment->id, sizeof(ret->id));
    memcpy(ret->boot_id, segment->boot_id, sizeof(ret->boot_id));
    crypto_random((uint8_t *) &ret->nonce, sizeof(ret->nonce));
}

int segment_create(struct segment **ret, struct queue *queue, uint64_t capacity)
{
    struct segment *segment = malloc(sizeof(*segment));
    uint8_t bytes[CODEC_HEAD_BYTES];
    struct codec_head head;

    if (!segment)
        return fault(-ENOMEM, "no memory for a segment");
    segment_init(segment, queue);
    head_of(segment, queue->signal, &head);
    codec_put_head(&head, bytes);
    segment->seed = head.crc32c;
    segment->fd = make_file(queue, segment, bytes, &capacity);
    if (segment->fd < 0) {
        if (queue->dirfd >= 0)
            say_failing(queue, "make a segment");
        segment->fd = make_memory(queue, bytes);
        segment->is_volatile = true;
        if (capacity < SPOOL_VOLATILE_SEGMENT_BYTES)
            capacity = SPOOL_VOLATILE_SEGMENT_BYTES;
    } else if (queue->is_failing) {
        log_event(LOG_INFO, "spool_writable", LOG_S("signal", spool_signal_name(queue->signal)));
        queue->is_failing = false;
    }
    if (segment->fd < 0) {
        (void) segment_free(segment);
        return SEGMENT_NO_DISK;
    }
    segment->capacity = capacity;
    segment->synced_bytes = CODEC_HEAD_BYTES;
    queue->bytes += capacity;
    queue->volatile_bytes += segment->is_volatile ? capacity : 0;
    queue->n_segments++;
    list_append(&queue->live->segments, &segment->node);
    *ret = segment;
    return 0;
}

int segment_append(struct queue *queue, struct segment *segment, struct span frames)
{
    ensure(segment->is_active && segment->bytes + frames.len <= segment->capacity);
    faultpoint("spool_append");
    if (!write_at(segment->fd, frames, segment->bytes)) {
        say_failing(queue, "write a batch");
        /* What was begun must not be taken for a batch, nor go over into the next one. */
        (void) !ftruncate(segment->fd, (off_t) segment->bytes);
        return SEGMENT_UNWRITTEN;
    }
    segment->bytes += frames.len;
    return 0;
}

bool segment_sync(struct queue *queue, struct segment *segment)
{
    bool is_good = true;

    if (segment->is_volatile) {
        segment->synced_bytes = segment->bytes;
        return true;
    }
    faultpoint("spool_sync");
    if (segment->synced_bytes < segment->bytes || segment->is_ended)
        is_good = fdatasync(segment->fd) == 0;
    if (queue->is_directory_unsynced)
        is_good = fsync(queue->dirfd) == 0 && is_good;
    if (!is_good)
        say_failing(queue, "sync");
    queue->is_directory_unsynced = queue->is_directory_unsynced && !is_good;
    /* Who cannot sync still sends: the page cache has it, and the power may hold. */
    segment->synced_bytes = segment->bytes;
    return is_good;
}

/* ---- ending ---- */

void segment_put_end(struct segment *segment)
{
    CLEANUP(buf_deinit) struct buf frame = { 0 };

    codec_begin(&frame);
    codec_put_end(&frame, &(struct codec_end){
                              .batches = segment->raw_batches,
                              .records = segment->raw_records,
                              .oldest_us = segment->oldest_us,
                              .newest_us = segment->newest_us,
                          });
    codec_finish(&frame, 0, segment->seed,
                 &(struct codec_frame){
                     .kind = CODEC_END, .sequence = segment->last, .time_us = segment->newest_us });
    if (buf_failed(&frame) || !write_at(segment->fd, buf_span(&frame), segment->bytes) ||
        ftruncate(segment->fd, (off_t) (segment->bytes + frame.len)) < 0)
        return; /* it is found by reading, at the next start */
    segment->is_ended = true;
}

void segment_end(struct queue *queue, struct segment *segment)
{
    /* What was committed in it must be found without reading it, but not before the lines are there
     * themselves. */
    bool is_kept =
        queue->signal != SPOOL_LOGS ||
        (segment_sync(queue, segment) && offsets_write(queue, true) && state_write(queue, true));

    faultpoint("spool_end");
    queue->bytes -= segment->capacity;
    queue->bytes += segment->bytes;
    if (segment->is_volatile) {
        queue->volatile_bytes -= segment->capacity - segment->bytes;
    } else {
        if (is_kept)
            segment_put_end(segment);
        (void) segment_sync(queue, segment);
        (void) close(segment->fd);
        segment->fd = -1;
    }
    segment->capacity = segment->bytes;
    segment->synced_bytes = segment->bytes;
    segment->is_active = false;
}

void segment_remove(struct queue *queue, struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];

    ensure(!segment->is_active);
    segment_name(segment, name);
    faultpoint("spool_remove");
    if (segment->is_volatile)
        queue->volatile_bytes -= segment->bytes;
    else if (segment->is_damaged)
        segment_set_aside(queue, name);
    else if (!segment->is_ended && queue->signal == SPOOL_LOGS)
        (void) segment; /* its offsets are nowhere else: the next start reads them */
    else if (queue->has_spare || segment->bytes < SPOOL_SEGMENT_MIN_BYTES)
        (void) unlinkat(queue->dirfd, name, 0);
    else if (renameat(queue->dirfd, name, queue->dirfd, SPARE) == 0)
        queue->has_spare = true;
    queue->bytes -= segment->bytes;
    queue->n_segments--;
    (void) segment_free(segment);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The oldest by name, which are those of the oldest runs. */
void directory_keep_few(int dirfd, const char *end, size_t n_kept)
{
    char *names[1024];
    size_t n = 0;
    DIR *directory;
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (!directory) {
        if (fd >= 0)
            (void) close(fd);
        return;
    }
    for (struct dirent *entry; n < 1024 && (entry = readdir(directory));) {
        size_t len = strlen(entry->d_name), end_len = strlen(end);

        if (len > end_len && strcmp(entry->d_name + len - end_len, end) == 0 &&
            (names[n] = strdup(entry->d_name)))
            n++;
    }
    (void) closedir(directory);
    qsort(names, n, sizeof(names[0]), by_text);
    for (size_t i = 0; i < n; i++) {
        if (i + n_kept < n)
            (void) unlinkat(dirfd, names[i], 0);
        free(names[i]);
    }
}

void segment_set_aside(struct queue *queue, const char *name)
{
    char aside[SEGMENT_NAME_BYTES + 16];

    snprintf(aside, sizeof(aside), "%.*s.damaged", SEGMENT_NAME_BYTES, name);
    if (renameat(queue->dirfd, name, queue->dirfd, aside) < 0)
        (void) unlinkat(queue->dirfd, name, 0);
    log_event(LOG_ERROR, "spool_damaged", LOG_S("signal", spool_signal_name(queue->signal)),
              LOG_S("file", aside), LOG_S("meaning", "what cannot be read is skipped and counted"));
    directory_keep_few(queue->dirfd, ".damaged", SPOOL_DAMAGED_KEPT);
}

/* ---- reading ---- */

int segment_scan(struct queue *queue,
                 const struct segment *segment,
                 const struct segment_scan *scan)
{
    CLEANUP(fd_closep) int fd = segment_open(queue, segment);
    CLEANUP(buf_deinit) struct buf all = { 0 };
    struct codec_frame frame;
    struct stat info;
    struct span bytes;
    size_t len, at = CODEC_HEAD_BYTES;

    if (fd < 0 || fstat(fd, &info) < 0 || info.st_size > (off_t) MAX_FILE_BYTES ||
        info.st_size < (off_t) CODEC_HEAD_BYTES)
        return SEGMENT_DAMAGED;
    if (!buf_extend(&all, (size_t) info.st_size))
        return fault(-ENOMEM, "no memory to read a segment");
    len = read_at(fd, all.data, all.len, 0);
    if (segment->is_active && segment->bytes < len)
        len = (size_t) segment->bytes;
    bytes = span_of(all.data, len);
    while (at < len) {
        size_t next;

        if (codec_read_frame(span_of(bytes.data + at, len - at), segment->seed, &frame) == 0) {
            if (scan->on_frame)
                scan->on_frame(scan->ctx, &frame);
            at += frame.bytes;
            continue;
        }
        next = codec_find_frame(bytes, at + CODEC_ALIGN, segment->seed);
        if (scan->on_gap)
            scan->on_gap(scan->ctx, at, next, next >= len);
        at = next;
    }
    return 0;
}

static bool read_end(int fd, struct segment *segment, off_t size)
{
    uint8_t bytes[CODEC_END_BYTES];
    struct codec_frame frame;
    struct codec_end end;
    uint64_t at = (uint64_t) size - sizeof(bytes);

    if (size < (off_t) (CODEC_HEAD_BYTES + sizeof(bytes)) ||
        read_at(fd, bytes, sizeof(bytes), at) != sizeof(bytes) ||
        codec_read_frame(span_of(bytes, sizeof(bytes)), segment->seed, &frame) != 0 ||
        !codec_read_end(&frame, &end) || frame.sequence + 1 < segment->first)
        return false;
    segment->last = frame.sequence;
    segment->raw_batches = segment->batches = end.batches;
    segment->raw_records = segment->records = end.records;
    segment->oldest_us = end.oldest_us;
    segment->newest_us = end.newest_us;
    segment->bytes = segment->capacity = segment->synced_bytes = at;
    return true;
}

static void from_head(struct segment *segment, const struct codec_head *head, uint64_t bytes)
{
    *segment = (struct segment){
        .ordinal = head->ordinal,
        .first = head->first_sequence,
        .last = head->first_sequence - 1,
        .bytes = bytes,
        .capacity = bytes,
        .synced_bytes = bytes,
        .produced_before = head->produced_before,
        .created_us = head->created_us,
        .created_boot_us = head->created_boot_us,
        .seed = head->crc32c,
        .fd = -1,
    };
    list_init(&segment->node);
    memcpy(segment->id, head->id, sizeof(segment->id));
    memcpy(segment->boot_id, head->boot_id, sizeof(segment->boot_id));
}

int segment_load(struct segment **ret, struct queue *queue, const char *name)
{
    CLEANUP(fd_closep) int fd = openat(queue->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    uint8_t bytes[CODEC_HEAD_BYTES];
    struct codec_head head;
    struct segment *segment;
    uint64_t ordinal, first;
    struct stat info;

    if (fd < 0 || fstat(fd, &info) < 0 || !segment_is_name(name, &ordinal, &first) ||
        info.st_size > (off_t) MAX_FILE_BYTES ||
        read_at(fd, bytes, sizeof(bytes), 0) != sizeof(bytes) || !codec_read_head(bytes, &head) ||
        head.signal != (uint32_t) queue->signal)
        return SEGMENT_DAMAGED;
    if (head.ordinal != ordinal || head.first_sequence != first)
        return SEGMENT_LEFTOVER;
    segment = malloc(sizeof(*segment));
    if (!segment)
        return fault(-ENOMEM, "no memory for a segment");
    from_head(segment, &head, (uint64_t) info.st_size);
    segment->is_ended = read_end(fd, segment, info.st_size);
    *ret = segment;
    return 0;
}
