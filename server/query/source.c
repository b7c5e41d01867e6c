/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where samples come from: the pieces of a scan, columns of rows in time order.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/query/range.h"

/* What the spans of one agent may take. */
#define SPANS_BYTES (UINT64_C(64) << 20)
/* Room for samples that is kept from one agent to the next. */
#define MAX_KEPT (UINT64_C(1) << 20)

/* ---- gathering ---- */

static bool gather_reserve(struct range *range, struct gather *gather, size_t n_more)
{
    size_t capacity = gather->capacity ? gather->capacity : 64;
    int64_t *times_us;
    double *values;

    if (n_more <= gather->capacity - gather->n_samples)
        return true;
    while (capacity < gather->n_samples + n_more)
        capacity *= 2;
    times_us = reallocarray(gather->times_us, capacity, sizeof(*times_us));
    if (times_us)
        gather->times_us = times_us;
    values = reallocarray(gather->values, capacity, sizeof(*values));
    if (values)
        gather->values = values;
    if (!times_us || !values)
        return false;
    range->n_kept += capacity - gather->capacity;
    gather->capacity = capacity;
    return true;
}

struct gather *source_gather_of(struct range *range, size_t wanted)
{
    struct gather *gather;

    if (range->gather_of[wanted] != 0)
        return &range->gathers[range->gather_of[wanted] - 1];
    if (range->n_gathers == range->gather_capacity) {
        size_t capacity = range->gather_capacity ? 2 * range->gather_capacity : 64;
        struct gather *grown = reallocarray(range->gathers, capacity, sizeof(*grown));

        if (!grown)
            return NULL;
        memset(grown + range->gather_capacity, 0,
               (capacity - range->gather_capacity) * sizeof(*grown));
        range->gathers = grown;
        range->gather_capacity = capacity;
    }
    gather = &range->gathers[range->n_gathers++];
    range->gather_of[wanted] = (uint32_t) range->n_gathers;
    gather->wanted = wanted;
    gather->n_samples = gather->n_windows = 0;
    gather->is_unsorted = gather->are_windows_unsorted = false;
    return gather;
}

/* Where the column's samples begin: at the last one before the range, else at `inside`. */
static size_t begin_of(const struct store_piece *piece, size_t column, size_t inside)
{
    for (size_t row = inside; row-- > piece->first;)
        if (store_piece_has(piece, column, row))
            return row;
    return inside;
}

static bool
gather_column(struct range *range, const struct store_piece *piece, size_t column, size_t inside)
{
    struct gather *gather = source_gather_of(range, range->places[column]);
    const size_t begin = begin_of(piece, column, inside);
    size_t n, before;

    if (!gather || !gather_reserve(range, gather, piece->end - begin))
        return false;
    before = n = gather->n_samples;
    if (!piece->absent[column]) {
        memcpy(gather->times_us + n, piece->times_us + begin,
               (piece->end - begin) * sizeof(int64_t));
        memcpy(gather->values + n, piece->values[column] + begin,
               (piece->end - begin) * sizeof(double));
        n += piece->end - begin;
    }
    for (size_t row = begin; piece->absent[column] && row < piece->end; row++) {
        if (!store_piece_has(piece, column, row))
            continue;
        gather->times_us[n] = piece->times_us[row];
        gather->values[n++] = piece->values[column][row];
    }
    if (before > 0 && n > before && gather->times_us[before] < gather->times_us[before - 1])
        gather->is_unsorted = true;
    gather->n_samples = n;
    range->n_gathered += n - before;
    return true;
}

