#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Roll-ups: what is kept of the samples of a series in a minute or an hour, for long ranges and for
 * when the samples are gone. A part of store.h, which others include.
 *
 * Windows of a series come from each layout that has it, and windows of one time are joined by the
 * reader: minima, sums and growths of the layouts add up to those of all samples.
 *
 * Glossary:
 *   growth   the sum of deltas between neighbours in time, over all layouts; each delta belongs to
 *            the later one
 *   base     the sample from which a window's increase counts: its own first one, whose delta the
 *            window does not have (the reader knows the sample before); or, where the window is
 *            chained, the one before it, at most STORE_CHAIN_US away and within the same hour
 *
 * Thread: store_windows_ready() and store_windows() on a reader thread, they block on page faults;
 *         the functions on one window are pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"

struct store;

#define STORE_MINUTE_US INT64_C(60000000)
#define STORE_HOUR_US (60 * STORE_MINUTE_US)
#define STORE_CHAIN_US (5 * STORE_MINUTE_US)

struct store_window {
    int64_t begin_us;
    uint64_t n_samples;
    double min, max;  /* a NaN only where there is nothing else */
    double sum, last; /* in order of time; of equal times the one committed last */
    double base;      /* any bits where chained */
    double increase;  /* from the base on; of a counter, a fall is a reset: the value itself */
    int64_t last_us, base_us;
    bool is_chained;
};

/* The first sample: its own base. */
void store_window_begin(struct store_window *window, int64_t begin_us, int64_t time_us, double v);
/* One at or behind the last. */
void store_window_add(struct store_window *window, int64_t time_us, double value, bool is_counter);
/* The growth from one sample to the next. */
double store_growth(double from, double to, bool is_counter);

/* `to` becomes the two together: windows of the same time, of two layouts. */
void store_window_overlay(struct store_window *to, const struct store_window *other);
/* The same, of two that follow each other, with the growth from the one to the other. */
void store_window_append(struct store_window *to, const struct store_window *next, bool is_counter);

/* See store_options. */
void store_set_rollup_retention(struct store *store, int64_t minutes_us, int64_t hours_us);

/* ---- reading ---- */

struct store_span { /* of one agent and layout */
    uint32_t layout;
    int64_t first_us, last_us;
    uint64_t n_rows; /* 0: windows only */
};
/* The layouts that an agent has rows or windows of; in the arena. */
int store_spans(struct store *store,
                uint32_t agent,
                struct arena *arena,
                struct store_span **ret,
                size_t *ret_n) MUST_USE;

struct store_stretch {
    int64_t from_us, to_us; /* from inclusive, to exclusive */
};

/*
 * Where in [from_us, to_us) windows stand for all samples of an agent that were committed when this
 * was called: ascending, in the arena; whole hours but at the two ends. Elsewhere samples are newer
 * than the windows, or these are not made yet. An hour whose samples were lost is among them, also
 * while late ones wait for the next sweep to join its windows: samples would be less of an answer.
 */
int store_windows_ready(struct store *store,
                        uint32_t agent,
                        int64_t window_us,
                        struct store_stretch range,
                        struct arena *arena,
                        struct store_stretch **ret,
                        size_t *ret_n) MUST_USE;

struct store_reach {
    /* Before it there may be windows but no samples: INT64_MAX where no day is left, INT64_MIN
     * where there are no windows. */
    int64_t samples_us;
    /* The same or later: before it samples may be less than windows stand for, as a day was lost
     * and begun anew with what came late. */
    int64_t whole_us;
};
struct store_reach store_samples_reach(struct store *store);

/* What is read of each window; n_samples is there only with COUNT. */
enum store_window_part {
    STORE_WINDOW_MIN = 1,
    STORE_WINDOW_MAX = 2,
    STORE_WINDOW_SUM = 4,
    STORE_WINDOW_COUNT = 8,
    STORE_WINDOW_LAST = 16,
    STORE_WINDOW_GROWTH = 32, /* and LAST */
};

struct store_windows {
    uint32_t agent;
    uint32_t layout;
    int64_t window_us;       /* STORE_MINUTE_US or STORE_HOUR_US */
    int64_t from_us, to_us;  /* of the windows' begin */
    const uint32_t *columns; /* ascending positions in the layout */
    size_t n_columns;
    unsigned parts; /* of store_window_part */
    /* Windows of columns[i] in order of time, at least one; those of one column come in order of
     * time too. Borrowed during the call. False: stop. Must not block. */
    bool (*on_windows)(void *ctx, size_t i, const struct store_window *windows, size_t n);
    /* Windows of an hour, or of the hours of a day, cannot be read; may come more than once. */
    void (*on_damage)(void *ctx, int64_t from_us, int64_t to_us);
    void *ctx;
};
int store_windows(struct store *store, const struct store_windows *scan) MUST_USE;
