/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/spool/put.h"
#include "agent/spool/reader.h"
#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "common/wire/wire.h"

/* ---- what an item is known by ---- */

static uint32_t add_number(uint32_t crc, uint64_t value, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t) (value >> (8 * i));
    return crc32c(crc, bytes, n);
}

static uint32_t scrape_checksum(const struct spool_item *item)
{
    const struct spool_scrape *scrape = &item->scrape;
    uint32_t crc = add_number(0, item->sequence, 8);

    for (size_t i = 0; i < scrape->layout->n_series; i++) {
        uint64_t bits;

        memcpy(&bits, &scrape->values[i], sizeof(bits));
        crc = add_number(crc, bits, 8);
    }
    for (size_t i = 0; i < scrape->n_absent; i++)
        crc = add_number(crc, scrape->absent[i], 4);
    return crc;
}

uint32_t reader_checksum(enum spool_signal signal, const struct spool_item *item)
{
    uint32_t crc;

    if (item->is_skip)
        return wire_skip_checksum(item->sequence, item->records);
    if (signal == SPOOL_METRICS)
        return scrape_checksum(item);
    crc = wire_logs_checksum(item->sequence);
    for (size_t i = 0; i < item->logs.n_records; i++)
        crc =
            wire_logs_checksum_add(crc, item->logs.records[i].severity, item->logs.records[i].body);
    return crc;
}

int64_t reader_time(const struct spool_reader *reader, const struct spool_item *item)
{
    return reader->queue->signal == SPOOL_METRICS ? item->scrape.time.us : item->logs.time.us;
}

/* ---- opening and closing ---- */

static struct run *run_to_read(const struct queue *queue, enum spool_lane lane)
{
    if (lane == SPOOL_LIVE)
        return queue->live;
    for (struct list *node = queue->runs.next; node != &queue->runs; node = node->next) {
        struct run *run = container_of(node, struct run, node);

        if (!run->is_open && !run->reader && run->last > run->acked)
            return run;
    }
    return NULL;
}

int spool_reader_open(struct spool_reader **ret,
                      struct spool *spool,
                      enum spool_signal signal,
                      enum spool_lane lane)
{
    struct queue *queue = &spool->queues[signal];
    struct run *run = run_to_read(queue, lane);
    struct spool_reader *reader;

    if (!run)
        return SPOOL_EMPTY;
    ensure(!run->reader);
    reader = calloc(1, sizeof(*reader));
    if (!reader)
        return fault(-ENOMEM, "no memory for a reader");
    reader->queue = queue;
    reader->run = run;
    reader->fd = -1;
    run->reader = reader;
    arena_init(&reader->arena, 1);
    reader_rewind(reader);
    *ret = reader;
    return 0;
}

struct spool_reader *spool_reader_close(struct spool_reader *reader)
{
    struct spool_series *series;
    size_t at = 0;

    if (!reader)
        return NULL;
    reader_rewind(reader); /* closes its file, and forgets what it was told */
    reader->run->reader = NULL;
    if (spool_reader_is_done(reader)) {
        run_free(reader->run);
        (void) state_write(reader->queue, false);
    }
    for (size_t i = 0; i < READER_RECENT; i++)
        (void) spool_layout_unref(reader->recent[i]);
    while ((series = map_next(&reader->known, &at)))
        (void) spool_series_unref(series);
    map_deinit(&reader->known);
    free(reader->series);
    free(reader->layouts);
    free(reader->sent);
    buf_deinit(&reader->frame);
    arena_deinit(&reader->arena);
    free(reader);
    return NULL;
}

void spool_reader_get_run(const struct spool_reader *reader, struct spool_run *ret)
{
    const struct run *run = reader->run;

    memcpy(ret->id, run->id, sizeof(ret->id));
    ret->first_sequence = run->acked + 1 - run->base;
    ret->last_sequence = run->last - run->base;
    ret->crc32c_before_first = run->acked == run->base ? 0 : run->acked_crc32c;
}

bool spool_reader_is_done(const struct spool_reader *reader)
{
    return !reader->run->is_open && reader->run->last == reader->run->acked;
}

/* ---- acknowledgements ---- */

static void count_acknowledged(struct spool_reader *reader, const struct sent *sent)
{
    struct queue *queue = reader->queue;
    struct run *run = reader->run;
    struct segment *segment = run_find_segment(run, sent->last);

    run->acked = sent->last;
    run->acked_crc32c = sent->crc32c;
    if (sent->time_us)
        run->oldest_us = sent->time_us;
    if (!sent->is_skip) {
        queue->acknowledged += sent->records;
        queue->queued -= sent->records;
        queue->queued_batches--;
        if (segment) {
            segment->acked_records += sent->records;
            segment->acked_bytes += sent->bytes;
        }
    }
    run->acked_records = segment ? segment->acked_records : 0;
}

