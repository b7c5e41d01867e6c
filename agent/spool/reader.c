/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/spool/reader.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

/* A frame's structs: a record of logs is some 150 bytes beside its own. */
#define ARENA_BYTES (size_t)(16u << 20)

/* ---- where it is ---- */

static void forget_told(struct spool_reader *reader)
{
    for (size_t i = 0; i < reader->n_series; i++)
        (void) spool_series_unref(reader->series[i]);
    for (size_t i = 0; i < reader->n_layouts; i++)
        (void) spool_layout_unref(reader->layouts[i]);
    reader->n_series = reader->n_layouts = 0;
}

static void leave(struct spool_reader *reader)
{
    if (reader->fd >= 0)
        (void) close(reader->fd);
    reader->fd = -1;
    reader->at = NULL;
    reader->keeps_all = false;
    forget_told(reader);
}

void reader_leave(struct spool_reader *reader, const struct segment *segment)
{
    if (reader && reader->at == segment)
        leave(reader);
}

void reader_rewind(struct spool_reader *reader)
{
    leave(reader);
    reader->cursor = reader->run->acked;
    reader->sent_from = reader->n_sent = 0;
}

static bool enter(struct spool_reader *reader, struct segment *segment)
{
    if (reader->at == segment)
        return true;
    leave(reader);
    reader->fd = segment_open(reader->queue, segment);
    if (reader->fd < 0)
        return false;
    reader->at = segment;
    reader->offset = CODEC_HEAD_BYTES;
    return true;
}

/* ---- what it was told ---- */

static bool is_same(const struct spool_series *series, const struct codec_series *other)
{
    return series && series->kind == other->kind &&
           span_equal(span_of_text(series->unit), other->unit);
}

/* Ids stay the same from segment to segment, so that a stream is told of a series once. */
static int intern_series(struct spool_reader *reader,
                         const struct codec_series *told,
                         struct spool_series **ret)
{
    CLEANUP(spool_series_unrefp) struct spool_series *made = NULL;
    CLEANUP(buf_deinit) struct buf unit = { 0 };
    struct spool_series *series = map_get(&reader->known, told->key);
    int r;

    if (is_same(series, told)) {
        *ret = spool_series_ref(series);
        return 0;
    }
    buf_append_span(&unit, told->unit);
    r = spool_series_new(&made, ++reader->last_id, told->kind, buf_text(&unit), told->key);
    if (r)
        return pass(r);
    if (series)
        (void) map_remove(&reader->known, told->key);
    (void) spool_series_unref(series);
    r = map_put(&reader->known, made->key, made);
    if (r)
        return pass(r);
    *ret = spool_series_ref(made);
    made = NULL;
    return 0;
}

static int intern_layout(struct spool_reader *reader,
                         struct spool_series *const *series,
                         size_t n_series,
                         struct spool_layout **ret)
{
    struct spool_layout **place = &reader->recent[reader->next_recent];
    int r;

    for (size_t i = 0; i < READER_RECENT; i++) {
        struct spool_layout *layout = reader->recent[i];

        if (!layout || layout->n_series != n_series ||
            (n_series &&
             memcmp(layout->series, series, n_series * sizeof(struct spool_series *)) != 0))
            continue;
        *ret = spool_layout_ref(layout);
        return 0;
    }
    *place = spool_layout_unref(*place);
    r = spool_layout_new(place, ++reader->last_id, series, n_series);
    if (r)
        return pass(r);
    reader->next_recent = (reader->next_recent + 1) % READER_RECENT;
    *ret = spool_layout_ref(*place);
    return 0;
}

static int grow(void **items, size_t n, size_t more, size_t item_bytes)
{
    /* In steps: layouts come one by one. */
    void *grown = realloc(*items, (n + more + 63) / 64 * 64 * item_bytes);

    if (!grown)
        return fault(-ENOMEM, "no memory for what a segment tells");
    *items = grown;
    return 0;
}

/*
 * Where processes and containers come and go there is a layout each minute, and few of what a
 * segment has told is ever named again: only the newest layouts are kept, and their series. Should
 * a segment name another, it is read once more from its beginning, with all of it kept.
 */