/* The first row at or behind the range's begin. */
static size_t first_inside(const struct store_piece *piece, int64_t from_us)
{
    size_t low = piece->first, high = piece->end;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (piece->times_us[middle] < from_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* False: stop. */
static bool on_piece(void *ctx, const struct store_piece *piece)
{
    struct range *range = ctx;
    const size_t inside = first_inside(piece, range->request->from_us);

    range->request->n_samples_read += (piece->end - piece->first) * range->n_columns;
    range->is_too_much = range->request->n_samples_read > range->query->max_samples;
    for (size_t i = 0; i < range->n_columns && !range->is_too_much; i++) {
        range->is_out_of_memory = !gather_column(range, piece, i, inside);
        range->is_too_much = range->n_gathered > RANGE_MAX_GATHERED;
        if (range->is_out_of_memory)
            return false;
    }
    return !range->is_too_much;
}

static int read_rows(struct range *range, int64_t from_us, int64_t to_us)
{
    struct store_scan scan = {
        .agent = range->agent->number,
        .layout = range->layout,
        .from_us = from_us,
        .to_us = to_us,
        .columns = range->columns,
        .n_columns = range->n_columns,
        .on_piece = on_piece,
        .ctx = range,
    };

    return fold(store_scan(range->query->store, &scan));
}

/* ---- an agent ---- */

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    return (x > y) - (x < y);
}

static int reserve_columns(struct range *range, size_t n)
{
    uint32_t *columns;
    size_t *places;

    if (n <= range->column_capacity)
        return 0;
    columns = reallocarray(range->columns, n, sizeof(*columns));
    if (columns)
        range->columns = columns;
    places = reallocarray(range->places, n, sizeof(*places));
    if (places)
        range->places = places;
    if (!columns || !places)
        return fault(-ENOMEM, "columns");
    range->column_capacity = n;
    return 0;
}

/* Where the wanted definitions are in a layout; both are ascending. The shorter list is walked: a
 * metric can have a million series, a layout of one agent rarely a hundred. Agents of a kind share
 * their layout, so the newest one's columns are kept. */
static int find_columns(struct range *range, uint32_t layout_id)
{
    const struct store_layout *layout;
    const uint32_t *few, *many;
    size_t n_few, n_many;
    bool is_by_wanted;
    int r;

    if (range->layout == layout_id)
        return 0;
    layout = store_layout_get(range->query->store, layout_id);
    ensure(layout);
    is_by_wanted = range->n_wanted <= layout->n_columns;
    few = is_by_wanted ? range->wanted : layout->definitions;
    many = is_by_wanted ? layout->definitions : range->wanted;
    n_few = is_by_wanted ? range->n_wanted : layout->n_columns;
    n_many = is_by_wanted ? layout->n_columns : range->n_wanted;
    r = reserve_columns(range, n_few);
    if (r)
        return pass(r);
    range->n_columns = 0;
    for (size_t i = 0; i < n_few; i++) {
        const uint32_t *at = bsearch(&few[i], many, n_many, sizeof(*many), by_u32);

        if (!at)
            continue;
        const size_t there = (size_t) (at - many);
        range->columns[range->n_columns] = (uint32_t) (is_by_wanted ? there : i);
        range->places[range->n_columns++] = is_by_wanted ? i : there;
    }
    range->layout = layout_id;
    return 0;
}

static int refuse_samples(struct range *range)
{
    if (range->n_gathered > RANGE_MAX_GATHERED)
        return query_refuse(range->problem, QUERY_TOO_MUCH, "range",
                            "agent `%.64s` alone has more than %llu samples of `%.64s` in it: a "
                            "shorter range or an attribute",
                            range_agent_name(range), (unsigned long long) RANGE_MAX_GATHERED,
                            range->request->name);
    return query_refuse(range->problem, QUERY_TOO_MUCH, "range",
                        "more than %llu samples of `%.64s` to read, reached at agent `%.64s`: a "
                        "shorter range, fewer agents or an attribute",
                        (unsigned long long) range->query->max_samples, range->request->name,
                        range_agent_name(range));
}

/* One layout, part by part; parts of samples that touch are one scan. */
static int read_segments(struct range *range)
{
    const struct segment *segments = (const void *) range->segments.data;
    size_t n = range->segments.len / sizeof(*segments);
    int r = 0;

    for (size_t i = 0, end; i < n && !r && !range->is_too_much && !range->is_out_of_memory;
         i = end) {
        end = i + 1;
        if (segments[i].is_rolled) {
            r = rolled_read(range, &segments[i]);
            continue;
        }
        while (end < n && !segments[end].is_rolled)
            end++;
        r = read_rows(range, segments[i].from_us, segments[end - 1].to_us);
    }
    return pass(r);
}

static int
read_spans(struct range *range, int64_t from_us, const struct store_span *spans, size_t n_spans)
{
    int r = 0;

    for (size_t i = 0; !r && i < n_spans; i++) {
        if (spans[i].last_us < from_us || spans[i].first_us >= range->request->to_us)
            continue;
        r = find_columns(range, spans[i].layout);
        if (!r && range->n_columns > 0)
            r = read_segments(range);
        if (!r && range->is_out_of_memory)
            r = fault(-ENOMEM, "samples");
        if (!r && range->is_too_much)
            return refuse_samples(range);
    }
    return pass(r);
}

int source_gather(struct range *range, int64_t from_us)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct store_span *spans;
    size_t n_spans;
    int r;

    arena_init(&arena, SPANS_BYTES);
    buf_clear(&range->damaged);
    r = store_spans(range->query->store, range->agent->number, &arena, &spans, &n_spans);
    if (!r)
        r = rolled_segments(range, from_us, spans, n_spans);
    if (!r)
        r = read_spans(range, from_us, spans, n_spans);
    if (r || range->damaged.len == 0)
        return pass(r);
    /* Once more, with samples where windows cannot be read and samples are there. */
    source_reset(range);
    r = rolled_segments(range, from_us, spans, n_spans);
    return r ? pass(r) : pass(read_spans(range, from_us, spans, n_spans));
}

void source_reset(struct range *range)
{
    for (size_t i = 0; i < range->n_gathers; i++)
        range->gather_of[range->gathers[i].wanted] = 0;
    for (size_t i = 0; range->n_kept > MAX_KEPT && i < range->gather_capacity; i++) {
        struct gather *gather = &range->gathers[i];

        range->n_kept -= gather->capacity;
        free(gather->times_us);
        free(gather->values);
        free(gather->windows);
        *gather = (struct gather){ 0 };
    }
    range->n_gathers = 0;
    range->n_gathered = 0;
}

void source_deinit(struct range *range)
{
    for (size_t i = 0; i < range->gather_capacity; i++) {
        free(range->gathers[i].times_us);
        free(range->gathers[i].values);
        free(range->gathers[i].windows);
    }
    free(range->gathers);
    free(range->gather_of);
    free(range->columns);
    free(range->places);
}
