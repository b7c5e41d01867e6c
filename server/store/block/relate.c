/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "common/base/fault.h"
#include "server/store/block/parts.h"

#define N_PROBES 8
#define INTEGER_MAX 9007199254740992.0 /* 2^53 */
#define NEARLY 1e-12

#define ROWS_MIN 3
#define ALIKE_MAX 8       /* so many columns that look alike are compared */
#define QUOTIENTS_MAX 256 /* so many pairs are tried for one column */

static uint64_t mix(uint64_t hash, double value)
{
    hash = (hash ^ parts_bits(value)) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

void relate_deinit(struct relate *relate)
{
    free(relate->columns);
    free(relate->tables);
    free(relate->firsts);
    free(relate->divisors);
    free(relate->steps);
}

int relate_init(struct relate *relate, size_t n_columns, size_t n_rows, enum codec_effort effort)
{
    *relate = (struct relate){ .n_columns = n_columns, .n_rows = n_rows };
    relate->columns = calloc(n_columns, sizeof(*relate->columns));
    for (relate->table_size = 16; relate->table_size < 2 * n_columns;)
        relate->table_size *= 2;
    relate->tables = calloc(2 * relate->table_size, sizeof(*relate->tables));
    if (effort == CODEC_SMALL && n_rows >= RELATE_SUM_ROWS)
        relate->steps = calloc(n_columns, sizeof(*relate->steps));
    if (!relate->columns || !relate->tables ||
        (effort == CODEC_SMALL && !relate->steps && n_rows >= RELATE_SUM_ROWS))
        return fault(-ENOMEM, "no memory for %zu columns of a block", n_columns);
    return 0;
}

/* ---- the same, or shifted ---- */

static void probe(struct relate_column *c, size_t n_rows)
{
    double first = c->values[0];

    for (size_t i = 1; i <= N_PROBES; i++) {
        double value = c->values[(n_rows - 1) * i / N_PROBES];

        c->same = mix(c->same, value);
        c->rise = mix(c->rise, value - first);
        c->fall = mix(c->fall, first - value);
    }
}

/* That the rest is one integer, which is then all that the column costs. */
static bool is_shifted(const struct relate *relate, size_t column, const struct parts_term *term)
{
    const double *values = relate->columns[column].values;
    double rest = values[0] - relate_term(relate, term, 0);

    if (!(fabs(rest) <= INTEGER_MAX) || rest != trunc(rest))
        return false;
    for (size_t i = 0; i < relate->n_rows; i++)
        if (parts_bits(rest + relate_term(relate, term, i)) != parts_bits(values[i]) ||
            parts_bits(values[i] - relate_term(relate, term, i)) != parts_bits(rest))
            return false;
    return true;
}

static bool become_same(struct relate *relate, size_t column, size_t other)
{
    struct relate_column *c = &relate->columns[column];
    const struct relate_column *o = &relate->columns[other];

    if (memcmp(c->values, o->values, relate->n_rows * sizeof(*c->values)) != 0)
        return false;
    c->operation = PARTS_SAME;
    c->columns[0] = (uint32_t) other;
    return true;
}

static bool become_shifted(struct relate *relate, size_t column, size_t other, bool is_minus)
{
    struct relate_column *c = &relate->columns[column];
    struct parts_term term = { (uint32_t) other, is_minus };

    if (!is_shifted(relate, column, &term))
        return false;
    c->operation = PARTS_SUM;
    c->sum = (struct relate_sum){ .n_terms = 1, .terms = { term } };
    relate->columns[other].is_needed = true;
    return true;
}

/* What a table of columns is searched by: the first, what they are; the second, how they rise. */
enum { BY_SAME, BY_RISE, BY_FALL };

static uint64_t key_of(const struct relate_column *c, unsigned by)
{
    return by == BY_SAME ? c->same : by == BY_RISE ? c->rise : c->fall;
}

/*
 * Makes the column what one before it lets it be. Otherwise ret_place is where it goes in the
 * table, or NULL when enough of its kind are there.
 */
static bool look_up(struct relate *relate, size_t column, unsigned by, uint32_t **ret_place)
{
    uint64_t key = key_of(&relate->columns[column], by);
    uint32_t *table = relate->tables + (by == BY_SAME ? 0 : relate->table_size);
    size_t at = (size_t) (key >> 20), n_alike = 0;

    for (;; at++) {
        uint32_t *place = &table[at & (relate->table_size - 1)];
        size_t other;

        *ret_place = place;
        if (*place == 0)
            return false;
        other = *place - 1;
        if (key_of(&relate->columns[other], by == BY_FALL ? BY_RISE : by) != key)
            continue;
        if (by == BY_SAME ? become_same(relate, column, other)
                          : become_shifted(relate, column, other, by == BY_FALL))
            return true;
        *ret_place = NULL;
        if (++n_alike == ALIKE_MAX)
            return false;
    }
}

void relate_columns(struct relate *relate)
{
    if (relate->n_rows < ROWS_MIN)
        return;
    for (size_t i = 0; i < relate->n_columns; i++) {
        struct relate_column *c = &relate->columns[i];
        uint32_t *same, *rise, *fall;

        if (!relate_is_free(c))
            continue;
        probe(c, relate->n_rows);
        if (look_up(relate, i, BY_SAME, &same) || look_up(relate, i, BY_RISE, &rise) ||
            look_up(relate, i, BY_FALL, &fall))
            continue;
        if (same)
            *same = (uint32_t) i + 1;
        if (rise)
            *rise = (uint32_t) i + 1;
    }
}

/* ---- quotients ---- */

static int by_value(const void *a, const void *b)
{
    const struct relate_first *of_a = a, *of_b = b;

    return (of_a->value > of_b->value) - (of_a->value < of_b->value);
}

/* Columns by their last value, and divisors, once each. */
static int sort_firsts(struct relate *relate)
{
    size_t last = relate->n_rows - 1, n = 0;

    relate->firsts = calloc(relate->n_columns, sizeof(*relate->firsts));
    relate->divisors = calloc(relate->n_columns, sizeof(*relate->divisors));
    if (!relate->firsts || !relate->divisors)
        return fault(-ENOMEM, "no memory for %zu columns of a block", relate->n_columns);
    for (size_t i = 0; i < relate->n_columns; i++) {
        const struct relate_column *c = &relate->columns[i];
        struct relate_first first = { c->values[last], (uint32_t) i };

        if (c->is_marked || !isfinite(first.value))
            continue;
        relate->firsts[relate->n_firsts++] = first;
        if (c->is_constant && fabs(first.value) > 1)
            relate->divisors[relate->n_divisors++] = first;
    }
    qsort(relate->firsts, relate->n_firsts, sizeof(*relate->firsts), by_value);
    qsort(relate->divisors, relate->n_divisors, sizeof(*relate->divisors), by_value);
    for (size_t i = 0; i < relate->n_divisors; i++)
        if (n == 0 || relate->divisors[n - 1].value < relate->divisors[i].value)
            relate->divisors[n++] = relate->divisors[i];
    relate->n_divisors = n;
    return 0;
}

static bool is_quotient(const double *values, const double *of, double divisor, size_t n_rows)
{
    for (size_t i = n_rows; i-- > 0;)
        if (parts_bits(of[i] / divisor) != parts_bits(values[i]) || isnan(values[i]))
            return false;
    return true;
}

/*
 * A column that becomes a part of another goes on as it is, and so does what it stands on: that
 * keeps rings away, and chains short. False: it stands on the other one, or on a quotient.
 */
static bool need(struct relate *relate, size_t column, size_t by)
{
    struct relate_column *c = &relate->columns[column];

    if (c->operation == PARTS_OVER)
        return false;
    if (c->operation == PARTS_SAME) {
        struct relate_column *root = &relate->columns[c->columns[0]];

        if (root == &relate->columns[by] || root->operation != PARTS_ZEROS)
            return false;
        root->is_needed = true;
    }
    for (size_t i = 0; i < c->sum.n_terms; i++)
        if (c->sum.terms[i].column == by)
            return false;
    c->is_needed = true;
    return true;
}

static bool
find_dividend(struct relate *relate, size_t column, double divisor, size_t *n_tries, size_t *ret)
{
    const double *values = relate->columns[column].values;
    double wanted = values[relate->n_rows - 1] * divisor, slack = fabs(wanted) * NEARLY;
    size_t low = 0, high = relate->n_firsts;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (relate->firsts[middle].value < wanted - slack)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < relate->n_firsts && relate->firsts[low].value <= wanted + slack; low++) {
        size_t of = relate->firsts[low].column;

        if (of == column)
            continue;
        if (++*n_tries > QUOTIENTS_MAX)
            return false;
        if (is_quotient(values, relate->columns[of].values, divisor, relate->n_rows) &&
            need(relate, of, column)) {
            *ret = of;
            return true;
        }
    }
    return false;
}

int relate_quotient(struct relate *relate, size_t column, bool *ret_is_one)
{
    struct relate_column *c = &relate->columns[column];
    size_t n_tries = 0, of;

    *ret_is_one = false;
    if (c->is_marked || c->is_needed || relate->n_rows < ROWS_MIN)
        return 0;
    if (!relate->firsts) {
        int r = sort_firsts(relate);

        if (r < 0)
            return pass(r);
    }
    for (size_t i = 0; i < relate->n_divisors && n_tries <= QUOTIENTS_MAX; i++) {
        if (!find_dividend(relate, column, relate->divisors[i].value, &n_tries, &of))
            continue;
        c->operation = PARTS_OVER;
        c->columns[0] = (uint32_t) of;
        c->columns[1] = relate->divisors[i].column;
        *ret_is_one = true;
        return 0;
    }
    return 0;
}