enum { LET_GO = CODEC_BAD + 1 };

static void mark_layout(struct spool_reader *reader, const struct spool_layout *layout)
{
    for (size_t i = 0; layout && i < layout->n_series; i++)
        layout->series[i]->mark = reader->mark;
}

static void let_go(struct spool_reader *reader)
{
    struct spool_series *series;
    size_t at = 0;

    if (reader->n_layouts > READER_RECENT) {
        struct spool_layout **oldest = &reader->layouts[reader->n_layouts - 1 - READER_RECENT];

        *oldest = spool_layout_unref(*oldest);
    }
    reader->mark++;
    for (size_t i = 0; i < READER_RECENT; i++) {
        mark_layout(reader, reader->recent[i]);
        if (i < reader->n_layouts)
            mark_layout(reader, reader->layouts[reader->n_layouts - 1 - i]);
    }
    for (size_t i = 0; i < reader->n_series; i++)
        if (reader->series[i] && reader->series[i]->mark != reader->mark)
            reader->series[i] = spool_series_unref(reader->series[i]);
    while ((series = map_next(&reader->known, &at))) {
        if (series->mark == reader->mark)
            continue;
        (void) map_remove(&reader->known, series->key);
        (void) spool_series_unref(series);
        at--; /* another may have moved there */
    }
}

/* Outcomes: CODEC_BAD, LET_GO. */
static int take_layout(struct spool_reader *reader, struct span payload)
{
    struct codec_layout told;
    struct spool_series **series;
    int r = codec_read_layout(payload, reader->n_series, &reader->arena, &told);

    if (r)
        return r;
    r = grow((void **) &reader->series, reader->n_series, told.n_new + 1,
             sizeof(struct spool_series *));
    if (r == 0)
        r = grow((void **) &reader->layouts, reader->n_layouts, 1, sizeof(struct spool_layout *));
    for (size_t i = 0; i < told.n_new && r == 0; i++) {
        r = intern_series(reader, &told.new_series[i], &reader->series[reader->n_series]);
        reader->n_series += r == 0;
    }
    if (r)
        return pass(r);
    series = arena_alloc_array(&reader->arena, told.n_series + 1, sizeof(struct spool_series *));
    if (!series)
        return CODEC_BAD;
    for (size_t i = 0; i < told.n_series; i++) {
        series[i] = reader->series[told.numbers[i]];
        if (!series[i])
            return LET_GO;
    }
    r = intern_layout(reader, series, told.n_series, &reader->layouts[reader->n_layouts]);
    if (r)
        return pass(r);
    reader->n_layouts++;
    if (!reader->keeps_all)
        let_go(reader);
    return 0;
}

static void read_again(struct spool_reader *reader)
{
    ensure(!reader->keeps_all);
    forget_told(reader);
    reader->keeps_all = true;
    reader->offset = CODEC_HEAD_BYTES;
}

/* ---- what is damaged ---- */

struct survey {
    struct spool_reader *reader;
    uint64_t next; /* number that was not seen yet */
    uint64_t intact;
    int r;
};

static void on_frame(void *ctx, const struct codec_frame *frame)
{
    struct survey *survey = ctx;
    const struct edit *edit;

    if (frame->kind == CODEC_END || frame->sequence < survey->next || survey->r)
        return;
    edit = run_find_edit(survey->reader->run, frame->sequence);
    if (!edit)
        survey->intact += frame->records;
    else if (edit->keep)
        survey->intact += edit->keep;
    survey->r = run_cover(survey->reader->run, survey->next, frame->sequence - 1);
    survey->next = frame->sequence + 1;
}

