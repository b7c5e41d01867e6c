/* SPDX-License-Identifier: Apache-2.0 */

/* What is of metrics in a batch: scrapes against the rules, then rows for the store. */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/ingest/stream.h"

static bool is_ascending(const uint32_t *places, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (places[i - 1] >= places[i])
            return false;
    }
    return true;
}

static int compare_places(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The absent places in order, in the stream's scratch where they are not. */
static int
sort_absent(struct ingest_stream *stream, const struct ingest_scrape *scrape, const uint32_t **ret)
{
    uint32_t *scratch = stream->loop.scratch;

    *ret = scrape->absent;
    if (is_ascending(scrape->absent, scrape->n_absent))
        return 0;
    if (scrape->n_absent > stream->loop.n_scratch) {
        scratch = realloc(scratch, scrape->n_absent * sizeof(*scratch));
        if (!scratch)
            return fault(-ENOMEM, "no memory for a scrape's absent places");
        stream->loop.scratch = scratch;
        stream->loop.n_scratch = scrape->n_absent;
    }
    memcpy(scratch, scrape->absent, scrape->n_absent * sizeof(*scratch));
    qsort(scratch, scrape->n_absent, sizeof(*scratch), compare_places);
    *ret = scratch;
    return 0;
}

static int check_absent(struct ingest_stream *stream,
                        const struct ingest_scrape *scrape,
                        size_t at,
                        struct ingest_problem *problem)
{
    const uint32_t *sorted;
    int r;

    if (scrape->n_absent == 0)
        return INGEST_OK;
    if (scrape->n_absent <= scrape->n_values) {
        r = sort_absent(stream, scrape, &sorted);
        if (r < 0)
            return pass(r);
        if (is_ascending(sorted, scrape->n_absent) &&
            sorted[scrape->n_absent - 1] < scrape->n_values)
            return INGEST_OK;
    }
    problem_field(problem, "batch.scrapes[%zu].absent", at);
    problem_say(problem, "positions in the layout, each at most once, all below %zu",
                scrape->n_values);
    return INGEST_BAD_BATCH;
}

static int check_scrape(struct ingest_stream *stream,
                        const struct ingest_scrape *scrape,
                        size_t at,
                        wall_us now,
                        struct ingest_problem *problem)
{
    const struct declared_layout *layout = declare_find_layout(stream, scrape->layout_id);
    int r;

    if (!layout) {
        problem_field(problem, "batch.scrapes[%zu].layout_id", at);
        problem_say(problem, "layout %u is not declared; declare it in this batch or before",
                    scrape->layout_id);
        return INGEST_BAD_BATCH;
    }
    if (scrape->n_values != layout->n_series) {
        problem_field(problem, "batch.scrapes[%zu].values", at);
        problem_say(problem,
                    "%zu values where layout %u has %u series; one for each, absent ones too",
                    scrape->n_values, layout->id, layout->n_series);
        return INGEST_BAD_BATCH;
    }
    r = batch_check_time(stream, scrape->time_us, now, problem);
    if (r == INGEST_OK)
        return check_absent(stream, scrape, at, problem);
    problem_field(problem, "batch.scrapes[%zu].time_unix_us", at);
    return r;
}

int metrics_check(struct ingest_stream *stream,
                  const struct ingest_batch *batch,
                  wall_us now,
                  struct ingest_problem *problem)
{
    const uint32_t limit = stream->loop.limits.batch_samples;
    size_t payload_bytes = 0, n_samples = 0;
    int r;

    for (size_t i = 0; i < batch->n_scrapes; i++) {
        const struct ingest_scrape *scrape = &batch->scrapes[i];

        n_samples += scrape->n_values;
        if (n_samples > limit) {
            problem->quota = "batch_samples";
            problem_field(problem, "batch.scrapes");
            problem_say(problem,
                        "more than %u values in a batch (batch_samples); send smaller batches",
                        limit);
            return INGEST_LIMIT;
        }
        r = check_scrape(stream, scrape, i, now, problem);
        if (r != INGEST_OK)
            return pass(r);
        payload_bytes += store_row_bytes((uint32_t) scrape->n_values, (uint32_t) scrape->n_absent);
    }
    stream->loop.payload_bytes = payload_bytes;
    return INGEST_OK;
}

int metrics_build(struct ingest_stream *stream,
                  const struct ingest_batch *batch,
                  struct store_batch *built)
{
    int r;

    for (size_t i = 0; i < batch->n_scrapes; i++) {
        const struct ingest_scrape *scrape = &batch->scrapes[i];
        const struct declared_layout *layout = declare_find_layout(stream, scrape->layout_id);
        struct store_row row = {
            .time_us = scrape->time_us,
            .layout = layout->layout,
            .n_values = (uint32_t) scrape->n_values,
            .values = scrape->values,
            .n_absent = (uint32_t) scrape->n_absent,
        };

        ensure(layout->layout != 0);
        if (scrape->n_absent > 0) {
            r = sort_absent(stream, scrape, &row.absent);
            if (r < 0)
                return pass(r);
        }
        store_batch_add(built, &row, layout->order);
    }
    return 0;
}
