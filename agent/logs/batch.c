/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/logs/inside.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"

/* A time in a line counts when it lies here; else the line counts as of now. */
#define PAST_US (INT64_C(7) * 24 * 3600 * 1000000)
#define FUTURE_US (INT64_C(600) * 1000000)
/* A time that the machine gave is sent as it is when a hub takes it: by default 30 days back. */
#define OLDEST_US (INT64_C(29) * 24 * 3600 * 1000000)
/* Values that become UTF-8 take up to three times what they count as. */
#define ARENA_BYTES (4 * BATCH_MAX_BYTES)

int batch_init(struct batch *batch, struct logs *logs)
{
    *batch = (struct batch){ .logs = logs };
    arena_init(&batch->arena, ARENA_BYTES);
    batch->records = calloc(BATCH_MAX_RECORDS, sizeof(*batch->records));
    batch->firsts = calloc(BATCH_MAX_RECORDS, sizeof(*batch->firsts));
    if (!batch->records || !batch->firsts)
        return fault(-ENOMEM, "no memory for a batch of logs");
    return 0;
}

void batch_deinit(struct batch *batch)
{
    free(batch->records);
    free(batch->firsts);
    free(batch->attributes);
    buf_deinit(&batch->text);
    arena_deinit(&batch->arena);
    *batch = (struct batch){ .logs = NULL };
}

void batch_begin(struct batch *batch, const struct spool_log_source *source)
{
    batch->source = *source;
    batch->n_records = batch->n_attributes = batch->attribute_bytes = 0;
    arena_reset(&batch->arena, ARENA_BYTES);
    /* A path may be any bytes; no memory for another name: the hub refuses what has this one. */
    if (!text_is_utf8(source->name.data, source->name.len)) {
        const struct span name = batch_keep(batch, source->name);

        if (name.data)
            batch->source.name = name;
    }
    /* A long record needs no room for ever. */
    if (batch->text.capacity > 2 * BATCH_MAX_BYTES)
        buf_deinit(&batch->text);
    buf_clear_for(&batch->text, batch->last_text_bytes);
}

/* With U+FFFD for each byte that is of no character. */
static struct span keep_valid(struct batch *batch, struct span value)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *to = arena_alloc(&batch->arena, 3 * value.len + 1);
    size_t n = 0;

    for (size_t at = 0; to && at < value.len;) {
        uint32_t code;
        const size_t len = text_utf8_next(span_of(value.data + at, value.len - at), &code);

        memcpy(to + n, len ? (const char *) value.data + at : replacement, len ? len : 3);
        n += len ? len : 3;
        at += len ? len : 1;
    }
    return span_of(to, n);
}

struct span batch_keep(struct batch *batch, struct span value)
{
    if (!text_is_utf8(value.data, value.len))
        return keep_valid(batch, value);
    return span_of(arena_copy(&batch->arena, value), value.len);
}

/* A record may become several, and two are added at a time at most. Attributes count: they lie in
 * the arena, and in the spool's batch. */
bool batch_is_full(const struct batch *batch)
{
    return batch->n_records + (size_t) 2 * BATCH_MAX_PIECES > BATCH_MAX_RECORDS ||
           batch->text.len + batch->attribute_bytes >= BATCH_MAX_BYTES;
}

static int
add_attributes(struct batch *batch, const struct spool_log_attribute *attributes, size_t n)
{
    if (batch->n_attributes + n > batch->attribute_capacity) {
        size_t capacity = 2 * (batch->attribute_capacity + n) + 64;
        struct spool_log_attribute *grown =
            reallocarray(batch->attributes, capacity, sizeof(*grown));

        if (!grown)
            return fault(-ENOMEM, "no memory for attributes of logs");
        batch->attributes = grown;
        batch->attribute_capacity = capacity;
    }
    for (size_t i = 0; i < n; i++) {
        batch->attributes[batch->n_attributes++] = attributes[i];
        batch->attribute_bytes += attributes[i].key.len + attributes[i].value.len;
    }
    return 0;
}