/* Those that were lost for good: with the edits that run_cover() made without a count. */
static void count_lost(struct spool_reader *reader, struct segment *segment, uint64_t records)
{
    struct queue *queue = reader->queue;
    struct run *run = reader->run;
    bool is_counted = false;

    for (size_t i = 0; i < run->n_edits; i++) {
        struct edit *edit = &run->edits[i];

        if (edit->reason != SPOOL_DAMAGED || edit->is_counted || edit->first < segment->first ||
            edit->last > segment->last)
            continue;
        edit->records = is_counted ? 0 : records;
        edit->is_counted = is_counted = true;
        queue->queued_batches -= edit->last + 1 - edit->first;
        segment->batches -= edit->last + 1 - edit->first;
    }
    if (!is_counted)
        return;
    segment->records -= records;
    queue->queued -= records;
    queue_count_drop(queue, SPOOL_DAMAGED, records);
    if (!segment->is_damaged)
        queue->damaged_segments++;
    segment->is_damaged = true;
    (void) state_write(queue, false);
}

/* From here on something of the segment cannot be read: finds out what. */
static int survey_damage(struct spool_reader *reader)
{
    struct segment *segment = reader->at;
    struct survey survey = {
        .reader = reader,
        .next = reader->cursor + 1 > segment->first ? reader->cursor + 1 : segment->first,
    };
    const struct segment_scan scan = { .on_frame = on_frame, .ctx = &survey };
    uint64_t before, left;
    int r;

    /* What was handed out of it is good, acknowledged or not. */
    before = segment->acked_records;
    for (size_t i = 0; i < reader->n_sent; i++) {
        const struct sent *sent = &reader->sent[reader->sent_from + i];

        if (sent->last >= segment->first && !sent->is_skip)
            before += sent->records;
    }
    r = segment_scan(reader->queue, segment, &scan);
    if (r == 0)
        r = survey.r;
    if (r == 0)
        r = run_cover(reader->run, survey.next, segment->last);
    if (r < 0)
        return pass(r);
    if (r) /* the file cannot be read at all */
        r = run_cover(reader->run, reader->cursor + 1, segment->last);
    left =
        segment->records > before + survey.intact ? segment->records - before - survey.intact : 0;
    count_lost(reader, segment, left);
    return pass(r);
}

/* One batch that does not make sense, as what it rests on is damaged; or that is not there. */
static int lose_batch(struct spool_reader *reader, uint64_t sequence, uint64_t records)
{
    struct edit *edit = run_find_edit(reader->run, sequence);
    int r;

    if (edit) { /* a half of it had been moved */
        records = edit->keep;
        edit->keep = 0;
        edit->reason = SPOOL_DAMAGED;
        edit->is_counted = false;
    }
    r = run_cover(reader->run, sequence, sequence);
    if (r)
        return pass(r);
    count_lost(reader, reader->at, records);
    return 0;
}

/* Behind the damage. */
static int skip_damage(struct spool_reader *reader, uint64_t end)
{
    CLEANUP(buf_deinit) struct buf rest = { 0 };
    size_t len = (size_t) (end - reader->offset);
    int r = survey_damage(reader);

    if (r)
        return pass(r);
    if (!buf_extend(&rest, len))
        return fault(-ENOMEM, "no memory to read a segment");
    len = read_at(reader->fd, rest.data, len, reader->offset);
    len = codec_find_frame(span_of(rest.data, len), CODEC_ALIGN, reader->at->seed);
    reader->offset += len;
    if (reader->offset > end || len == 0)
        reader->offset = end;
    return 0;
}

/* ---- frames ---- */

/* The next frame of the segment. Outcomes: SPOOL_EMPTY (no more, at the moment), CODEC_BAD is
 * dealt with. */
static int next_frame(struct spool_reader *reader, struct codec_frame *ret)
{
    for (;;) {
        uint64_t end = reader->at->is_active ? reader->at->synced_bytes : reader->at->bytes;
        uint8_t front[8];
        uint32_t len;
        struct span from = span_of(front, sizeof(front));
        int r = CODEC_BAD;

        if (reader->offset >= end)
            return SPOOL_EMPTY;
        buf_clear(&reader->frame);
        if (read_at(reader->fd, front, sizeof(front), reader->offset) == sizeof(front) &&
            codec_take_u32(&from, &len) && codec_take_u32(&from, &len) &&
            reader->offset + CODEC_FRAME_BYTES + len <= end) {
            size_t want = CODEC_FRAME_BYTES + (size_t) len;

            buf_clear_for(&reader->frame, want);
            if (!buf_extend(&reader->frame, want))
                return fault(-ENOMEM, "no memory for a batch");
            if (read_at(reader->fd, reader->frame.data, want, reader->offset) == want)
                r = codec_read_frame(buf_span(&reader->frame), reader->at->seed, ret);
            ret->bytes = (want + CODEC_ALIGN - 1) / CODEC_ALIGN * CODEC_ALIGN;
        }
        if (r == 0) {
            reader->offset += ret->bytes;
            reader->bytes_read += ret->bytes;
            return 0;
        }
        r = skip_damage(reader, end);
        if (r)
            return pass(r);
    }
}