static void offer_room(struct queue *queue)
{
    if (!queue->is_waiting)
        return;
    queue->is_waiting = false;
    if (queue->spool->options.on_room)
        queue->spool->options.on_room(queue->spool->options.ctx, queue->signal);
}

int spool_acknowledge(struct spool_reader *reader, uint64_t sequence)
{
    uint64_t through = sequence + reader->run->base;
    bool is_new = false;

    if (through > reader->cursor)
        return SPOOL_BEYOND;
    while (reader->n_sent > 0 && reader->sent[reader->sent_from].last <= through) {
        count_acknowledged(reader, &reader->sent[reader->sent_from]);
        reader->sent_from++;
        reader->n_sent--;
        is_new = true;
    }
    if (!is_new)
        return 0;
    queue_trim(reader->queue, reader->run);
    offer_room(reader->queue);
    return 0;
}

int spool_reader_resume(struct spool_reader *reader, uint64_t sequence)
{
    uint64_t through = sequence + reader->run->base;
    struct spool_item item;
    int r = 0;

    reader_rewind(reader);
    if (through <= reader->run->acked)
        return 0;
    if (through > reader->run->last || through > reader->run->lease)
        return SPOOL_BEYOND;
    /* The hub has more than it had told: what that is, is in the files. */
    while (r == 0 && reader->cursor < through)
        r = spool_read(reader, &item);
    if (r < 0)
        return pass(r);
    r = spool_acknowledge(reader,
                          reader->cursor < through ? reader->cursor - reader->run->base : sequence);
    reader_rewind(reader);
    return fold(r);
}

/* ---- refusals ---- */

static void put_span(struct buf *to, struct span bytes)
{
    buf_append_text(to, "\"");
    text_append_printable(to, bytes);
    buf_append_text(to, "\"");
}

/* For people: what it was, and why it lies here. */
static void describe(const struct spool_reader *reader,
                     const struct spool_item *item,
                     const char *why,
                     struct buf *to)
{
    char time[TEXT_TIME_BYTES], id[2 * SPOOL_ID_BYTES + 1];

    buf_printf(to, "refused: %s\nspool: %s\nsequence: %llu\nrecords: %llu\ntime: %s\n", why,
               text_of_hex(reader->run->id, SPOOL_ID_BYTES, id),
               (unsigned long long) item->sequence, (unsigned long long) item->records,
               text_of_time((wall_us){ reader_time(reader, item) }, time));
    if (reader->queue->signal == SPOOL_METRICS) {
        for (size_t i = 0; i < item->scrape.layout->n_series; i++) {
            const struct spool_series *series = item->scrape.layout->series[i];

            put_span(to, span_of(series->key.data, series->key.len - 1));
            buf_printf(to, " %s %.17g\n", series->unit, item->scrape.values[i]);
        }
        return;
    }
    put_span(to, item->logs.source.type);
    buf_append_text(to, " ");
    put_span(to, item->logs.source.name);
    buf_append_text(to, "\n");
    for (size_t i = 0; i < item->logs.n_records; i++) {
        const struct spool_log_record *record = &item->logs.records[i];

        buf_printf(to, "%s severity %u ", text_of_time((wall_us){ record->time_us }, time),
                   record->severity);
        put_span(to, record->body);
        for (size_t k = 0; k < record->n_attributes; k++) {
            buf_append_text(to, " ");
            put_span(to, record->attributes[k].key);
            buf_append_text(to, "=");
            put_span(to, record->attributes[k].value);
        }
        buf_append_text(to, "\n");
    }
}

/* Where it cannot be written it is in the log alone: that is no reason to stop. */
static void
keep_refused(const struct spool_reader *reader, const struct spool_item *item, const char *why)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    CLEANUP(fd_closep) int directory = -1, file = -1;
    char name[96];
    int spool = reader->queue->spool->dirfd;

    if (spool < 0)
        return;
    (void) !mkdirat(spool, "refused", 0700);
    directory = openat(spool, "refused", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return;
    snprintf(name, sizeof(name), "%016llx-%016llx-%s.refused",
             (unsigned long long) reader->run->ordinal, (unsigned long long) item->sequence,
             spool_signal_name(reader->queue->signal));
    describe(reader, item, why, &text);
    file = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file >= 0 && !buf_failed(&text))
        (void) write_at(file, buf_span(&text), 0);
    directory_keep_few(directory, ".refused", SPOOL_REFUSED_KEPT);
}

