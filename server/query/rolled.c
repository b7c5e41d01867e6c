/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Windows in the place of samples: which parts of the range, reading them, and folding both as one
 * row of windows.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fault.h"
#include "server/query/range.h"

#define READY_BYTES (UINT64_C(64) << 20)

static int64_t floor_to(int64_t value, int64_t unit)
{
    int64_t rest = value % unit;

    return value - (rest < 0 ? rest + unit : rest);
}

static int64_t ceil_to(int64_t value, int64_t unit)
{
    return floor_to(value + unit - 1, unit);
}

/* ---- parts ---- */

static void
add_segment(struct range *range, int64_t from_us, int64_t to_us, bool is_rolled, int64_t *at_us)
{
    struct segment segment = { from_us, to_us, is_rolled };

    if (from_us < to_us)
        buf_append(&range->segments, &segment, sizeof(segment));
    if (to_us > *at_us)
        *at_us = to_us;
}

/* Samples up to `to_us`; a window that they make is either before the range or in it. */
static void add_samples(struct range *range, int64_t to_us, int64_t *at_us)
{
    int64_t from_us = range->request->from_us;

    if (*at_us < from_us && from_us < to_us)
        add_segment(range, *at_us, from_us, false, at_us);
    if (*at_us < to_us)
        add_segment(range, *at_us, to_us, false, at_us);
}

/* Windows within [from_us, to_us); an end that cuts one takes it whole where is_..._old. */
static void add_windows(struct range *range,
                        struct store_stretch part,
                        bool is_from_old,
                        bool is_to_old,
                        int64_t *at_us)
{
    int64_t window_us = range->request->window_us;
    int64_t from_us =
        is_from_old ? floor_to(part.from_us, window_us) : ceil_to(part.from_us, window_us);
    int64_t to_us = is_to_old ? ceil_to(part.to_us, window_us) : floor_to(part.to_us, window_us);

    if (from_us >= to_us)
        return;
    add_samples(range, from_us, at_us);
    add_segment(range, from_us, to_us, true, at_us);
}

/* Before and behind the begin of the range: no window lies on both sides. */
static void add_ready(struct range *range, struct store_stretch ready, int64_t *at_us)
{
    int64_t middle_us = range->request->from_us, begin_us = range->reach.whole_us;
    struct store_stretch before = ready, in = ready;

    before.to_us = before.to_us < middle_us ? before.to_us : middle_us;
    in.from_us = in.from_us > middle_us ? in.from_us : middle_us;
    if (before.from_us < before.to_us)
        add_windows(range, before, before.from_us < begin_us, false, at_us);
    if (in.from_us < in.to_us)
        add_windows(range, in, in.from_us < begin_us, in.to_us <= begin_us, at_us);
}

/* Without the stretches whose windows are damaged and whose samples are there. */
static void add_undamaged(struct range *range, struct store_stretch ready, int64_t *at_us)
{
    const struct store_stretch *damaged = (const void *) range->damaged.data;
    size_t n = range->damaged.len / sizeof(*damaged);

    while (ready.from_us < ready.to_us) {
        struct store_stretch next = ready;
        int64_t behind_us = ready.to_us;

        for (size_t i = 0; i < n; i++) {
            if (damaged[i].to_us <= ready.from_us || damaged[i].from_us >= next.to_us ||
                damaged[i].from_us < range->reach.samples_us)
                continue;
            next.to_us = damaged[i].from_us > ready.from_us ? damaged[i].from_us : ready.from_us;
            behind_us = damaged[i].to_us;
        }
        if (next.from_us < next.to_us)
            add_ready(range, next, at_us);
        ready.from_us = behind_us;
    }
}