/* Outcomes: CODEC_BAD, LET_GO. */
static int
fill_scrape(struct spool_reader *reader, const struct codec_frame *frame, struct spool_item *ret)
{
    struct codec_scrape scrape;
    int r = codec_read_scrape(frame->payload, &reader->arena, &scrape);

    if (r)
        return r;
    if (scrape.layout >= reader->n_layouts)
        return CODEC_BAD;
    if (!reader->layouts[scrape.layout])
        return LET_GO;
    if (reader->layouts[scrape.layout]->n_series != scrape.n_values)
        return CODEC_BAD;
    ret->scrape = (struct spool_scrape){
        .layout = reader->layouts[scrape.layout],
        .time = { frame->time_us },
        .boot_us = scrape.boot_us,
        .values = scrape.values,
        .absent = scrape.absent,
        .n_absent = scrape.n_absent,
    };
    return 0;
}

static void fill_boot(const struct spool_reader *reader, struct spool_item *ret)
{
    const struct queue *queue = reader->queue;
    const uint8_t *id = reader->at->boot_id;

    ret->stamp_offset_us = reader->at->created_us - reader->at->created_boot_us;
    ret->is_this_boot = memcmp(id, queue->spool->boot_id, CODEC_BOOT_ID_BYTES) == 0;
    for (size_t i = 0; i < SPOOL_BOOTS; i++)
        if (queue->boots[i].offset_us && memcmp(queue->boots[i].id, id, CODEC_BOOT_ID_BYTES) == 0) {
            ret->has_boot_offset = true;
            ret->boot_offset_us = queue->boots[i].offset_us;
        }
}

/* Outcomes: CODEC_BAD, LET_GO. */
static int
fill_item(struct spool_reader *reader, const struct codec_frame *frame, struct spool_item *ret)
{
    const struct edit *edit = run_find_edit(reader->run, frame->sequence);
    struct codec_split split;
    int r;

    *ret = (struct spool_item){ .sequence = frame->sequence - reader->run->base,
                                .records = frame->records };
    if (frame->kind == CODEC_SCRAPE) {
        r = fill_scrape(reader, frame, ret);
    } else {
        r = codec_read_logs(frame, &reader->arena, &ret->logs, &split);
        ret->logs.offsets = NULL;
        ret->logs.n_offsets = 0;
        if (r == 0 && edit && edit->keep < ret->logs.n_records)
            ret->records = ret->logs.n_records = (size_t) edit->keep;
    }
    if (r)
        return r;
    ret->crc32c = reader_checksum(reader->queue->signal, ret);
    fill_boot(reader, ret);
    return 0;
}

