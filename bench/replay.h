#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Replay: what a machine's metrics really were, second by second, in a file; and the fleet that is
 * made of it.
 *
 * A recording (replay.c) is a matrix: a row for each instant, a column for each series, and for
 * each row the phase of the scripted load. Tracks (tracks.c) are the same numbers as many agents
 * may send them: integers of a unit where the column allows it, so that a copy which is scaled or
 * shifted has the decimals and the granularity of the original.
 *
 *   agent       three of four walk the whole recording, the fourth only its idle phases
 *   scrape      the next recorded row; at the end from the beginning, and counters go on
 *   start       differs between agents, and between the copies of a column within an agent
 *   counters    plus an offset below their own size
 *   gauges      times 0.9 .. 1.1
 *
 * All of it is a pure function of agent, series and scrape: nothing is kept to check it later.
 *
 * Threads: none while it is made; then any, as nothing changes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"

#define REPLAY_MAX_SERIES 4096u
#define REPLAY_MAX_ROWS 1000000u
#define REPLAY_MAX_ATTRIBUTES 30u /* two more are added to tell copies and runs apart */

enum replay_phase { REPLAY_IDLE, REPLAY_BUSY, REPLAY_IO, REPLAY_MIXED, REPLAY_N_PHASES };
/* "idle", "busy", "io", "mixed" */
const char *replay_phase_name(enum replay_phase phase);

struct replay_attribute {
    const char *key, *value;
};

struct replay_series {
    const char *name, *unit;
    bool is_counter;
    uint32_t n_attributes;
    struct replay_attribute *attributes;
    double *values; /* n_rows */
};

/* Everything lives in the arena; replay_deinit(). The zero value is fine. */
struct replay {
    struct arena arena;
    int64_t first_us, interval_us;
    uint32_t n_series, n_rows;
    struct replay_series *series;
    uint8_t *phases; /* n_rows */
};

enum replay_outcome {
    REPLAY_OK = 0,
    REPLAY_BAD, /* not a recording, damaged, or of another version */
};

/* Appends the file's bytes. Faults: no memory. */
int replay_encode(const struct replay *replay, struct buf *to) MUST_USE;
/* Outcomes: REPLAY_BAD; *ret_why says what is wrong. */
int replay_decode(struct span bytes, struct replay *ret, const char **ret_why) MUST_USE;
void replay_deinit(struct replay *replay);

/* ---- tracks ---- */

/* How a column's cells become values: cell * unit / divisor. Cells of a scaled column are integers.
 */
struct track_column {
    double unit, divisor;
    bool is_scaled, is_counter, is_constant;
    double span;     /* cells that a counter grows by in one lap */
    double greatest; /* cell */
};

struct track {
    uint32_t n_rows;
    struct track_column *columns;
    double *cells; /* row by row */
};

enum { TRACK_WHOLE, TRACK_IDLE, N_TRACKS };

struct tracks {
    struct arena arena;
    uint32_t n_columns;
    struct track tracks[N_TRACKS];
};

/* A recording of at least 2 rows. Without idle phases the idle agents walk the whole recording too.
 * Faults: no memory. */
int tracks_init(struct tracks *tracks, const struct replay *replay) MUST_USE;
void tracks_deinit(struct tracks *tracks);

bool tracks_agent_is_idle(uint32_t agent);
/* Series n_columns, n_columns + 1 ... are copies of column 0, 1 ... */
double tracks_value(const struct tracks *tracks, uint32_t agent, uint32_t series, uint64_t scrape);
/* All of series 0 .. n_series - 1 at once, 8 little-endian bytes each; `only_varying` leaves out
 * the places of those that never change. */
void tracks_put(const struct tracks *tracks,
                uint32_t agent,
                uint64_t scrape,
                uint32_t n_series,
                bool only_varying,
                uint8_t *to);
/* Whether every value that any agent sends of it is an integer. */
bool tracks_is_integer(const struct tracks *tracks, uint32_t series);