/* Whether windows stand for enough samples, by the layout with the most rows. */
static bool windows_pay(const struct range *range, const struct store_span *spans, size_t n_spans)
{
    double wanted = (double) range->query->window_samples;
    bool pays = false;

    for (size_t i = 0; i < n_spans && !pays; i++) {
        double first_us =
            (double) (spans[i].first_us > range->reach.whole_us ? spans[i].first_us
                                                                : range->reach.whole_us);
        double n_windows =
            ((double) spans[i].last_us - first_us) / (double) range->request->window_us;

        pays = spans[i].n_rows > 0 && (double) spans[i].n_rows >= wanted * n_windows;
    }
    return pays;
}

int rolled_segments(struct range *range,
                    int64_t from_us,
                    const struct store_span *spans,
                    size_t n_spans)
{
    CLEANUP(arena_deinit) struct arena arena;
    struct store_stretch all = { from_us, range->request->to_us }, *ready = NULL;
    bool pays = range->request->window_us && windows_pay(range, spans, n_spans);
    int64_t at_us = from_us;
    size_t n_ready = 0;
    int r = 0;

    arena_init(&arena, READY_BYTES);
    buf_clear(&range->segments);
    if (range->request->window_us && (pays || from_us < range->reach.whole_us))
        r = store_windows_ready(range->query->store, range->agent->number,
                                range->request->window_us, all, &arena, &ready, &n_ready);
    if (r)
        return pass(r);
    for (size_t i = 0; i < n_ready; i++) {
        if (!pays && ready[i].to_us > range->reach.whole_us)
            ready[i].to_us = range->reach.whole_us;
        add_undamaged(range, ready[i], &at_us);
    }
    add_samples(range, all.to_us, &at_us);
    return buf_failed(&range->segments) ? fault(-ENOMEM, "parts of a range") : 0;
}

/* ---- reading ---- */

static bool windows_reserve(struct gather *gather, size_t n_more)
{
    size_t capacity = gather->window_capacity ? gather->window_capacity : 64;
    struct store_window *windows;

    if (n_more <= gather->window_capacity - gather->n_windows)
        return true;
    while (capacity < gather->n_windows + n_more)
        capacity *= 2;
    windows = reallocarray(gather->windows, capacity, sizeof(*windows));
    if (!windows)
        return false;
    gather->windows = windows;
    gather->window_capacity = capacity;
    return true;
}

/* False: stop. A window is as large as some samples. */
static bool on_windows(void *ctx, size_t i, const struct store_window *windows, size_t n)
{
    struct range *range = ctx;
    struct gather *gather = source_gather_of(range, range->places[i]);

    range->request->n_samples_read += n;
    range->n_rolled += n;
    range->n_gathered += n * (sizeof(*windows) / sizeof(double) / 2);
    range->is_too_much = range->request->n_samples_read > range->query->max_samples ||
                         range->n_gathered > RANGE_MAX_GATHERED;
    if (range->is_too_much)
        return false;
    if (!gather || !windows_reserve(gather, n)) {
        range->is_out_of_memory = true;
        return false;
    }
    if (gather->n_windows > 0 &&
        gather->windows[gather->n_windows - 1].begin_us >= windows[0].begin_us)
        gather->are_windows_unsorted = true;
    memcpy(&gather->windows[gather->n_windows], windows, n * sizeof(*windows));
    gather->n_windows += n;
    return true;
}

static void on_damage(void *ctx, int64_t from_us, int64_t to_us)
{
    struct range *range = ctx;
    struct store_stretch stretch = { from_us, to_us };

    buf_append(&range->damaged, &stretch, sizeof(stretch));
    range->is_out_of_memory = range->is_out_of_memory || buf_failed(&range->damaged);
}

static unsigned parts_for(enum query_aggregation aggregation)
{
    static const unsigned parts[] = {
        [QUERY_AVG] = STORE_WINDOW_SUM | STORE_WINDOW_COUNT,
        [QUERY_MIN] = STORE_WINDOW_MIN,
        [QUERY_MAX] = STORE_WINDOW_MAX,
        [QUERY_SUM] = STORE_WINDOW_SUM,
        [QUERY_COUNT] = STORE_WINDOW_COUNT,
        [QUERY_LAST] = STORE_WINDOW_LAST,
        [QUERY_RATE] = STORE_WINDOW_GROWTH,
        [QUERY_INCREASE] = STORE_WINDOW_GROWTH,
        [QUERY_QUANTILE] = 0,
    };

    return parts[aggregation];
}

