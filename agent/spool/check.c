/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/spool/spool_private.h"
#include "common/base/fault.h"
#include "common/base/file.h"

static void on_frame(void *ctx, const struct codec_frame *frame)
{
    struct spool_finding *finding = ctx;

    finding->frames++;
    if (frame->kind != CODEC_SCRAPE && frame->kind != CODEC_LOGS)
        return;
    finding->batches += frame->sequence > 0;
    finding->records += frame->records;
}

static void on_gap(void *ctx, uint64_t from, uint64_t to, bool is_tail)
{
    struct spool_finding *finding = ctx;

    /* What was never written, or not to its end, is how a segment without an end looks. */
    if (!is_tail || finding->is_ended)
        finding->damaged_bytes += to - from;
}

static int check_segment(struct queue *queue, const char *name, struct spool_finding *ret)
{
    const struct segment_scan scan = { .on_frame = on_frame, .on_gap = on_gap, .ctx = ret };
    struct segment *segment;
    int r = segment_load(&segment, queue, name);

    *ret = (struct spool_finding){ .signal = queue->signal, .file = name };
    if (r < 0)
        return pass(r);
    if (r) {
        ret->is_headless = r == SEGMENT_DAMAGED;
        return 0;
    }
    ret->is_ended = segment->is_ended;
    ret->bytes = segment->bytes;
    r = segment_scan(queue, segment, &scan);
    ret->is_headless = r > 0;
    (void) segment_free(segment);
    return r < 0 ? pass(r) : 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int check_queue(struct queue *queue, spool_finding_fn *fn, void *ctx)
{
    struct dirent **entries;
    int n = scandirat(queue->dirfd, ".", &entries, NULL, by_name);
    uint64_t ordinal, first;
    int r = 0;

    for (int i = 0; i < n; i++) {
        struct spool_finding finding;

        if (r == 0 && segment_is_name(entries[i]->d_name, &ordinal, &first)) {
            r = check_segment(queue, entries[i]->d_name, &finding);
            if (r == 0)
                fn(ctx, &finding);
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return pass(r);
}

int spool_check(const char *directory, spool_finding_fn *fn, void *ctx)
{
    CLEANUP(fd_closep) int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;

    if (dirfd < 0)
        return SPOOL_EMPTY;
    for (unsigned i = 0; i < SPOOL_SIGNALS && r == 0; i++) {
        struct queue queue = { .signal = (enum spool_signal) i };

        queue.dirfd =
            openat(dirfd, spool_signal_name(queue.signal), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (queue.dirfd < 0)
            continue;
        r = check_queue(&queue, fn, ctx);
        (void) close(queue.dirfd);
    }
    return pass(r);
}