/* The second half goes to the live run; one record of the disk says both. */
static int split(struct spool_reader *reader, const struct spool_item *item)
{
    size_t keep = item->logs.n_records / 2;
    struct spool_logs half = item->logs;
    uint64_t sequence = item->sequence + reader->run->base;
    struct segment *segment;
    int r;

    half.records += keep;
    half.n_records -= keep;
    r = put_logs(reader->queue, &half,
                 &(struct codec_split){ .is_split = true,
                                        .ordinal = reader->run->ordinal,
                                        .sequence = sequence,
                                        .keep = keep });
    if (r)
        return r < 0 ? pass(r) : r;
    r = run_edit(reader->run, &(struct edit){ .first = sequence,
                                              .last = sequence,
                                              .keep = keep,
                                              .moved = half.n_records,
                                              .is_counted = true,
                                              .reason = SPOOL_REFUSED });
    if (r)
        return pass(r);
    segment = run_find_segment(reader->run, sequence);
    if (segment)
        segment->records -= half.n_records;
    reader->queue->queued -= half.n_records;
    /* Who says what is kept says that the rest is elsewhere: so it is there first. */
    queue_sync(reader->queue);
    (void) state_write(reader->queue, true);
    return 0;
}

static int refuse_whole(struct spool_reader *reader, const struct spool_item *item, const char *why)
{
    uint64_t sequence = item->sequence + reader->run->base;
    struct segment *segment;
    int r;

    keep_refused(reader, item, why);
    r = run_edit(reader->run, &(struct edit){ .first = sequence,
                                              .last = sequence,
                                              .records = item->records,
                                              .is_counted = true,
                                              .reason = SPOOL_REFUSED });
    if (r)
        return pass(r);
    segment = run_find_segment(reader->run, sequence);
    if (segment) {
        segment->records -= item->records;
        segment->batches--;
    }
    reader->queue->queued -= item->records;
    reader->queue->queued_batches--;
    queue_count_drop(reader->queue, SPOOL_REFUSED, item->records);
    (void) state_write(reader->queue, true);
    return 0;
}

int spool_refuse(struct spool_reader *reader, const char *why)
{
    struct spool_item item;
    int r;

    reader_rewind(reader);
    r = spool_read(reader, &item);
    if (r || item.is_skip) {
        reader_rewind(reader);
        return r < 0 ? pass(r) : SPOOL_EMPTY;
    }
    r = 1;
    if (reader->queue->signal == SPOOL_LOGS && item.logs.n_records > 1)
        r = split(reader, &item);
    if (r > 0) /* one record, or no room for two halves */
        r = refuse_whole(reader, &item, why);
    reader_rewind(reader);
    return pass(r);
}

/* ---- too old ---- */

struct dropping {
    struct spool_reader *reader;
    struct buf edits; /* struct edit */
    struct spool_dropped sum;
};

/* One more that goes: a part of the edit before it, or one of its own. An edit of batches that are
 * in files lies in one segment: so it is counted with it, at the next start. What a split has left
 * of a batch has an edit already, which becomes this. */
static int drop_batch(struct dropping *dropping, const struct spool_item *item)
{
    struct run *run = dropping->reader->run;
    const uint64_t sequence = item->sequence + run->base;
    const bool is_split = run_find_edit(run, sequence) != NULL;
    struct edit *last = NULL, fresh = { .first = sequence,
                                        .last = sequence,
                                        .records = item->records,
                                        .is_counted = true,
                                        .reason = SPOOL_TOO_OLD };
    struct segment *segment = run_find_segment(run, sequence);

    if (dropping->edits.len > 0)
        last = (struct edit *) (void *) (dropping->edits.data + dropping->edits.len) - 1;
    if (last && segment && last->first >= segment->first && last->last + 1 == sequence &&
        !is_split && !run_find_edit(run, last->last)) {
        last->last = sequence;
        last->records += item->records;
    } else {
        buf_append(&dropping->edits, &fresh, sizeof(fresh));
    }
    if (buf_failed(&dropping->edits))
        return fault(-ENOMEM, "no memory for a skip");
    if (segment) {
        segment->records -= item->records;
        segment->batches--;
    }
    dropping->sum.batches++;
    dropping->sum.records += item->records;
    return 0;
}

