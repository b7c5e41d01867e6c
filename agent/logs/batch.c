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
#define ARENA_BYTES ((size_t) 1 << 20)

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
    batch->n_records = batch->n_attributes = 0;
    arena_reset(&batch->arena, ARENA_BYTES);
    /* A long record needs no room for ever. */
    if (batch->text.capacity > 2 * BATCH_MAX_BYTES)
        buf_deinit(&batch->text);
    buf_clear(&batch->text);
}

struct span batch_keep(struct batch *batch, struct span value)
{
    return span_of(arena_copy(&batch->arena, value), value.len);
}

bool batch_is_full(const struct batch *batch)
{
    return batch->n_records == BATCH_MAX_RECORDS || batch->text.len >= BATCH_MAX_BYTES;
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
    for (size_t i = 0; i < n; i++)
        batch->attributes[batch->n_attributes++] = attributes[i];
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

int batch_add(struct batch *batch,
              const struct spool_log_record *record,
              const struct spool_log_attribute *attributes,
              size_t n_attributes)
{
    struct logs_status *status = &batch->logs->status;
    const struct screen *screen = batch->logs->plan->screen;
    struct spool_log_record *to = &batch->records[batch->n_records];
    const size_t at = batch->text.len;
    size_t n_places;
    int r;

    ensure(batch->n_records < BATCH_MAX_RECORDS && n_attributes <= BATCH_MAX_ATTRIBUTES);
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
    *to = *record;
    /* The place moves while the text grows: as a number until it is put. */
    to->body = span_of(NULL, batch->text.len - at);
    to->is_raw = !text_is_utf8(batch->text.data + at, batch->text.len - at);
    read_from_body(to, span_of(batch->text.data + at, batch->text.len - at), clock_wall());
    batch->firsts[batch->n_records] = batch->n_attributes - n_attributes;
    to->n_attributes = n_attributes;
    batch->n_records++;
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
    batch->n_records = batch->n_attributes = 0;
    buf_clear(&batch->text);
    return 0;
}
