/* SPDX-License-Identifier: Apache-2.0 */

/* Samples of an hour into windows. Pure. */

#include "server/store/days/scan.h"
#include "server/store/rollup/rollup.h"

static size_t first_at_or_after(const struct rows *rows, int64_t time_us)
{
    size_t low = 0, high = rows->n_rows;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (rows->times_us[middle] < time_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void row_add(struct roll_row *row, int64_t begin_us, int64_t time_us)
{
    if (row->n_rows++ == 0) {
        row->begin_us = begin_us;
        row->first_us = time_us;
    }
    row->last_us = time_us;
}

void roll_rows(const struct rows *rows,
               int64_t hour_us,
               struct roll_sheet *minutes,
               struct roll_row *ret_hour)
{
    *ret_hour = (struct roll_row){ 0 };
    minutes->n_rows = ROLL_WINDOWS_MAX;
    for (size_t i = first_at_or_after(rows, hour_us);
         i < rows->n_rows && rows->times_us[i] < hour_us + STORE_HOUR_US; i++) {
        int64_t minute = (rows->times_us[i] - hour_us) / STORE_MINUTE_US;

        row_add(&minutes->rows[minute], hour_us + minute * STORE_MINUTE_US, rows->times_us[i]);
        row_add(ret_hour, hour_us, rows->times_us[i]);
    }
}

/* ---- a series ---- */

/* The newest sample, of whichever source. */
struct walk {
    const struct roll_series *series;
    bool has_last;
    int64_t last_us;
    double last;
};

/* The source with the next row; n_sources: none. Of equal times the first one's comes first. */
static size_t next_source(const struct walk *walk)
{
    const struct roll_series *series = walk->series;
    size_t best = series->n_sources;
    int64_t best_us = series->hour_us + STORE_HOUR_US;

    for (size_t s = 0; s < series->n_sources; s++) {
        const struct roll_source *source = &series->sources[s];
        const struct rows *rows = source->rows;

        if (source->next < rows->n_rows && rows->times_us[source->next] < best_us) {
            best = s;
            best_us = rows->times_us[source->next];
        }
    }
    return best;
}

/* A sample of the first source, into the window that it belongs to. */
static void
window_take(const struct walk *walk, struct store_window *window, int64_t time_us, double value)
{
    double growth = walk->has_last ? store_growth(walk->last, value, walk->series->is_counter) : 0;

    if (window->n_samples) {
        double before = window->increase;

        store_window_add(window, time_us, value, walk->series->is_counter);
        window->increase = before + growth; /* the sample before may be of another source */
        return;
    }
    store_window_begin(window, window->begin_us, time_us, value);
    if (walk->has_last) {
        window->is_chained = true;
        window->base = walk->last;
        window->base_us = walk->last_us;
        window->increase = growth;
    }
}

static void take_sample(const struct walk *walk, int64_t time_us, double value)
{
    const struct roll_series *series = walk->series;
    int64_t minute = (time_us - series->hour_us) / STORE_MINUTE_US;
    struct store_window *window = roll_at(series->minutes, (size_t) minute, series->column);
    bool is_far = walk->has_last && time_us - walk->last_us > STORE_CHAIN_US;
    struct walk alone = { .series = series };

    window->begin_us = series->hour_us + minute * STORE_MINUTE_US;
    window_take(window->n_samples == 0 && (is_far || series->is_late) ? &alone : walk, window,
                time_us, value);
    window = roll_at(series->hours, series->hour, series->column);
    window->begin_us = series->hour_us;
    window_take(window->n_samples == 0 && series->is_late ? &alone : walk, window, time_us, value);
}

void roll_series(const struct roll_series *series)
{
    struct walk walk = { .series = series };
    size_t s;

    for (s = 0; s < series->n_sources; s++)
        series->sources[s].next = first_at_or_after(series->sources[s].rows, series->hour_us);
    while ((s = next_source(&walk)) < series->n_sources) {
        struct roll_source *source = &series->sources[s];
        size_t row = source->next++;
        int64_t time_us = source->rows->times_us[row];
        double value = rows_column(source->rows, source->column)[row];

        if (source->rows->has_marks[source->column] &&
            codec_marked(rows_marks(source->rows, source->column), row))
            continue;
        if (s == 0)
            take_sample(&walk, time_us, value);
        walk.has_last = true;
        walk.last_us = time_us;
        walk.last = value;
    }
}
