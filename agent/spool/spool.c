/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "agent/spool/put.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

const char *spool_signal_name(enum spool_signal signal)
{
    static const char *const names[] = { "metrics", "logs" };

    return names[signal];
}

const char *spool_reason_name(enum spool_reason reason)
{
    static const char *const names[] = { "all", "queue_full", "too_old", "refused", "damaged" };

    return names[reason];
}

/* ---- metrics ---- */

/* Layouts that are told once more should they come back after so many others. */
#define MAX_KNOWN_LAYOUTS 64

/* Series that no layout names any more are never named again, mostly: their ids do not pile up. */
static void
forget_gone(struct queue *queue, const struct spool_layout *layout, const uint32_t *number)
{
    if (queue->layouts.n_used >= MAX_KNOWN_LAYOUTS)
        numbers_forget(&queue->layouts);
    if (queue->series.n_used <= 2 * layout->n_series + 64)
        return;
    numbers_forget(&queue->series);
    for (size_t i = 0; i < layout->n_series; i++)
        if (numbers_put(&queue->series, layout->series[i]->id, number[i]))
            queue->frame.has_failed = true;
}

/* Tells the active segment what it does not know of the layout. */
static uint32_t tell_layout(struct queue *queue, const struct spool_layout *layout)
{
    CLEANUP(buf_deinit) struct buf numbers = { 0 }, is_new = { 0 };
    uint32_t known = numbers_get(&queue->layouts, layout->id);
    uint32_t *number;
    size_t at = queue->frame.len;

    if (known)
        return known - 1;
    number = buf_extend(&numbers, (layout->n_series + 1) * sizeof(*number));
    if (!number || !buf_extend(&is_new, layout->n_series + 1)) {
        queue->frame.has_failed = true;
        return 0;
    }
    for (size_t i = 0; i < layout->n_series; i++) {
        uint32_t id = layout->series[i]->id;

        number[i] = numbers_get(&queue->series, id);
        if (number[i] == 0) {
            is_new.data[i] = 1;
            number[i] = ++queue->series.n_told;
            if (numbers_put(&queue->series, id, number[i] - 1))
                queue->frame.has_failed = true;
        }
        number[i]--;
    }
    codec_begin(&queue->frame);
    codec_put_layout(&queue->frame, layout, number, is_new.data);
    codec_finish(&queue->frame, at, queue->active->seed,
                 &(struct codec_frame){ .kind = CODEC_LAYOUT });
    forget_gone(queue, layout, number);
    known = queue->layouts.n_told++;
    if (numbers_put(&queue->layouts, layout->id, known))
        queue->frame.has_failed = true;
    return known;
}

static void make_scrape(struct queue *queue, const struct queue_batch *batch, uint64_t sequence)
{
    const struct spool_scrape *scrape = batch->source;
    uint32_t layout = tell_layout(queue, scrape->layout);
    size_t at = queue->frame.len;

    codec_begin(&queue->frame);
    codec_put_scrape(&queue->frame, scrape, layout);
    codec_finish(&queue->frame, at, queue->active->seed,
                 &(struct codec_frame){ .kind = CODEC_SCRAPE,
                                        .records = (uint32_t) batch->records,
                                        .sequence = sequence,
                                        .time_us = batch->time_us });
}

/* With what a new segment has to be told. */
static size_t scrape_bytes(const struct spool_scrape *scrape)
{
    const struct spool_layout *layout = scrape->layout;
    size_t bytes = 2 * (CODEC_FRAME_BYTES + CODEC_ALIGN) + 64;

    for (size_t i = 0; i < layout->n_series; i++)
        bytes += layout->series[i]->key.len + strlen(layout->series[i]->unit) + 16;
    return bytes + scrape->n_absent * 5 + layout->n_series * (sizeof(double) + 5);
}

int spool_put(struct spool *spool, const struct spool_scrape *scrape)
{
    const struct queue_batch batch = {
        .bytes = scrape_bytes(scrape),
        .make = make_scrape,
        .source = scrape,
        .records = scrape->layout->n_series - scrape->n_absent,
        .has_number = true,
        .time_us = scrape->time.us,
    };
    bool is_dropped;

    ensure(scrape->n_absent <= scrape->layout->n_series);
    if (batch.bytes > SPOOL_MAX_BATCH_BYTES)
        return SPOOL_TOO_LARGE;
    return fold(queue_put(&spool->queues[SPOOL_METRICS], &batch, &is_dropped));
}

/* ---- logs ---- */