static void read_from_body(struct spool_log_record *record, struct span body, wall_us now)
{
    wall_us time;

    if (record->severity == 0)
        record->severity = text_severity(body);
    if (record->observed_us == 0)
        record->observed_us = now.us;
    if (record->time_us != 0)
        return;
    record->time_us = record->observed_us;
    if (text_time(body, now, &time) && time.us >= now.us - PAST_US && time.us <= now.us + FUTURE_US)
        record->time_us = time.us;
}

/* Up to `end` of the text, from where the record before ends. */
static void
take_record(struct batch *batch, const struct spool_log_record *record, size_t at, size_t end)
{
    struct spool_log_record *to = &batch->records[batch->n_records];

    *to = *record;
    /* The place moves while the text grows: as a number until it is put. */
    to->body = span_of(NULL, end - at);
    to->is_raw = !text_is_utf8(batch->text.data + at, end - at);
    batch->firsts[batch->n_records] = batch->n_attributes - record->n_attributes;
    batch->n_records++;
}

size_t batch_bound_time(struct batch *batch,
                        struct spool_log_record *record,
                        struct spool_log_attribute *ret)
{
    const wall_us now = clock_wall();
    char text[TEXT_TIME_BYTES];

    if (record->time_us == 0 ||
        (record->time_us >= now.us - OLDEST_US && record->time_us <= now.us + FUTURE_US))
        return 0;
    text_of_time((wall_us){ record->time_us }, text);
    ret->key = span_of_text("log.record.original_time");
    ret->value = batch_keep(batch, span_of_text(text));
    record->time_us = now.us;
    return ret->value.data ? 1 : 0;
}

int batch_add(struct batch *batch,
              const struct spool_log_record *record,
              const struct spool_log_attribute *attributes,
              size_t n_attributes)
{
    struct logs_status *status = &batch->logs->status;
    const struct screen *screen = batch->logs->plan->screen;
    const size_t max = logs_max_record(batch->logs);
    struct spool_log_record row = *record;
    size_t at = batch->text.len, n_places;
    int r;

    ensure(batch->n_records + BATCH_MAX_PIECES <= BATCH_MAX_RECORDS &&
           n_attributes <= BATCH_MAX_ATTRIBUTES);
    if (!screen_want(screen, record->body)) {
        status->n_filtered++;
        return 0;
    }
    r = add_attributes(batch, attributes, n_attributes);
    if (r)
        return pass(r);
    n_places = screen_redact(screen, record->body, &batch->text);
    if (n_places == 0)
        buf_append_span(&batch->text, record->body);
    if (buf_failed(&batch->text))
        return fault(-ENOMEM, "no memory for a record of logs");
    row.n_attributes = n_attributes;
    read_from_body(&row, span_of(batch->text.data + at, batch->text.len - at), clock_wall());
    for (unsigned n = 1; batch->text.len - at > max && n < BATCH_MAX_PIECES; n++) {
        const size_t cut = text_cut(span_of(batch->text.data + at, batch->text.len - at), max);

        take_record(batch, &row, at, at + cut);
        at += cut;
    }
    take_record(batch, &row, at, batch->text.len);
    status->n_redacted += n_places;
    return 0;
}

int batch_put(struct batch *batch, const struct spool_offset *offset)
{
    struct spool_logs logs = {
        .source = batch->source,
        .records = batch->records,
        .n_records = batch->n_records,
        .offsets = offset,
        .n_offsets = offset ? 1 : 0,
        .time = clock_wall(),
    };
    size_t at = 0;
    int r;

    for (size_t i = 0; i < batch->n_records; i++) {
        struct spool_log_record *record = &batch->records[i];

        record->body.data = batch->text.data + at;
        at += record->body.len;
        record->attributes = record->n_attributes ? batch->attributes + batch->firsts[i] : NULL;
    }
    ensure(at == batch->text.len || batch->n_records == 0);
    r = spool_put_logs(batch->logs->spool, &logs);
    if (r == SPOOL_FULL)
        return SPOOL_FULL;
    if (r)
        return fold(r);
    batch->logs->status.n_records += batch->n_records;
    batch->logs->status.n_bytes += at;
    if (batch->n_records > 0 && batch->logs->on_put)
        batch->logs->on_put(batch->logs->ctx);
    batch->n_records = batch->n_attributes = batch->attribute_bytes = 0;
    batch->last_text_bytes = at;
    buf_clear(&batch->text);
    return 0;
}