/* It is not made, for want of memory: what would have gone stays. */
static void give_back(struct dropping *dropping, const struct edit *edit)
{
    struct segment *segment = run_find_segment(dropping->reader->run, edit->first);
    const uint64_t n_batches = edit->last + 1 - edit->first;

    if (segment) {
        segment->records += edit->records;
        segment->batches += n_batches;
    }
    dropping->sum.batches -= n_batches;
    dropping->sum.records -= edit->records;
}

/* All its numbers are in skips, and none was acknowledged as a batch. */
static bool is_dead(const struct run *run, const struct segment *segment)
{
    if (segment->is_active || segment->records > 0 || segment->first <= run->acked)
        return false;
    for (uint64_t next = segment->first; next <= segment->last;) {
        const struct edit *edit = run_find_edit(run, next);

        if (!edit || edit->keep > 0)
            return false;
        next = edit->last + 1;
    }
    return segment->first <= segment->last;
}

/* Their place is given back at once, not when the hub knows of it. A producer that waits for room
 * is told with the next acknowledgement: here it could come back to this reader. */
static void remove_dead(struct spool_reader *reader)
{
    list_each_safe(node, &reader->run->segments)
    {
        struct segment *segment = container_of(node, struct segment, node);

        if (!is_dead(reader->run, segment))
            continue;
        reader_leave(reader, segment);
        segment_remove(reader->queue, segment);
    }
}

/* The state is written once, whatever is made: with it, what was looked at is as good as sent. */
static int make_edits(struct dropping *dropping, bool is_leased)
{
    struct queue *queue = dropping->reader->queue;
    const struct edit *edits = (const void *) dropping->edits.data;
    const size_t n_edits = dropping->edits.len / sizeof(*edits);
    size_t n_made = 0;
    int r = 0;

    while (n_made < n_edits && (r = run_edit(dropping->reader->run, &edits[n_made])) == 0)
        n_made++;
    for (size_t i = n_made; i < n_edits; i++)
        give_back(dropping, &edits[i]);
    queue->queued -= dropping->sum.records;
    queue->queued_batches -= dropping->sum.batches;
    queue_count_drop(queue, SPOOL_TOO_OLD, dropping->sum.records);
    if (dropping->sum.batches || is_leased)
        (void) state_write(queue, true);
    if (dropping->sum.batches)
        remove_dead(dropping->reader);
    return pass(r);
}

/* Outcomes: SPOOL_EMPTY (no more that is old). */
static int look_at_next(struct dropping *dropping, spool_is_old_fn *is_old, void *ctx)
{
    struct spool_reader *reader = dropping->reader;
    struct spool_item item;
    int r = spool_read(reader, &item);

    reader->sent_from = reader->n_sent = 0; /* it is not sent, only looked at */
    if (r)
        return r < 0 ? pass(r) : SPOOL_EMPTY;
    if (item.is_skip)
        return 0;
    return is_old(ctx, &item) ? pass(drop_batch(dropping, &item)) : SPOOL_EMPTY;
}

/* Nothing of it leaves, so it need not be said in the state before each: the lease is for all,
 * and is written with the edits. Meanwhile it keeps what is found from being joined. */
static int look_at_all(struct dropping *dropping, spool_is_old_fn *is_old, void *ctx)
{
    struct spool_reader *reader = dropping->reader;
    const uint64_t end = reader->bytes_read + SPOOL_DROP_BYTES, lease = reader->run->lease;
    int r;

    reader->run->lease = reader->run->last > lease ? reader->run->last : lease;
    do {
        r = look_at_next(dropping, is_old, ctx);
    } while (r == 0 && dropping->sum.batches < SPOOL_DROP_BATCHES && reader->bytes_read < end);
    reader->run->lease = reader->cursor > lease ? reader->cursor : lease;
    return pass(r);
}

int spool_drop_old(struct spool_reader *reader,
                   spool_is_old_fn *is_old,
                   void *ctx,
                   struct spool_dropped *ret)
{
    struct dropping dropping = { .reader = reader };
    const uint64_t lease = reader->run->lease;
    int r, r_edits;

    reader_rewind(reader);
    r = look_at_all(&dropping, is_old, ctx);
    r_edits = make_edits(&dropping, reader->run->lease > lease);
    buf_deinit(&dropping.edits);
    reader_rewind(reader);
    *ret = dropping.sum;
    return r < 0 ? pass(r) : pass(r_edits);
}

void spool_fork(struct spool_reader *reader)
{
    struct run *run = reader->run;

    crypto_random(run->id, sizeof(run->id));
    run->base = run->acked;
    run->acked_crc32c = 0;
    (void) state_write(reader->queue, true);
    reader_rewind(reader);
}
