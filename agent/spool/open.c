/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/spool/spool_private.h"
#include "common/base/fault.h"
#include "common/log/log.h"

/*
 * Opening a queue: the state says how far each run was acknowledged, the ends of the segments what
 * is in them. Only what has no end is read. What is missing between them becomes a skip.
 */

struct found {
    struct segment **segments;
    size_t n, capacity;
};

static struct segment *segment_of(struct list *node)
{
    return container_of(node, struct segment, node);
}

static struct run *run_of(struct list *node)
{
    return container_of(node, struct run, node);
}

/* ---- the directory ---- */

static int add_found(struct found *found, struct segment *segment)
{
    if (found->n == found->capacity) {
        size_t capacity = found->capacity ? found->capacity * 2 : 64;
        struct segment **more = realloc(found->segments, capacity * sizeof(struct segment *));

        if (!more)
            return fault(-ENOMEM, "no memory for the segments of the spool");
        found->segments = more;
        found->capacity = capacity;
    }
    found->segments[found->n++] = segment;
    return 0;
}

static int read_file(struct queue *queue, struct found *found, const char *name)
{
    struct segment *segment;
    int r = segment_load(&segment, queue, name);

    if (r < 0)
        return pass(r);
    if (r == SEGMENT_LEFTOVER) {
        (void) unlinkat(queue->dirfd, name, 0);
        return 0;
    }
    if (r) {
        queue->damaged_segments++;
        segment_set_aside(queue, name);
        return 0;
    }
    return pass(add_found(found, segment));
}

static int read_directory(struct queue *queue, struct found *found)
{
    int fd = openat(queue->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t ordinal, first;
    int r = 0;

    if (!directory) {
        if (fd >= 0)
            (void) close(fd);
        return 0;
    }
    for (struct dirent *entry; r == 0 && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, "spare.seg") == 0)
            queue->has_spare = true;
        else if (segment_is_name(entry->d_name, &ordinal, &first))
            r = read_file(queue, found, entry->d_name);
    }
    (void) closedir(directory);
    return pass(r);
}

static int by_place(const void *a, const void *b)
{
    const struct segment *left = *(struct segment *const *) a,
                         *right = *(struct segment *const *) b;

    if (left->ordinal != right->ordinal)
        return left->ordinal < right->ordinal ? -1 : 1;
    return left->first < right->first ? -1 : left->first > right->first;
}

/* ---- segments without an end ---- */

struct recovery {
    struct queue *queue;
    struct run *run;
    struct segment *segment;
    struct arena arena;
    int r;
};

static void recover_logs(struct recovery *recovery, const struct codec_frame *frame)
{
    struct codec_split split;
    struct spool_logs logs;

    arena_reset(&recovery->arena, (size_t) SPOOL_MAX_BATCH_BYTES * 4);
    if (codec_read_logs(frame, &recovery->arena, &logs, &split))
        return;
    recovery->r = offsets_apply(recovery->queue, logs.offsets, logs.n_offsets);
    if (!split.is_split || recovery->r)
        return;
    /* The state may have been lost between the batch and what it says of another one. */
    list_each(node, &recovery->queue->runs)
    {
        struct run *run = run_of(node);

        if (run->ordinal == split.ordinal && split.sequence > run->acked &&
            !run_find_edit(run, split.sequence))
            recovery->r = run_edit(run, &(struct edit){ .first = split.sequence,
                                                        .last = split.sequence,
                                                        .keep = split.keep,
                                                        .moved = frame->records,
                                                        .reason = SPOOL_REFUSED });
    }
}

static void on_frame(void *ctx, const struct codec_frame *frame)
{
    struct recovery *recovery = ctx;
    struct segment *segment = recovery->segment;

    if (recovery->r || frame->kind == CODEC_END)
        return;
    if (frame->kind == CODEC_LOGS)
        recover_logs(recovery, frame);
    if (frame->sequence <= segment->last || recovery->r)
        return;
    recovery->r = run_cover(recovery->run, segment->last + 1, frame->sequence - 1);
    segment->last = frame->sequence;
    segment->raw_batches++;
    segment->raw_records += frame->records;
    if (segment->oldest_us == 0)
        segment->oldest_us = frame->time_us;
    segment->newest_us = frame->time_us;
}

