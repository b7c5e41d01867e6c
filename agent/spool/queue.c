/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/spool/spool_private.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"

#define IDLE_TICK_US INT64_C(60000000)

static struct segment *segment_of(struct list *node)
{
    return container_of(node, struct segment, node);
}

static struct run *run_of(struct list *node)
{
    return container_of(node, struct run, node);
}

int64_t spool_boot_us(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
        return clock_mono().us;
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- numbers ---- */

uint32_t numbers_get(const struct numbers *numbers, uint32_t id)
{
    size_t mask = numbers->n_slots - 1;

    for (size_t at = id; numbers->n_slots; at++) {
        const uint32_t *slot = &numbers->slots[2 * (at & mask)];

        if (slot[0] == id)
            return slot[1] + 1;
        if (slot[0] == 0)
            break;
    }
    return 0;
}

static void numbers_add(struct numbers *numbers, uint32_t id, uint32_t number)
{
    size_t at = id, mask = numbers->n_slots - 1;

    while (numbers->slots[2 * (at & mask)] != 0)
        at++;
    numbers->slots[2 * (at & mask)] = id;
    numbers->slots[2 * (at & mask) + 1] = number;
    numbers->n_used++;
}

int numbers_put(struct numbers *numbers, uint32_t id, uint32_t number)
{
    ensure(id != 0);
    if (numbers->n_used * 2 >= numbers->n_slots) {
        struct numbers more = { .n_slots = numbers->n_slots ? numbers->n_slots * 2 : 64,
                                .n_told = numbers->n_told };

        more.slots = calloc(more.n_slots, 2 * sizeof(uint32_t));
        if (!more.slots)
            return fault(-ENOMEM, "no memory for the numbers of a segment");
        for (size_t i = 0; i < numbers->n_slots; i++)
            if (numbers->slots[2 * i])
                numbers_add(&more, numbers->slots[2 * i], numbers->slots[2 * i + 1]);
        free(numbers->slots);
        *numbers = more;
    }
    numbers_add(numbers, id, number);
    return 0;
}

void numbers_forget(struct numbers *numbers)
{
    free(numbers->slots);
    *numbers = (struct numbers){ .n_told = numbers->n_told };
}

void numbers_clear(struct numbers *numbers)
{
    free(numbers->slots);
    *numbers = (struct numbers){ 0 };
}

/* ---- runs ---- */

struct run *run_new(struct queue *queue, uint64_t ordinal, const uint8_t id[SPOOL_ID_BYTES])
{
    struct run *run = calloc(1, sizeof(*run));

    if (!run)
        return NULL;
    run->ordinal = ordinal;
    memcpy(run->id, id, sizeof(run->id));
    list_init(&run->segments);
    list_init(&run->node);
    list_append(&queue->runs, &run->node);
    return run;
}

void run_free(struct run *run)
{
    ensure(!run->reader);
    list_each_safe(node, &run->segments)(void) segment_free(segment_of(node));
    list_remove(&run->node);
    free(run->edits);
    free(run);
}

struct edit *run_find_edit(const struct run *run, uint64_t sequence)
{
    size_t low = 0, high = run->n_edits;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (run->edits[middle].last < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low < run->n_edits && run->edits[low].first <= sequence ? &run->edits[low] : NULL;
}

struct segment *run_find_segment(const struct run *run, uint64_t sequence)
{
    for (struct list *node = run->segments.next; node != &run->segments; node = node->next)
        if (segment_of(node)->first <= sequence && sequence <= segment_of(node)->last)
            return segment_of(node);
    return NULL;
}

/* Two that were never sent, side by side. What spool_drop_old() takes out of a segment never lies
 * behind the lease: it stays an edit of this segment alone. */
static bool is_joined(const struct run *run, const struct edit *before, const struct edit *behind)
{
    return before->keep == 0 && behind->keep == 0 && before->reason == behind->reason &&
           before->is_counted == behind->is_counted && before->last + 1 == behind->first &&
           before->first > run->lease;
}

int run_edit(struct run *run, const struct edit *edit)
{
    size_t at = 0;
    struct edit *more;

    while (at < run->n_edits && run->edits[at].last < edit->first)
        at++;
    /* The same batch once more: a half of it was refused too. */
    if (at < run->n_edits && run->edits[at].first <= edit->last) {
        ensure(run->edits[at].first == edit->first && run->edits[at].last == edit->last);
        run->edits[at].keep = edit->keep;
        run->edits[at].records += edit->records;
        run->edits[at].moved += edit->moved;
        run->edits[at].reason = edit->reason;
        return 0;
    }
    if (at > 0 && is_joined(run, &run->edits[at - 1], edit)) {
        run->edits[at - 1].last = edit->last;
        run->edits[at - 1].records += edit->records;
        return 0;
    }
    more = realloc(run->edits, (run->n_edits + 1) * sizeof(*more));
    if (!more)
        return fault(-ENOMEM, "no memory for a skip");
    run->edits = more;
    memmove(&more[at + 1], &more[at], (run->n_edits - at) * sizeof(*more));
    more[at] = *edit;
    run->n_edits++;
    return 0;
}

int run_cover(struct run *run, uint64_t from, uint64_t to)
{
    while (from <= to) {
        const struct edit *edit = run_find_edit(run, from);
        uint64_t last = to;
        int r;

        if (edit) {
            from = edit->last + 1;
            continue;
        }
        for (size_t i = 0; i < run->n_edits; i++)
            if (run->edits[i].first > from) {
                last = run->edits[i].first - 1 < to ? run->edits[i].first - 1 : to;
                break;
            }
        r = run_edit(run, &(struct edit){ .first = from, .last = last, .reason = SPOOL_DAMAGED });
        if (r)
            return pass(r);
        from = last + 1;
    }
    return 0;
}

/* What is acknowledged and lies in no segment that is still there: those count with them. */
static void forget_edits(struct run *run)
{
    uint64_t through = run->acked;
    size_t n = 0;

    if (!list_is_empty(&run->segments) && segment_of(run->segments.next)->first <= through)
        through = segment_of(run->segments.next)->first - 1;
    while (n < run->n_edits && run->edits[n].last <= through)
        n++;
    if (n == 0)
        return;
    run->n_edits -= n;
    memmove(run->edits, run->edits + n, run->n_edits * sizeof(*run->edits));
}

void queue_count_drop(struct queue *queue, enum spool_reason reason, uint64_t records)
{
    queue->dropped[reason] += records;
    queue->dropped[0] += records;
}

uint64_t queue_produced(const struct queue *queue)
{
    return queue->acknowledged + queue->queued + queue->dropped[0];
}

void queue_trim(struct queue *queue, struct run *run)
{
    bool is_written = false;

    list_each_safe(node, &run->segments)
    {
        struct segment *segment = segment_of(node);

        if (segment->is_active || segment->last > run->acked)
            break;
        /* First it is on disk that they are not wanted any more. */
        if (!is_written)
            (void) state_write(queue, true);
        is_written = true;
        reader_leave(run->reader, segment);
        segment_remove(queue, segment);
    }
    forget_edits(run);
    if (!is_written)
        (void) state_write(queue, false);
}

/* ---- limits ---- */

static void drop_segment(struct queue *queue,
                         struct run *run,
                         struct segment *segment,
                         enum spool_reason reason)
{
    const struct edit edit = { .first = segment->first,
                               .last = segment->last,
                               .records = segment->records,
                               .reason = reason };

    log_peer(LOG_WARN, "spool_dropped", LOG_S("signal", spool_signal_name(queue->signal)),
             LOG_S("reason", spool_reason_name(reason)), LOG_U("records", segment->records),
             LOG_U("batches", segment->batches));
    queue->queued -= segment->records;
    queue->queued_batches -= segment->batches;
    queue_count_drop(queue, reason, segment->records);
    if (run_edit(run, &edit))
        return; /* no memory: they are found to be missing, and skipped, at the next start */
    (void) state_write(queue, true);
    reader_leave(run->reader, segment);
    segment_remove(queue, segment);
}

/* Nothing of it was ever sent, or taken away for another reason. */
static bool is_droppable(const struct run *run, const struct segment *segment)
{
    if (segment->is_active || segment->first <= run->lease || segment->first <= run->acked ||
        segment->last < segment->first)
        return false;
    for (size_t i = 0; i < run->n_edits; i++)
        if (run->edits[i].first <= segment->last && run->edits[i].last >= segment->first)
            return false;
    return true;
}

/* False: there is none that may go. */
static bool drop_oldest(struct queue *queue)
{
    list_each(run_node, &queue->runs)
    {
        struct run *run = run_of(run_node);

        list_each(node, &run->segments)
        {
            struct segment *segment = segment_of(node);

            if (!is_droppable(run, segment))
                continue;
            drop_segment(queue, run, segment, SPOOL_QUEUE_FULL);
            return true;
        }
    }
    return false;
}

/* By the clock of the boot it was made in, or by the wall's as the hub has set it right. */
static int64_t age_us(const struct queue *queue, const struct segment *segment)
{
    int64_t lasted_us = segment->newest_us - segment->created_us;

    if (memcmp(segment->boot_id, queue->spool->boot_id, CODEC_BOOT_ID_BYTES) == 0)
        return spool_boot_us() - segment->created_boot_us - (lasted_us > 0 ? lasted_us : 0);
    for (size_t i = 0; i < SPOOL_BOOTS; i++)
        if (queue->boots[i].offset_us &&
            memcmp(queue->boots[i].id, segment->boot_id, CODEC_BOOT_ID_BYTES) == 0)
            return clock_wall().us - (segment->created_boot_us + queue->boots[i].offset_us) -
                   (lasted_us > 0 ? lasted_us : 0);
    return clock_wall().us - segment->newest_us;
}

static void drop_old(struct queue *queue)
{
    if (queue->limits.max_age_us == 0)
        return;
    list_each(run_node, &queue->runs)
    {
        struct run *run = run_of(run_node);

        list_each_safe(node, &run->segments)
        {
            struct segment *segment = segment_of(node);

            if (is_droppable(run, segment) && age_us(queue, segment) > queue->limits.max_age_us)
                drop_segment(queue, run, segment, SPOOL_TOO_OLD);
        }
    }
}

/* ---- putting ---- */

static uint64_t segment_capacity(const struct queue *queue, size_t batch_bytes)
{
    uint64_t bytes = queue->limits.limit_bytes / 8;
    uint64_t wanted = CODEC_HEAD_BYTES + batch_bytes + CODEC_END_BYTES;

    if (bytes > SPOOL_SEGMENT_BYTES)
        bytes = SPOOL_SEGMENT_BYTES;
    if (bytes < SPOOL_SEGMENT_MIN_BYTES)
        bytes = SPOOL_SEGMENT_MIN_BYTES;
    return wanted > bytes ? wanted : bytes;
}

static void end_active(struct queue *queue)
{
    struct segment *segment = take(queue->active);

    if (!segment)
        return;
    segment_end(queue, segment);
    numbers_clear(&queue->series);
    numbers_clear(&queue->layouts);
    queue->is_unsynced = false;
    if (segment->last <= queue->live->acked)
        queue_trim(queue, queue->live);
}

enum { ROOM = 0, NO_ROOM };

/* Outcomes: NO_ROOM. */
static int make_segment(struct queue *queue, size_t batch_bytes)
{
    bool may_drop = queue->limits.policy == SPOOL_DROP_OLDEST;
    uint64_t capacity = segment_capacity(queue, batch_bytes);
    int r;

    end_active(queue);
    if (capacity > queue->limits.limit_bytes)
        return NO_ROOM;
    while (queue->bytes + capacity > queue->limits.limit_bytes ||
           queue->n_segments >= SPOOL_MAX_SEGMENTS)
        if (!may_drop || !drop_oldest(queue))
            return NO_ROOM;
    r = segment_create(&queue->active, queue, capacity);
    if (r == SEGMENT_NO_DISK && may_drop && drop_oldest(queue))
        r = segment_create(&queue->active, queue, capacity);
    if (r)
        return r < 0 ? pass(r) : NO_ROOM;
    if (queue->active->capacity < CODEC_HEAD_BYTES + batch_bytes + CODEC_END_BYTES) {
        end_active(queue);
        return NO_ROOM;
    }
    return ROOM;
}

/* Since it was begun: what it says of the clock would be wrong for what comes now. */
static bool is_clock_set(const struct segment *segment)
{
    const int64_t hour_us = INT64_C(3600000000);
    int64_t apart_us =
        (clock_wall().us - spool_boot_us()) - (segment->created_us - segment->created_boot_us);

    return apart_us > hour_us || apart_us < -hour_us;
}

/* Room for the batch, in the active segment or a new one. */
static int make_room(struct queue *queue, size_t batch_bytes)
{
    const struct segment *segment = queue->active;

    if (segment && !is_clock_set(segment) &&
        segment->capacity - segment->bytes >= batch_bytes + CODEC_END_BYTES)
        return ROOM;
    return make_segment(queue, batch_bytes);
}

static void count_batch(struct queue *queue, const struct queue_batch *batch)
{
    struct segment *segment = queue->active;

    if (!batch->has_number)
        return;
    if (queue->live->last == queue->live->acked)
        queue->live->oldest_us = batch->time_us;
    queue->live->last = segment->last = segment->last + 1;
    segment->raw_records += batch->records;
    segment->records += batch->records;
    segment->raw_batches++;
    segment->batches++;
    if (segment->oldest_us == 0)
        segment->oldest_us = batch->time_us;
    segment->newest_us = batch->time_us;
    queue->queued += batch->records;
    queue->queued_batches++;
}

/* One in sync_us: the first after a while only waits for what is put in the same round. */
static mono_us sync_time(const struct queue *queue, mono_us now)
{
    const int64_t next_us = queue->synced_at.us + queue->limits.sync_us;

    return (mono_us){ next_us > now.us ? next_us : now.us };
}

static void want_sync(struct queue *queue)
{
    const mono_us now = clock_mono();

    queue->is_unsynced = true;
    queue->sync_due = sync_time(queue, now);
    if (queue->spool->options.on_unsynced)
        queue->spool->options.on_unsynced(queue->spool->options.ctx, queue->sync_due.us - now.us);
}

static void note_unsynced(struct queue *queue)
{
    if (queue->limits.sync_us == 0 || queue->active->is_volatile)
        queue_sync(queue);
    else if (!queue->is_unsynced)
        want_sync(queue);
}

void queue_set_limits(struct queue *queue, const struct spool_limits *limits)
{
    queue->limits = *limits;
    if (queue->is_unsynced)
        want_sync(queue);
}

/* The batch has no place: its number, or the skip before it, says so. */
static int drop_new(struct queue *queue, const struct queue_batch *batch)
{
    struct run *run = queue->live;
    int r;

    if (!batch->has_number)
        return 0;
    end_active(queue);
    r = run_edit(run, &(struct edit){ .first = run->last + 1,
                                      .last = run->last + 1,
                                      .records = batch->records,
                                      .reason = SPOOL_QUEUE_FULL });
    if (r)
        return pass(r);
    run->last++;
    queue_count_drop(queue, SPOOL_QUEUE_FULL, batch->records);
    log_peer(LOG_WARN, "spool_dropped", LOG_S("signal", spool_signal_name(queue->signal)),
             LOG_S("reason", "queue_full"), LOG_U("records", batch->records), LOG_U("batches", 1));
    (void) state_write(queue, false);
    return 0;
}

static int append(struct queue *queue, const struct queue_batch *batch)
{
    uint64_t sequence = batch->has_number ? queue->live->last + 1 : 0;

    buf_clear_for(&queue->frame, queue->frame.len); /* as the one before */
    batch->make(queue, batch, sequence);
    if (buf_failed(&queue->frame))
        return fault(-ENOMEM, "no memory for a batch");
    return segment_append(queue, queue->active, buf_span(&queue->frame));
}

int queue_put(struct queue *queue, const struct queue_batch *batch, bool *ret_is_dropped)
{
    int r = make_room(queue, batch->bytes);

    *ret_is_dropped = false;
    if (r == ROOM)
        r = append(queue, batch);
    if (r == SEGMENT_UNWRITTEN && queue->active) {
        /* A new one, elsewhere if need be. */
        r = make_segment(queue, batch->bytes);
        if (r == ROOM)
            r = append(queue, batch);
    }
    if (r < 0) {
        end_active(queue); /* it may count on what was not written */
        return pass(r);
    }
    if (r == 0) {
        count_batch(queue, batch);
        note_unsynced(queue);
        return 0;
    }
    if (queue->limits.policy == SPOOL_BLOCK && batch->may_block) {
        queue->is_waiting = true;
        return SPOOL_FULL;
    }
    *ret_is_dropped = true;
    if (batch->is_half)
        return 0;
    return pass(drop_new(queue, batch));
}

void queue_sync(struct queue *queue)
{
    if (queue->active)
        (void) segment_sync(queue, queue->active);
    queue->is_unsynced = false;
    queue->synced_at = clock_mono();
}

int64_t queue_tick(struct queue *queue)
{
    int64_t left_us = IDLE_TICK_US;

    drop_old(queue);
    if (queue->is_unsynced) {
        left_us = queue->sync_due.us - clock_mono().us;
        if (left_us <= 0) {
            queue_sync(queue);
            left_us = IDLE_TICK_US;
        }
    }
    return left_us;
}

/* ---- life ---- */

static int open_live(struct queue *queue)
{
    uint8_t id[SPOOL_ID_BYTES];

    crypto_random(id, sizeof(id));
    queue->live = run_new(queue, queue->next_ordinal, id);
    if (!queue->live)
        return fault(-ENOMEM, "no memory for a run");
    queue->live->is_open = true;
    queue->next_ordinal++;
    return 0;
}

static void close_live(struct queue *queue)
{
    struct run *run = queue->live;

    end_active(queue);
    run->is_open = false;
    if (run->last == run->acked && !run->reader)
        run_free(run);
    queue->live = NULL;
}

int queue_rotate(struct queue *queue)
{
    close_live(queue);
    return pass(open_live(queue));
}

int queue_open(struct queue *queue, struct spool *spool, enum spool_signal signal)
{
    const char *name = spool_signal_name(signal);
    int r;

    queue->spool = spool;
    queue->signal = signal;
    queue->limits = spool->options.limits[signal];
    queue->next_ordinal = 1;
    queue->dirfd = -1;
    list_init(&queue->runs);
    if (spool->dirfd >= 0) {
        if (mkdirat(spool->dirfd, name, 0700) == 0)
            (void) fsync(spool->dirfd);
        queue->dirfd = openat(spool->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    slots_init(&queue->state, queue->dirfd, "state");
    slots_init(&queue->offset_slots, queue->dirfd, "offsets");
    if (queue->dirfd >= 0) {
        r = queue_read(queue);
        if (r)
            return pass(r);
    }
    return pass(open_live(queue));
}

void queue_close(struct queue *queue)
{
    if (!queue->spool)
        return;
    if (queue->live)
        close_live(queue);
    (void) state_write(queue, true);
    list_each_safe(node, &queue->runs) run_free(run_of(node));
    slots_deinit(&queue->state);
    slots_deinit(&queue->offset_slots);
    offsets_free(queue);
    buf_deinit(&queue->frame);
    numbers_clear(&queue->series);
    numbers_clear(&queue->layouts);
    if (queue->dirfd >= 0)
        (void) close(queue->dirfd);
}