int rolled_read(struct range *range, const struct segment *segment)
{
    const struct store_windows scan = {
        .agent = range->agent->number,
        .layout = range->layout,
        .window_us = range->request->window_us,
        .from_us = segment->from_us,
        .to_us = segment->to_us,
        .columns = range->columns,
        .n_columns = range->n_columns,
        .parts = parts_for(range->request->aggregation),
        .on_windows = on_windows,
        .on_damage = on_damage,
        .ctx = range,
    };

    return fold(store_windows(range->query->store, &scan));
}

/* ---- folding ---- */

static int by_begin(const void *a, const void *b)
{
    const struct store_window *x = a, *y = b;

    return (x->begin_us > y->begin_us) - (x->begin_us < y->begin_us);
}

/* Windows of several layouts in order, those of one time as one. */
static void sort_windows(struct gather *gather)
{
    size_t n = 0;

    if (!gather->are_windows_unsorted)
        return;
    qsort(gather->windows, gather->n_windows, sizeof(*gather->windows), by_begin);
    for (size_t i = 0; i < gather->n_windows; i++) {
        if (n > 0 && gather->windows[n - 1].begin_us == gather->windows[i].begin_us)
            store_window_overlay(&gather->windows[n - 1], &gather->windows[i]);
        else
            gather->windows[n++] = gather->windows[i];
    }
    gather->n_windows = n;
}

static int reserve(struct range *range, size_t n)
{
    struct store_window *windows;

    if (n <= range->scratch.window_capacity)
        return 0;
    windows = reallocarray(range->scratch.windows, n, sizeof(*windows));
    if (!windows)
        return fault(-ENOMEM, "windows");
    range->scratch.windows = windows;
    range->scratch.window_capacity = n;
    return 0;
}

/* All parts as one row of windows; how many. */
static size_t lay_out(struct range *range, const struct gather *gather)
{
    const struct segment *segments = (const void *) range->segments.data;
    size_t n_segments = range->segments.len / sizeof(*segments);
    size_t n = 0, sample = 0, window = 0;
    struct store_window *to = range->scratch.windows;

    for (size_t i = 0; i < n_segments; i++) {
        const struct segment *s = &segments[i];
        struct fold_samples samples;
        size_t first = sample;

        for (; s->is_rolled && window < gather->n_windows &&
               gather->windows[window].begin_us < s->to_us;
             window++) {
            to[n] = gather->windows[window];
            /* One that the begin of the range cuts, and no samples for less than all of it. */
            if (s->to_us > range->grid.from_us && to[n].begin_us < range->grid.from_us)
                to[n].begin_us = range->grid.from_us;
            n++;
        }
        if (s->is_rolled)
            continue;
        while (sample < gather->n_samples && gather->times_us[sample] < s->to_us)
            sample++;
        samples = (struct fold_samples){ gather->times_us + first, gather->values + first,
                                         sample - first };
        if (samples.n_samples)
            n += fold_make_windows(&samples, range->request->window_us, s->from_us, s->to_us,
                                   range->request->kind == STORE_COUNTER, &to[n]);
    }
    return n;
}

int rolled_fold(struct range *range, struct gather *gather, int64_t from_us)
{
    size_t n, first = 0;
    int r = reserve(range, gather->n_windows + gather->n_samples);

    if (r)
        return pass(r);
    sort_windows(gather);
    n = lay_out(range, gather);
    /* Too far away for the first delta, as it would be among samples. */
    while (first < n && range->scratch.windows[first].begin_us < range->grid.from_us &&
           range->scratch.windows[first].last_us < from_us)
        first++;
    fold_windows(range->scratch.windows + first, n - first, &range->grid,
                 range->request->aggregation, range->request->kind == STORE_COUNTER,
                 range->scratch.to, range->scratch.is_present);
    return 0;
}