static void on_gap(void *ctx, uint64_t from, uint64_t to, bool is_tail)
{
    struct recovery *recovery = ctx;

    (void) to;
    if (is_tail)
        recovery->segment->bytes = from;
    else
        recovery->segment->is_damaged = true;
}

static int recover(struct queue *queue, struct run *run, struct segment *segment)
{
    struct recovery recovery = { .queue = queue, .run = run, .segment = segment };
    const struct segment_scan scan = { .on_frame = on_frame, .on_gap = on_gap, .ctx = &recovery };
    int r;

    arena_init(&recovery.arena, (size_t) SPOOL_MAX_BATCH_BYTES * 4);
    r = segment_scan(queue, segment, &scan);
    arena_deinit(&recovery.arena);
    if (r < 0 || recovery.r < 0)
        return pass(r < 0 ? r : recovery.r);
    segment->capacity = segment->synced_bytes = segment->bytes;
    if (segment->is_damaged)
        queue->damaged_segments++;
    for (size_t i = 0; i < run->n_edits; i++)
        if (run->edits[i].reason == SPOOL_DAMAGED && run->edits[i].first >= segment->first &&
            run->edits[i].last <= segment->last)
            segment->raw_records += run->edits[i].records;
    return 0;
}

/* ---- runs ---- */

static bool is_known(const struct queue *queue, uint64_t ordinal)
{
    for (const struct list *node = queue->runs.next; node != &queue->runs; node = node->next)
        if (container_of(node, const struct run, node)->ordinal == ordinal)
            return true;
    return false;
}

/* In its place among those that the state told of. */
static struct run *run_for(struct queue *queue, const struct segment *segment)
{
    struct list *behind = &queue->runs;
    struct run *run;

    list_each(node, &queue->runs)
    {
        if (run_of(node)->ordinal == segment->ordinal)
            return run_of(node);
        if (run_of(node)->ordinal > segment->ordinal) {
            behind = node;
            break;
        }
    }
    run = run_new(queue, segment->ordinal, segment->id);
    if (!run)
        return NULL;
    list_remove(&run->node);
    list_append(behind, &run->node);
    /* What was before it is gone with the state: to the hub it is a run that begins later. */
    run->acked = run->last = segment->first - 1;
    return run;
}

static uint64_t end_of_run(const struct run *run)
{
    uint64_t last = run->acked;

    if (run->segments.prev != &run->segments && segment_of(run->segments.prev)->last > last)
        last = segment_of(run->segments.prev)->last;
    if (run->n_edits && run->edits[run->n_edits - 1].last > last)
        last = run->edits[run->n_edits - 1].last;
    return last;
}

static int place_segment(struct queue *queue, struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];
    struct run *run;
    uint64_t last;
    int r;

    /* The state tells of every run up to it that is not all acknowledged: this file was removed,
     * and the power went before its name was gone for good. */
    if (segment->ordinal < queue->known_below && !is_known(queue, segment->ordinal)) {
        (void) unlinkat(queue->dirfd, segment_name(segment, name), 0);
        (void) segment_free(segment);
        return 0;
    }
    run = run_for(queue, segment);
    if (!run)
        return fault(-ENOMEM, "no memory for a run");
    last = run->acked;
    if (run->segments.prev != &run->segments)
        last = segment_of(run->segments.prev)->last;
    if (segment->first <= last && run->segments.prev != &run->segments) {
        queue->damaged_segments++;
        segment_set_aside(queue, segment_name(segment, name));
        (void) segment_free(segment);
        return 0;
    }
    list_append(&run->segments, &segment->node);
    queue->n_segments++;
    if (!segment->is_ended) {
        r = recover(queue, run, segment);
        if (r)
            return pass(r);
    }
    if (segment->first > run->acked + 1) {
        r = run_cover(run, last + 1, segment->first - 1);
        if (r)
            return pass(r);
    }
    queue->bytes += segment->bytes;
    if (run->ordinal >= queue->next_ordinal)
        queue->next_ordinal = run->ordinal + 1;
    return 0;
}

/* ---- the counts ---- */

