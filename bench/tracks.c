/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "bench/mix.h"
#include "bench/replay.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

#define ARENA_BYTES (UINT64_C(8) << 30)
/* Beyond this a double does not hold every integer; room for offset and scale is left. */
#define MAX_INTEGER 4503599627370496.0 /* 2^52 */
#define PAGE_BYTES 4096
/* One agent of so many is idle. */
#define IDLE_SHARE 4u

/* ---- making ---- */

static bool are_integers(const double *values, uint32_t n, double times)
{
    for (uint32_t i = 0; i < n; i++) {
        const double whole = round(values[i] * times);

        if (!(fabs(whole) < MAX_INTEGER / 4) || whole / times != values[i])
            return false;
    }
    return true;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* Of all values as integers; 1 when all are 0. One value alone would be its own unit: that of
 * memory at most. */
static double find_unit(const double *values, uint32_t n, double times)
{
    uint64_t unit = 0;
    bool is_constant = true;

    for (uint32_t i = 0; i < n && unit != 1; i++) {
        unit = common_divisor(unit, (uint64_t) fabs(round(values[i] * times)));
        is_constant = is_constant && values[i] == values[0];
    }
    if (is_constant)
        return unit != 0 && unit % PAGE_BYTES == 0 ? PAGE_BYTES : 1;
    return unit == 0 ? 1 : (double) unit;
}

/* The shape is that of the whole recording, on every track. */
static void find_shape(const struct replay_series *series, uint32_t n_rows, struct track_column *to)
{
    static const double powers[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6 };

    *to = (struct track_column){ .unit = 1, .divisor = 1, .is_counter = series->is_counter };
    for (size_t i = 0; i < sizeof(powers) / sizeof(powers[0]) && !to->is_scaled; i++) {
        if (!are_integers(series->values, n_rows, powers[i]))
            continue;
        to->is_scaled = true;
        to->divisor = powers[i];
        to->unit = find_unit(series->values, n_rows, powers[i]);
    }
}

static double cell_of(const struct track_column *column, double value)
{
    return column->is_scaled ? round(value * column->divisor) / column->unit : value;
}

/*
 * One column of a track from the rows that `keeps` names. Where rows are left out, a counter goes
 * on as if the time between had not been.
 */
static void fill_column(const struct replay *replay,
                        const bool *keeps,
                        uint32_t at,
                        struct track *track,
                        uint32_t n_columns)
{
    const struct replay_series *series = &replay->series[at];
    struct track_column *column = &track->columns[at];
    double first = 0, last = 0, skipped = 0;
    uint32_t row = 0;
    bool has_fallen = false;

    find_shape(series, replay->n_rows, column);
    column->is_constant = true;
    for (uint32_t i = 0; i < replay->n_rows; i++) {
        double cell = cell_of(column, series->values[i]);

        if (!keeps[i])
            continue;
        if (column->is_counter && row > 0 && !keeps[i - 1])
            skipped = cell - last;
        cell -= skipped;
        has_fallen = has_fallen || (row > 0 && cell < last);
        first = row == 0 ? cell : first;
        last = cell;
        column->is_constant = column->is_constant && cell == first;
        column->greatest = fmax(column->greatest, fabs(cell));
        track->cells[(size_t) row++ * n_columns + at] = cell;
    }
    /* From the last row to the first of the next lap it grows as it does from row to row. */
    if (column->is_counter && !has_fallen && row > 1)
        column->span = last - first + floor((last - first) / (row - 1));
}

static int fill_track(struct tracks *tracks,
                      struct track *track,
                      const struct replay *replay,
                      const bool *keeps)
{
    track->n_rows = 0;
    for (uint32_t i = 0; i < replay->n_rows; i++)
        track->n_rows += keeps[i];
    track->columns = arena_alloc_array(&tracks->arena, tracks->n_columns, sizeof(*track->columns));
    track->cells = arena_alloc_array(&tracks->arena, (size_t) tracks->n_columns * track->n_rows,
                                     sizeof(*track->cells));
    if (!track->columns || !track->cells)
        return fault(-ENOMEM, "no memory for a recording of %u series", tracks->n_columns);
    for (uint32_t i = 0; i < tracks->n_columns; i++)
        fill_column(replay, keeps, i, track, tracks->n_columns);
    return 0;
}

int tracks_init(struct tracks *tracks, const struct replay *replay)
{
    uint32_t n_idle = 0;
    bool *keeps;
    int r;

    ensure(replay->n_rows >= 2 && replay->n_series > 0);
    *tracks = (struct tracks){ .n_columns = replay->n_series };
    arena_init(&tracks->arena, ARENA_BYTES);
    keeps = arena_alloc_array(&tracks->arena, replay->n_rows, sizeof(*keeps));
    if (!keeps)
        return fault(-ENOMEM, "no memory for a recording");
    memset(keeps, true, replay->n_rows);
    r = fill_track(tracks, &tracks->tracks[TRACK_WHOLE], replay, keeps);
    for (uint32_t i = 0; i < replay->n_rows; i++)
        n_idle += keeps[i] = replay->phases[i] == REPLAY_IDLE;
    if (n_idle < 2)
        tracks->tracks[TRACK_IDLE] = tracks->tracks[TRACK_WHOLE];
    else if (r == 0)
        r = fill_track(tracks, &tracks->tracks[TRACK_IDLE], replay, keeps);
    return pass(r);
}

void tracks_deinit(struct tracks *tracks)
{
    arena_deinit(&tracks->arena);
    *tracks = (struct tracks){ 0 };
}

/* ---- walking ---- */

bool tracks_agent_is_idle(uint32_t agent)
{
    return agent % IDLE_SHARE == IDLE_SHARE - 1;
}

static const struct track *track_of(const struct tracks *tracks, uint32_t agent)
{
    return &tracks->tracks[tracks_agent_is_idle(agent) ? TRACK_IDLE : TRACK_WHOLE];
}

/* Where a copy of all columns is at a scrape. */
struct place {
    const double *cells; /* of the row */
    double lap;
};

static struct place
place_of(const struct tracks *tracks, uint32_t agent, uint32_t copy, uint64_t scrape)
{
    const struct track *track = track_of(tracks, agent);
    const uint64_t at = scrape + mix_below(mix_pair(agent, ~copy), track->n_rows);
    const uint64_t lap = at / track->n_rows;

    return (struct place){ .cells =
                               track->cells + (size_t) (at % track->n_rows) * tracks->n_columns,
                           .lap = (double) lap };
}

static double value_at(const struct track_column *column,
                       double cell,
                       double lap,
                       uint32_t agent,
                       uint32_t series)
{
    /* 0 .. 1, of 2^32 steps */
    const double part = (double) (mix_pair(agent, series) >> 32) / 4294967296.0;

    if (column->is_counter)
        cell += floor(part * column->greatest) + lap * column->span;
    else if (column->is_scaled)
        cell = floor(cell * (0.9 + part / 5) + 0.5);
    else
        cell *= 0.9 + part / 5;
    return cell * column->unit / column->divisor;
}

double tracks_value(const struct tracks *tracks, uint32_t agent, uint32_t series, uint64_t scrape)
{
    const uint32_t column = series % tracks->n_columns;
    const struct place place = place_of(tracks, agent, series / tracks->n_columns, scrape);

    return value_at(&track_of(tracks, agent)->columns[column], place.cells[column], place.lap,
                    agent, series);
}

static void put_double(uint8_t *to, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t) (bits >> (8 * i));
}

void tracks_put(const struct tracks *tracks,
                uint32_t agent,
                uint64_t scrape,
                uint32_t n_series,
                bool only_varying,
                uint8_t *to)
{
    const struct track *track = track_of(tracks, agent);

    for (uint32_t series = 0; series < n_series;) {
        const struct place place = place_of(tracks, agent, series / tracks->n_columns, scrape);

        for (uint32_t at = 0; at < tracks->n_columns && series < n_series; at++, series++)
            if (!only_varying || !track->columns[at].is_constant)
                put_double(to + (size_t) series * 8, value_at(&track->columns[at], place.cells[at],
                                                              place.lap, agent, series));
    }
}

bool tracks_is_integer(const struct tracks *tracks, uint32_t series)
{
    const struct track_column *column =
        &tracks->tracks[TRACK_WHOLE].columns[series % tracks->n_columns];

    return column->is_scaled && column->divisor == 1;
}