static void make_logs(struct queue *queue, const struct queue_batch *batch, uint64_t sequence)
{
    size_t at = queue->frame.len;

    codec_begin(&queue->frame);
    codec_put_logs(&queue->frame, batch->source, batch->split);
    codec_finish(&queue->frame, at, queue->active->seed,
                 &(struct codec_frame){ .kind = CODEC_LOGS,
                                        .records = (uint32_t) batch->records,
                                        .sequence = sequence,
                                        .time_us = batch->time_us });
}

static size_t attributes_bytes(const struct spool_log_attribute *attributes, size_t n)
{
    size_t bytes = 5;

    for (size_t i = 0; i < n; i++)
        bytes += attributes[i].key.len + attributes[i].value.len + 10;
    return bytes;
}

static size_t logs_bytes(const struct spool_logs *logs)
{
    size_t bytes = CODEC_FRAME_BYTES + CODEC_ALIGN + 64 + logs->source.type.len +
                   logs->source.name.len +
                   attributes_bytes(logs->source.attributes, logs->source.n_attributes);

    for (size_t i = 0; i < logs->n_offsets; i++)
        bytes += logs->offsets[i].key.len + logs->offsets[i].value.len + 10;
    for (size_t i = 0; i < logs->n_records; i++) {
        const struct spool_log_record *record = &logs->records[i];

        bytes += 60 + record->body.len + record->trace_id.len + record->span_id.len +
                 attributes_bytes(record->attributes, record->n_attributes);
    }
    return bytes;
}

static bool is_takeable(const struct queue *queue, const struct spool_logs *logs, size_t bytes)
{
    for (size_t i = 0; i < logs->n_offsets; i++)
        if (logs->offsets[i].key.len == 0 || logs->offsets[i].key.len > SPOOL_MAX_KEY_BYTES ||
            logs->offsets[i].value.len > SPOOL_MAX_VALUE_BYTES)
            return false;
    return bytes <= SPOOL_MAX_BATCH_BYTES && logs->n_records <= SPOOL_MAX_BATCH_RECORDS &&
           queue->offsets.n_entries + logs->n_offsets <= SPOOL_MAX_OFFSETS;
}

int put_logs(struct queue *queue, const struct spool_logs *logs, const struct codec_split *split)
{
    const struct queue_batch batch = {
        .bytes = logs_bytes(logs),
        .make = make_logs,
        .source = logs,
        .split = split,
        .records = logs->n_records,
        .has_number = logs->n_records > 0,
        .time_us = logs->time.us,
        .may_block = true,
        .is_half = split != NULL,
    };
    bool is_dropped;
    int r;

    if (!is_takeable(queue, logs, batch.bytes))
        return SPOOL_TOO_LARGE;
    r = queue_put(queue, &batch, &is_dropped);
    if (r)
        return r < 0 ? pass(r) : SPOOL_FULL;
    if (is_dropped && split)
        return SPOOL_FULL;
    r = offsets_apply(queue, logs->offsets, logs->n_offsets);
    if (r)
        return pass(r);
    /* There is no record of it: the table itself has to say so. */
    if (is_dropped && logs->n_offsets)
        (void) offsets_write(queue, false);
    return 0;
}

int spool_put_logs(struct spool *spool, const struct spool_logs *batch)
{
    return put_logs(&spool->queues[SPOOL_LOGS], batch, NULL);
}

bool spool_get_offset(const struct spool *spool, struct span key, struct span *ret)
{
    const struct offset *offset = map_get(&spool->queues[SPOOL_LOGS].offsets, key);

    if (!offset)
        return false;
    *ret = offset->value;
    return true;
}

bool spool_next_offset(const struct spool *spool, size_t *at, struct spool_offset *ret)
{
    const struct offset *offset = map_next(&spool->queues[SPOOL_LOGS].offsets, at);

    if (!offset)
        return false;
    *ret = (struct spool_offset){ .key = offset->key, .value = offset->value };
    return true;
}

/* ---- life ---- */

static void read_boot_id(struct spool *spool)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    uint8_t digest[CRYPTO_SHA256_BYTES];

    if (file_read("/proc/sys/kernel/random/boot_id", 256, &text) != 0 || text.len == 0)
        crypto_random(spool->boot_id, sizeof(spool->boot_id)); /* each process is a boot */
    else {
        crypto_sha256(buf_span(&text), digest);
        memcpy(spool->boot_id, digest, sizeof(spool->boot_id));
    }
}