/* The batch behind the cursor in this segment. Outcomes: SPOOL_EMPTY. */
static int next_batch(struct spool_reader *reader, struct spool_item *ret, size_t *ret_bytes)
{
    enum codec_kind wanted = reader->queue->signal == SPOOL_METRICS ? CODEC_SCRAPE : CODEC_LOGS;

    for (;;) {
        struct codec_frame frame;
        int r;

        if (run_find_edit(reader->run, reader->cursor + 1) &&
            run_find_edit(reader->run, reader->cursor + 1)->keep == 0)
            return SPOOL_EMPTY; /* damage was found: a skip is next */
        r = next_frame(reader, &frame);
        if (r)
            return r < 0 ? pass(r) : SPOOL_EMPTY;
        arena_reset(&reader->arena, ARENA_BYTES);
        *ret_bytes = frame.bytes;
        if (frame.kind == CODEC_LAYOUT)
            r = take_layout(reader, frame.payload);
        if (r < 0)
            return pass(r);
        if (r == LET_GO)
            read_again(reader);
        if (frame.kind != wanted || frame.sequence <= reader->cursor)
            continue;
        if (frame.sequence > reader->cursor + 1) {
            /* What lies between is gone, or in an edit: this one is read again behind it. */
            reader->offset -= frame.bytes;
            r = survey_damage(reader);
            if (r)
                return pass(r);
            return SPOOL_EMPTY;
        }
        r = fill_item(reader, &frame, ret);
        if (r <= 0)
            return pass(r);
        if (r == LET_GO) {
            read_again(reader);
            continue;
        }
        r = lose_batch(reader, frame.sequence, frame.records);
        if (r)
            return pass(r);
    }
}

/* ---- items ---- */

static int note_sent(struct spool_reader *reader, const struct sent *sent)
{
    struct run *run = reader->run;

    if (reader->sent_from > 0 && reader->sent_from + reader->n_sent == reader->sent_room) {
        memmove(reader->sent, reader->sent + reader->sent_from,
                reader->n_sent * sizeof(*reader->sent));
        reader->sent_from = 0;
    }
    if (reader->sent_from + reader->n_sent == reader->sent_room) {
        size_t room = reader->sent_room ? reader->sent_room * 2 : 64;
        struct sent *more = realloc(reader->sent, room * sizeof(*more));

        if (!more)
            return fault(-ENOMEM, "no memory for what is on its way");
        reader->sent = more;
        reader->sent_room = room;
    }
    reader->sent[reader->sent_from + reader->n_sent++] = *sent;
    reader->cursor = sent->last;
    if (sent->last > run->lease) {
        run->lease = sent->last + SPOOL_LEASE_BATCHES - 1;
        (void) state_write(reader->queue, true);
    }
    return 0;
}

static int read_skip(struct spool_reader *reader, const struct edit *edit, struct spool_item *ret)
{
    *ret = (struct spool_item){ .sequence = edit->last - reader->run->base,
                                .records = edit->records,
                                .is_skip = true,
                                .reason = edit->reason };
    ret->crc32c = reader_checksum(reader->queue->signal, ret);
    return pass(note_sent(reader, &(struct sent){ .last = edit->last,
                                                  .records = edit->records,
                                                  .crc32c = ret->crc32c,
                                                  .is_skip = true }));
}

int spool_read(struct spool_reader *reader, struct spool_item *ret)
{
    struct run *run = reader->run;
    size_t bytes;
    int r;

    while (reader->cursor < run->last) {
        uint64_t next = reader->cursor + 1;
        const struct edit *edit = run_find_edit(run, next);
        struct segment *segment;

        if (edit && edit->keep == 0)
            return pass(read_skip(reader, edit, ret));
        segment = run_find_segment(run, next);
        if (!segment || !enter(reader, segment)) {
            r = run_cover(run, next, segment ? segment->last : next);
            if (r)
                return pass(r);
            if (segment) /* its file is gone */
                count_lost(reader, segment, segment->records - segment->acked_records);
            continue;
        }
        r = next_batch(reader, ret, &bytes);
        if (r == 0)
            return pass(note_sent(reader, &(struct sent){ .last = next,
                                                          .records = ret->records,
                                                          .time_us = reader_time(reader, ret),
                                                          .crc32c = ret->crc32c,
                                                          .bytes = bytes }));
        if (r < 0)
            return pass(r);
        edit = run_find_edit(run, next);
        if (edit && edit->keep == 0)
            continue;
        if (segment->is_active && reader->offset >= segment->synced_bytes)
            return SPOOL_EMPTY;
        /* It ended before its last number: the rest of it is gone. */
        r = survey_damage(reader);
        edit = run_find_edit(run, next);
        if (r == 0 && (!edit || edit->keep))
            r = lose_batch(reader, next, 0);
        if (r)
            return pass(r);
    }
    return SPOOL_EMPTY;
}
