/* SPDX-License-Identifier: Apache-2.0 */

/* Windows of rows that came late, and those of samples that no block has any more, as one. Pure. */

#include "common/base/ensure.h"
#include "server/store/rollup/rollup.h"

static void join_rows(struct roll_row *late, const struct roll_row *before)
{
    if (late->n_rows == 0) {
        *late = *before;
        return;
    }
    late->n_rows += before->n_rows;
    late->first_us = before->first_us < late->first_us ? before->first_us : late->first_us;
    late->last_us = before->last_us > late->last_us ? before->last_us : late->last_us;
}

/* Late samples, and no old one in their window: they may lie in the delta of the next that has. */
static void join_none(struct store_window *late, const struct store_window *next)
{
    if (!next || !next->is_chained || next->base_us > late->base_us)
        return;
    late->is_chained = true;
    late->base_us = next->base_us;
    late->increase = 0;
}

/*
 * What late samples add to the growth: deltas before the old ones' base and behind their last. In
 * between, and where the next window counts from that last, an old delta spans them.
 */
static void join_growth(struct store_window *to,
                        const struct store_window *late,
                        const struct store_window *next,
                        bool is_counter)
{
    if (!to->is_chained && late->base_us < to->base_us) {
        to->increase += late->last_us < to->base_us
                            ? late->increase + store_growth(late->last, to->base, is_counter)
                            : store_growth(late->base, to->base, is_counter);
        to->base = late->base;
        to->base_us = late->base_us;
    }
    if (late->last_us < to->last_us || (next && next->is_chained))
        return;
    to->increase += late->base_us >= to->last_us
                        ? store_growth(to->last, late->base, is_counter) + late->increase
                        : store_growth(to->last, late->last, is_counter);
}

static void join_window(struct store_window *late,
                        const struct store_window *before,
                        const struct store_window *next,
                        bool is_counter)
{
    struct store_window both = *before, plain = *late;

    join_growth(&both, late, next, is_counter);
    /* Minima, sums and the last of both; a late one of the old last's time was committed later. */
    plain.increase = 0;
    plain.is_chained = true;
    plain.base_us = INT64_MAX;
    if (plain.last_us == both.last_us)
        both.last = plain.last;
    store_window_overlay(&both, &plain);
    *late = both;
}

void roll_join(struct roll_sheet *late,
               const struct roll_sheet *before,
               int64_t begin_us,
               enum roll_tier tier,
               const bool *are_counters)
{
    size_t of[ROLL_WINDOWS_MAX]; /* the place's row before, plus one; 0: none */

    ensure(late->n_columns == before->n_columns);
    memset(of, 0, sizeof(of));
    for (size_t i = 0; i < before->n_rows; i++) {
        size_t place = (size_t) ((before->rows[i].begin_us - begin_us) / roll_window_us(tier));

        ensure(place < late->n_rows);
        of[place] = i + 1;
        join_rows(&late->rows[place], &before->rows[i]);
    }
    for (size_t c = 0; c < late->n_columns; c++) {
        const struct store_window *next = NULL;

        for (size_t place = late->n_rows; place-- > 0;) {
            struct store_window *window = roll_at(late, place, c);
            const struct store_window *old = of[place] ? roll_at(before, of[place] - 1, c) : NULL;

            if (old && old->n_samples == 0)
                old = NULL;
            if (window->n_samples && old)
                join_window(window, old, next, are_counters[c]);
            else if (window->n_samples)
                join_none(window, next);
            else if (old)
                *window = *old;
            next = old ? old : next;
        }
    }
}