/* A directory that was made just now must be there after a power cut, with what is in it. */
static void sync_name(int dirfd)
{
    CLEANUP(fd_closep) int above = openat(dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (above >= 0)
        (void) fsync(above);
}

/* Outcomes: SPOOL_IN_USE. Without a directory all is in memory. */
static int open_directory(struct spool *spool)
{
    const char *path = spool->options.directory;
    bool is_new;

    if (!path)
        return 0;
    is_new = access(path, F_OK) < 0;
    if (file_make_directories(path, 0700) == 0)
        spool->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->dirfd < 0) {
        log_event(LOG_ERROR, "spool_unwritable", LOG_S("directory", path),
                  LOG_S("error", strerror(errno)),
                  LOG_S("meaning", "what is not acknowledged is kept in memory alone"));
        return 0;
    }
    if (is_new)
        sync_name(spool->dirfd);
    spool->lock = openat(spool->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (spool->lock >= 0 && flock(spool->lock, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return SPOOL_IN_USE;
    return 0;
}

int spool_open(struct spool **ret, const struct spool_options *options)
{
    CLEANUP(spool_closep) struct spool *spool = calloc(1, sizeof(*spool));
    int r;

    if (!spool)
        return fault(-ENOMEM, "no memory for the spool");
    spool->options = *options;
    spool->dirfd = spool->lock = -1;
    read_boot_id(spool);
    r = open_directory(spool);
    if (r)
        return r;
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++) {
        r = queue_open(&spool->queues[i], spool, (enum spool_signal) i);
        if (r)
            return pass(r);
    }
    spool->options.directory = NULL; /* it is the caller's */
    *ret = take(spool);
    return 0;
}

struct spool *spool_close(struct spool *spool)
{
    if (!spool)
        return NULL;
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++)
        queue_close(&spool->queues[i]);
    if (spool->lock >= 0)
        (void) close(spool->lock);
    if (spool->dirfd >= 0)
        (void) close(spool->dirfd);
    free(spool);
    return NULL;
}

void spool_set_limits(struct spool *spool,
                      enum spool_signal signal,
                      const struct spool_limits *limits)
{
    queue_set_limits(&spool->queues[signal], limits);
}

int64_t spool_tick(struct spool *spool)
{
    int64_t next_us = INT64_MAX;

    for (unsigned i = 0; i < SPOOL_SIGNALS; i++) {
        int64_t left_us = queue_tick(&spool->queues[i]);

        if (left_us < next_us)
            next_us = left_us;
    }
    return next_us;
}

void spool_note_clock(struct spool *spool, int64_t boot_offset_us)
{
    for (unsigned i = 0; i < SPOOL_SIGNALS; i++) {
        struct queue *queue = &spool->queues[i];
        struct boot *boots = queue->boots;
        size_t at = 0;

        while (at < SPOOL_BOOTS - 1 && boots[at].offset_us != 0 &&
               memcmp(boots[at].id, spool->boot_id, CODEC_BOOT_ID_BYTES) != 0)
            at++;
        /* The oldest goes when there are too many: it is the first. */
        if (at == SPOOL_BOOTS - 1 && boots[at].offset_us != 0 &&
            memcmp(boots[at].id, spool->boot_id, CODEC_BOOT_ID_BYTES) != 0)
            memmove(boots, boots + 1, (SPOOL_BOOTS - 1) * sizeof(*boots));
        memcpy(boots[at].id, spool->boot_id, CODEC_BOOT_ID_BYTES);
        boots[at].offset_us = boot_offset_us;
    }
}

int64_t spool_live_age_us(const struct spool *spool, enum spool_signal signal)
{
    const struct run *run = spool->queues[signal].live;
    int64_t age_us = clock_wall().us - run->oldest_us;

    if (run->last == run->acked || age_us < 0)
        return 0;
    return age_us;
}

int spool_rotate(struct spool *spool, enum spool_signal signal)
{
    return pass(queue_rotate(&spool->queues[signal]));
}

void spool_get_ledger(const struct spool *spool, enum spool_signal signal, struct spool_ledger *ret)
{
    const struct queue *queue = &spool->queues[signal];

    *ret = (struct spool_ledger){
        .produced = queue_produced(queue),
        .acknowledged = queue->acknowledged,
        .queued = queue->queued,
        .queued_batches = queue->queued_batches,
        .limit_bytes = queue->limits.limit_bytes,
        .damaged_segments = queue->damaged_segments,
        .is_volatile = queue->volatile_bytes > 0,
    };
    memcpy(ret->dropped, queue->dropped, sizeof(ret->dropped));
    for (struct list *node = queue->runs.next; node != &queue->runs; node = node->next) {
        const struct run *run = container_of(node, struct run, node);

        ret->runs += !run->is_open && run->last > run->acked;
        for (struct list *at = run->segments.next; at != &run->segments; at = at->next) {
            const struct segment *segment = container_of(at, struct segment, node);

            if (segment->last <= run->acked)
                continue;
            ret->queued_bytes += segment->bytes - segment->acked_bytes;
            if (segment->oldest_us && (ret->oldest.us == 0 || segment->oldest_us < ret->oldest.us))
                ret->oldest.us = segment->oldest_us;
        }
    }
}