static void count_segment(struct queue *queue, const struct run *run, struct segment *segment)
{
    uint64_t from = run->acked >= segment->first ? run->acked + 1 : segment->first;
    uint64_t gone = 0;

    segment->records = segment->raw_records;
    segment->batches = segment->last + 1 - from;
    for (size_t i = 0; i < run->n_edits; i++) {
        const struct edit *edit = &run->edits[i];

        if (edit->first < segment->first || edit->last > segment->last)
            continue;
        gone += edit->records + edit->moved;
        if (edit->keep == 0 && edit->first >= from)
            segment->batches -= edit->last + 1 - edit->first;
    }
    segment->records -= gone < segment->records ? gone : segment->records;
    if (run->acked >= segment->first)
        segment->acked_records =
            run->acked_records < segment->records ? run->acked_records : segment->records;
    queue->queued += segment->records - segment->acked_records;
    queue->queued_batches += segment->batches;
}

/* What was produced by the word of the state, or of a segment that came later, and is nowhere. */
static void balance(struct queue *queue, uint64_t produced)
{
    uint64_t missing = queue_produced(queue);

    missing = produced > missing ? produced - missing : 0;
    if (missing == 0)
        return;
    queue_count_drop(queue, SPOOL_DAMAGED, missing);
    log_event(LOG_ERROR, "spool_records_missing", LOG_S("signal", spool_signal_name(queue->signal)),
              LOG_U("records", missing));
    list_each(node, &queue->runs)
    {
        struct run *run = run_of(node);

        for (size_t i = 0; i < run->n_edits; i++)
            if (run->edits[i].reason == SPOOL_DAMAGED && run->edits[i].records == 0) {
                run->edits[i].records = missing;
                return;
            }
    }
}

static void count_run(struct queue *queue, struct run *run)
{
    list_each_safe(node, &run->segments)
    {
        struct segment *segment = segment_of(node);

        /* Acknowledged, or only offsets. */
        if (segment->last <= run->acked || segment->last < segment->first) {
            segment_remove(queue, segment);
            continue;
        }
        count_segment(queue, run, segment);
    }
    for (size_t i = 0; i < run->n_edits; i++)
        run->edits[i].is_counted = true;
    run->last = end_of_run(run);
    if (!queue->has_state) /* who knows what was sent of it */
        run->lease = run->last;
    if (run->last == run->acked)
        run_free(run);
}

static void end_segments(struct queue *queue)
{
    bool is_kept = true, is_first = true;

    list_each(run_node, &queue->runs) list_each(node, &run_of(run_node)->segments)
    {
        struct segment *segment = segment_of(node);
        char name[SEGMENT_NAME_BYTES];

        if (segment->is_ended)
            continue;
        /* Before it is said that nobody needs to read it for its offsets. */
        if (is_first && queue->signal == SPOOL_LOGS)
            is_kept = offsets_write(queue, true);
        is_first = false;
        if (!is_kept)
            return;
        segment->fd =
            openat(queue->dirfd, segment_name(segment, name), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (segment->fd < 0)
            continue;
        segment_put_end(segment); /* not synced: without it it is read again */
        (void) close(segment->fd);
        segment->fd = -1;
    }
}

static int read_queue(struct queue *queue, struct found *found)
{
    uint64_t produced = 0;
    int r = state_read(queue, &produced);

    if (r == 0)
        r = offsets_read(queue);
    if (r == 0)
        r = read_directory(queue, found);
    if (r)
        return pass(r);
    queue->known_below = queue->has_state ? queue->next_ordinal : 0;
    if (found->n)
        qsort(found->segments, found->n, sizeof(struct segment *), by_place);
    for (size_t i = 0; i < found->n; i++) {
        if (found->segments[i]->produced_before > produced)
            produced = found->segments[i]->produced_before;
        r = place_segment(queue, take(found->segments[i]));
        if (r)
            return pass(r);
    }
    end_segments(queue);
    list_each_safe(node, &queue->runs) count_run(queue, run_of(node));
    balance(queue, produced);
    (void) state_write(queue, false);
    return 0;
}

int queue_read(struct queue *queue)
{
    struct found found = { 0 };
    int r = read_queue(queue, &found);

    for (size_t i = 0; i < found.n; i++)
        (void) segment_free(found.segments[i]);
    free(found.segments);
    return pass(r);
}
