/* SPDX-License-Identifier: Apache-2.0 */
#include "server/front/metrics.h"

/* NULL also where there are none: then nobody looks. */
static void *rows(struct arena *arena, size_t n, size_t bytes, bool *is_short)
{
    void *p;

    if (n == 0)
        return NULL;
    p = arena_alloc_array(arena, n, bytes);
    *is_short = *is_short || !p;
    return p;
}

static const struct store_attribute *
attributes_of(const Sentinel__Telemetry__V1__Series *series, struct arena *arena, bool *is_short)
{
    struct store_attribute *to = rows(arena, series->n_attributes, sizeof(*to), is_short);

    for (size_t i = 0; to && i < series->n_attributes; i++) {
        to[i].key = series->attributes[i]->key;
        to[i].value = series->attributes[i]->value;
    }
    return to;
}

static bool declarations_of(const Sentinel__Telemetry__V1__MetricBatch *message,
                            struct arena *arena,
                            struct ingest_batch *ret)
{
    bool is_short = false;
    struct ingest_series *series = rows(arena, message->n_series, sizeof(*series), &is_short);
    struct ingest_layout *layouts = rows(arena, message->n_layouts, sizeof(*layouts), &is_short);

    for (size_t i = 0; !is_short && i < message->n_series; i++) {
        const Sentinel__Telemetry__V1__Series *from = message->series[i];

        series[i] = (struct ingest_series){
            .id = from->id,
            .name = from->name,
            .unit = from->unit,
            .kind = (int) from->kind,
            .attributes = attributes_of(from, arena, &is_short),
            .n_attributes = from->n_attributes,
        };
    }
    for (size_t i = 0; !is_short && i < message->n_layouts; i++) {
        layouts[i] = (struct ingest_layout){
            .id = message->layouts[i]->id,
            .series_ids = message->layouts[i]->series_ids,
            .n_series = message->layouts[i]->n_series_ids,
        };
    }
    ret->series = series;
    ret->n_series = message->n_series;
    ret->layouts = layouts;
    ret->n_layouts = message->n_layouts;
    return !is_short;
}

static bool scrapes_of(const Sentinel__Telemetry__V1__MetricBatch *message,
                       struct arena *arena,
                       struct ingest_batch *ret)
{
    bool is_short = false;
    struct ingest_scrape *scrapes = rows(arena, message->n_scrapes, sizeof(*scrapes), &is_short);

    if (is_short)
        return false;
    for (size_t i = 0; i < message->n_scrapes; i++) {
        const Sentinel__Telemetry__V1__Scrape *from = message->scrapes[i];

        scrapes[i] = (struct ingest_scrape){
            .time_us = from->time_unix_us,
            .layout_id = from->layout_id,
            .values = from->values,
            .n_values = from->n_values,
            .absent = from->absent,
            .n_absent = from->n_absent,
        };
    }
    ret->scrapes = scrapes;
    ret->n_scrapes = message->n_scrapes;
    return true;
}

bool metrics_batch(const Sentinel__Telemetry__V1__StreamMetricsRequest *request,
                   struct arena *arena,
                   struct ingest_batch *ret)
{
    if (request->message_case == SENTINEL__TELEMETRY__V1__STREAM_METRICS_REQUEST__MESSAGE_SKIP) {
        *ret = (struct ingest_batch){
            .sequence = request->skip->through_sequence,
            .is_skip = true,
            .skip_reason = (uint32_t) request->skip->reason,
            .skip_records = request->skip->records,
        };
        return true;
    }
    *ret = (struct ingest_batch){ .sequence = request->batch->sequence };
    return declarations_of(request->batch, arena, ret) && scrapes_of(request->batch, arena, ret);
}
